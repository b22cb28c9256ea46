//! One EC2NodeClass: what its selectors came to, and what its status says of that.
//!
//! A file a condition, in the order of the status: each says what is asked of AWS, how the answer is kept, and how the
//! condition is judged. [`status`] puts them together.

mod groups;
mod images;
mod kubelet;
mod placement;
mod profile;
mod reservations;
mod status;
mod subnets;
#[cfg(test)]
mod tests;
mod validation;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::{AmiFamily, Ec2NodeClass};

use crate::AwsSettings;
use crate::call::{Call, Filters};
use crate::report::{CallError, CapacityReservation, Images, PlacementGroup, SecurityGroup, Subnet};

pub(crate) use reservations::{expires_at, is_expiring};
pub(crate) use status::Draft;
pub(crate) use validation::Tried;

/// While a selector finds nothing, it is asked again sooner.
const NOTHING_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// An answer and when it came; `None` in a class means: not asked yet.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    at: Timestamp,
    pub(crate) result: Result<T, CallError>,
}

/// A class and what is known of it.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) object: Ec2NodeClass,
    pub(crate) subnets: Option<Answer<Vec<Subnet>>>,
    groups: Option<Answer<Vec<SecurityGroup>>>,
    images: Option<Answer<Images>>,
    /// Name of the profile that holds `spec.role`.
    profile: Option<Answer<String>>,
    placement: Option<Answer<Option<PlacementGroup>>>,
    reservations: Option<Answer<Vec<CapacityReservation>>>,
    /// The last trial launch.
    pub(crate) tried: Option<Tried>,
    /// Profile and launch templates of a deleted class are gone.
    pub(crate) cleaned: bool,
}

/// Something a class wants to know of AWS.
struct Need {
    verb: &'static str,
    /// When it was last had.
    had: Option<Timestamp>,
    every: SignedDuration,
    call: Call,
}

impl Class {
    /// EC2 says that something is not there which was found earlier: everything is looked for again at once.
    pub(crate) fn doubt(&mut self) {
        doubt(&mut self.subnets);
        doubt(&mut self.groups);
        doubt(&mut self.images);
        doubt(&mut self.profile);
    }

    pub(crate) fn new(object: Ec2NodeClass) -> Self {
        Self {
            object,
            subnets: None,
            groups: None,
            images: None,
            profile: None,
            placement: None,
            reservations: None,
            tried: None,
            cleaned: false,
        }
    }

    /// A newer version of the object. A new spec makes every answer void.
    pub(crate) fn update(&mut self, object: Ec2NodeClass) -> bool {
        let changed = self.object.spec != object.spec;
        if changed {
            *self = Self::new(object);
        } else {
            self.object = object;
        }
        changed
    }

    pub(crate) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or(0)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn family(&self) -> AmiFamily {
        self.object.spec.family()
    }

    /// The reads that are due, by verb, or when the next one is.
    pub(crate) fn polls(
        &self,
        settings: &AwsSettings,
        kubernetes: Option<&str>,
        now: Timestamp,
    ) -> (Vec<(&'static str, Call)>, Option<Timestamp>) {
        let needs = [
            Some(self.need_subnets(settings)),
            Some(self.need_groups()),
            kubernetes.map(|kubernetes| self.need_images(settings, kubernetes)),
            self.need_profile(settings),
            self.need_placement(),
            self.need_reservations(settings),
        ];
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        for need in needs.into_iter().flatten() {
            match need.had.and_then(|had| had.checked_add(need.every).ok()) {
                Some(again) if again > now => next = Some(next.map_or(again, |known| known.min(again))),
                _ => due.push((need.verb, need.call)),
            }
        }
        (due, next)
    }
}

/// What was found stays true while asking again fails; the failure is told by whoever asked.
fn learn<T>(known: &mut Option<Answer<T>>, at: Timestamp, result: Result<T, CallError>) {
    if result.is_ok() || known.as_ref().is_none_or(|answer| answer.result.is_err()) {
        *known = Some(Answer { at, result });
    }
}

fn doubt<T>(answer: &mut Option<Answer<T>>) {
    if let Some(answer) = answer {
        answer.at = Timestamp::MIN;
    }
}

/// When an answer was had; a refusal is none, and when to ask again is its back-off's business.
fn had_at<T>(answer: Option<&Answer<T>>) -> Option<Timestamp> {
    answer.filter(|answer| answer.result.is_ok()).map(|answer| answer.at)
}

fn known<T>(answer: Option<&Answer<T>>) -> Option<Result<&T, &CallError>> {
    answer.map(|answer| answer.result.as_ref())
}

fn found<'a, T>(answer: Result<&'a Vec<T>, &'a CallError>) -> Option<&'a Vec<T>> {
    answer.ok().filter(|all| !all.is_empty())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A selector term as EC2 filters. EC2 itself reads `*` in a value as a wildcard.
fn filters(tags: Option<&BTreeMap<String, String>>, fields: &[(&str, Option<&String>)]) -> Filters {
    let mut all = Filters::new();
    for (key, value) in tags.into_iter().flatten() {
        all.insert(format!("tag:{key}"), vec![value.clone()]);
    }
    for (name, value) in fields {
        if let Some(value) = value {
            all.insert((*name).to_owned(), vec![(*value).clone()]);
        }
    }
    all
}
