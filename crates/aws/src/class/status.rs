//! The status as a whole: every condition judged, and what Ready says of them.

use jiff::Timestamp;
use karpenter_api::conditions::{self as names, Condition};
use karpenter_api::ec2nodeclass::Ec2NodeClassStatus;
use karpenter_core::conditions;

use super::Class;
use crate::AwsSettings;
use crate::report::{CallError, Cluster};

/// What is to be said of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Fine,
    /// Fine, for a reason worth telling.
    FineFor(&'static str),
    /// Not known yet, and what is waited for: what was judged of this very spec stands until it is known.
    Pending {
        reason: &'static str,
        message: String,
    },
    Wrong {
        reason: String,
        message: String,
    },
}

impl Verdict {
    pub(super) fn of<T>(answer: Option<Result<&T, &CallError>>) -> Self {
        match answer {
            None => Self::pending(),
            Some(Ok(_)) => Self::Fine,
            Some(Err(error)) => Self::wrong(&word(&error.code), error.to_string()),
        }
    }

    pub(super) fn pending() -> Self {
        Self::Pending { reason: "AwaitingReconciliation", message: "object is awaiting reconciliation".to_owned() }
    }

    pub(super) fn wrong(reason: &str, message: String) -> Self {
        Self::Wrong { reason: reason.to_owned(), message }
    }
}

/// A selector that matched nothing.
pub(super) fn nothing(reason: &str, message: &str, terms: impl serde::Serialize) -> Verdict {
    let terms = serde_json::to_string(&terms).unwrap_or_default();
    Verdict::wrong(reason, format!("{message}: {terms}"))
}

/// A condition's reason must be one word.
fn word(code: &str) -> String {
    let word: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { "CallFailed".to_owned() }
}

/// The status but for its conditions, and the verdicts on what a launch depends on.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) status: Ec2NodeClassStatus,
    judged: Vec<(&'static str, Verdict)>,
    /// Why a figure of the kubelet's settings cannot be computed for some instance type.
    pub(crate) figures: Option<String>,
}

impl Draft {
    /// Everything a launch depends on is there.
    pub(crate) fn is_complete(&self) -> bool {
        let fine = |verdict: &Verdict| matches!(verdict, Verdict::Fine | Verdict::FineFor(_));
        self.figures.is_none() && self.judged.iter().all(|(_, verdict)| fine(verdict))
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.judged.iter().any(|(_, verdict)| matches!(verdict, Verdict::Wrong { .. }))
    }
}

impl Class {
    /// What is known by now, as the status tells it.
    pub(crate) fn draft(&self, settings: &AwsSettings, cluster: Option<&Cluster>, now: Timestamp) -> Draft {
        let mut status = self.object.status.clone().unwrap_or_default();
        let mut judged = vec![
            (names::SUBNETS_READY, self.judge_subnets(&mut status)),
            (names::SECURITY_GROUPS_READY, self.judge_groups(&mut status)),
            (names::AMIS_READY, self.judge_images(cluster, now, &mut status)),
            (names::INSTANCE_PROFILE_READY, self.judge_profile(settings, &mut status)),
        ];
        let reservations = self.judge_reservations(settings, now, &mut status);
        judged.extend(reservations.map(|verdict| (names::CAPACITY_RESERVATIONS_READY, verdict)));
        judged.push((names::PLACEMENT_GROUP_READY, self.judge_placement()));
        Draft { status, judged, figures: None }
    }

    /// The status as it should be; equal to what is written already if nothing changed. `trial` is what a trial launch
    /// depends on, if one can be made.
    pub(crate) fn status(
        &self,
        settings: &AwsSettings,
        cluster: Option<&Cluster>,
        draft: Draft,
        trial: Option<&str>,
        now: Timestamp,
    ) -> Ec2NodeClassStatus {
        let validation = self.validate(settings, cluster, &draft, trial);
        let Draft { mut status, mut judged, .. } = draft;
        judged.push((names::VALIDATION_SUCCEEDED, validation));
        let generation = self.object.metadata.generation;
        let mut list = status.conditions.take().unwrap_or_default();
        // A gate that was closed leaves a condition behind that nobody judges.
        list.retain(|known| known.type_ == names::READY || judged.iter().any(|(name, _)| known.type_ == *name));
        for (condition, verdict) in judged {
            let stands = conditions::get(Some(&list), condition).is_some_and(|c| c.observed_generation == generation);
            let (value, reason, message) = match &verdict {
                Verdict::Pending { .. } if stands => continue,
                Verdict::Pending { reason, message } => ("Unknown", *reason, message.as_str()),
                Verdict::Fine => ("True", condition, ""),
                Verdict::FineFor(reason) => ("True", *reason, ""),
                Verdict::Wrong { reason, message } => ("False", reason.as_str(), message.as_str()),
            };
            conditions::set(&mut list, condition, value, reason, message, generation, now);
        }
        ready(&mut list, generation, now);
        status.conditions = Some(list);
        status
    }
}

/// Ready is what all others make of it.
fn ready(list: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
    let missing = || list.iter().filter(|c| c.type_ != names::READY && c.status != "True");
    let message = missing().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>().join(", ");
    let (value, reason) = match (missing().next().is_none(), missing().any(|c| c.status == "False")) {
        (true, _) => ("True", names::READY),
        (false, true) => ("False", "UnhealthyDependents"),
        (false, false) => ("Unknown", "ReconcilingDependents"),
    };
    conditions::set(list, names::READY, value, reason, &message, generation, now);
}
