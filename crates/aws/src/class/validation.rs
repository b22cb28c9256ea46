//! `ValidationSucceeded`: what of a class can be judged without AWS, then a trial launch.
//!
//! In this order: user data, service CIDR, kubelet, tags; then, once everything else is there, the answer of a dry run
//! (see [`crate::trial`]). An answer counts as long as what it depends on stays the same, for half an hour at most.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::AmiFamily;
use karpenter_api::labels as keys;

use super::status::{Draft, Verdict};
use super::{Class, kubelet};
use crate::expression::Expression;
use crate::report::{CallError, Cluster};
use crate::{AwsSettings, ami};

/// How long the answer of a trial launch counts.
const TRIED_FOR: SignedDuration = SignedDuration::from_mins(30);
/// EC2's words for "you may not": a dry run that is denied.
const DENIED: [&str; 5] =
    ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "UnauthorizedException"];

/// What came of a trial launch.
#[derive(Debug)]
pub(crate) struct Tried {
    inputs: String,
    at: Timestamp,
    result: Result<(), CallError>,
}

impl Class {
    /// A denial holds until a later trial succeeds; a call that broke down says nothing, and changes nothing.
    pub(crate) fn learn_trial(&mut self, at: Timestamp, inputs: String, result: Result<(), CallError>) {
        let same = self.tried.as_ref().is_some_and(|tried| tried.inputs == inputs);
        let says_nothing = result.as_ref().is_err_and(|error| refusal(error).is_none());
        if same && says_nothing {
            return;
        }
        self.tried = Some(Tried { inputs, at, result });
    }

    /// When a trial with these inputs is due again; `None`: at once (its back-off may say later).
    pub(crate) fn trial_stands_until(&self, inputs: &str) -> Option<Timestamp> {
        let tried = self.tried.as_ref().filter(|tried| tried.inputs == inputs && tried.result.is_ok())?;
        tried.at.checked_add(TRIED_FOR).ok()
    }

    pub(super) fn validate(
        &self,
        settings: &AwsSettings,
        cluster: Option<&Cluster>,
        draft: &Draft,
        trial: Option<&str>,
    ) -> Verdict {
        let wrong =
            self.check_user_data().or_else(|| self.check_cidr(cluster)).or_else(|| self.check_kubelet(settings));
        if let Some(wrong) = wrong.or_else(|| self.check_tags(settings)) {
            return wrong;
        }
        if let Some(problem) = &draft.figures {
            return Verdict::wrong("KubeletExpressionEvaluationFailed", problem.clone());
        }
        if !draft.is_complete() {
            let message = "waiting for images, instance profile, security groups and subnets".to_owned();
            return if draft.is_hopeless() {
                Verdict::wrong("DependenciesNotReady", message)
            } else {
                Verdict::Pending { reason: "DependenciesNotReady", message }
            };
        }
        if settings.disable_dry_run {
            return Verdict::FineFor("DryRunDisabled");
        }
        let tried = self.tried.as_ref().filter(|tried| Some(tried.inputs.as_str()) == trial);
        match tried.map(|tried| &tried.result) {
            Some(Ok(())) => Verdict::Fine,
            Some(Err(error)) => self.denied(error),
            None => Verdict::pending(),
        }
    }

    fn denied(&self, error: &CallError) -> Verdict {
        match refusal(error) {
            // What was made a moment ago may not be known everywhere yet.
            Some("InstanceProfileNotFound") if self.object.spec.instance_profile.is_none() => {
                Verdict::Pending { reason: "AwaitingReconciliation", message: error.to_string() }
            }
            Some("InstanceProfileNotFound") => {
                let name = self.object.spec.instance_profile.as_deref().unwrap_or_default();
                let message = format!("spec.instanceProfile: found {name:?}, expected a profile that exists: {error}");
                Verdict::wrong("InstanceProfileNotFound", message)
            }
            Some(reason) => Verdict::wrong(reason, format!("a trial launch was refused: {error}")),
            None => Verdict::Pending { reason: "AwaitingReconciliation", message: error.to_string() },
        }
    }

    /// User data that could never be merged makes the class not ready, not every launch fail.
    fn check_user_data(&self) -> Option<Verdict> {
        let bootstrap = ami::Bootstrap {
            cluster_name: "",
            endpoint: "",
            ca: "",
            service_cidr: None,
            dns: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet: self.object.spec.kubelet.clone().unwrap_or_default(),
            max_pods: 0,
            raid0: false,
            image_version: None,
            custom: self.object.spec.user_data.as_deref(),
        };
        let bad = ami::user_data(self.family(), &bootstrap).err()?;
        Some(Verdict::wrong(bad.reason(), bad.to_string()))
    }

    fn check_cidr(&self, cluster: Option<&Cluster>) -> Option<Verdict> {
        let lacks = self.family() == AmiFamily::Al2023 && cluster?.service_cidr().is_none();
        lacks.then(|| {
            let message = "AL2023 needs the range of service addresses: EKS did not tell it".to_owned();
            Verdict::wrong("ClusterCIDRResolutionFailed", message)
        })
    }

    fn check_kubelet(&self, settings: &AwsSettings) -> Option<Verdict> {
        let kubelet = self.object.spec.kubelet.as_ref().filter(|fields| !fields.is_empty())?;
        let join = |problems: Vec<String>| (!problems.is_empty()).then(|| problems.join("; "));
        if let Some(problems) = join(kubelet::problems(kubelet)) {
            return Some(Verdict::wrong("InvalidKubeletConfiguration", problems));
        }
        for (field, text) in kubelet::expressions(kubelet) {
            if !settings.kubelet_expressions {
                let message =
                    format!("{field}: found {text:?}, expected a figure: the feature gate NodeClassCEL is off");
                return Some(Verdict::wrong("KubeletExpressionsDisabled", message));
            }
            if let Err(problem) = Expression::parse(text) {
                return Some(Verdict::wrong("KubeletExpressionInvalid", format!("{field}: {text:?}: {problem}")));
            }
        }
        let problems = join(kubelet::not_applied(kubelet, self.family()))?;
        Some(Verdict::wrong("UnsupportedKubeletConfiguration", problems))
    }

    /// Tags by which instances are found are not the user's to set.
    fn check_tags(&self, settings: &AwsSettings) -> Option<Verdict> {
        let ours = [keys::TAG_CLUSTER, keys::NODEPOOL, keys::TAG_NODECLAIM, keys::EC2_NODE_CLASS];
        let is_ours = |key: &str| ours.contains(&key) || key.starts_with("kubernetes.io/cluster/");
        let mut restricted = self.object.spec.tags.iter().flat_map(|tags| tags.keys()).filter(|key| is_ours(key));
        let key = restricted.next()?;
        let message = format!(
            "spec.tags: found {key:?}, expected other keys than {} and kubernetes.io/cluster/{}: these say whose an \
             instance is",
            ours.join(", "),
            settings.cluster_name,
        );
        Some(Verdict::wrong("TagValidationFailed", message))
    }
}

/// The condition's reason for the answer of a trial launch, if it is an answer to the question at all.
fn refusal(error: &CallError) -> Option<&'static str> {
    if DENIED.contains(&error.code.as_str()) {
        return Some(match error.operation {
            "CreateLaunchTemplate" => "CreateLaunchTemplateAuthCheckFailed",
            "CreateFleet" => "CreateFleetAuthCheckFailed",
            _ => "RunInstancesAuthCheckFailed",
        });
    }
    let says = |words: &str| error.message.to_ascii_lowercase().contains(words);
    if error.code.starts_with("InvalidParameter") && (says("iaminstanceprofile") || says("iam instance profile")) {
        return Some("InstanceProfileNotFound");
    }
    (error.operation == "CreateLaunchTemplate" && says("user data is limited")).then_some(ami::USER_DATA_TOO_LARGE)
}
