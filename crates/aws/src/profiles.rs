//! Instance profiles that were made for classes and that nobody uses any more.
//!
//! A profile stays while a NodeClaim was launched with it, a class names it, or it was made or given up by a class less
//! than an hour ago: a launch under way may still use it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{NodeClaim, labels as keys};
use karpenter_core::action::ActionKey;
use karpenter_core::{Decision, World};

use crate::call::{Call, Profiles as ProfilesOf};
use crate::class::Class;
use crate::report::InstanceProfileInfo;
use crate::{Aws, AwsSettings};

const EVERY: SignedDuration = SignedDuration::from_mins(30);
const PROTECTED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Where the profiles of this cluster are.
pub(crate) fn path(settings: &AwsSettings) -> String {
    format!("/karpenter/{}/{}/", settings.region, settings.cluster_name)
}

/// What is known of profiles.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// Since when somebody looks after them: nobody knows what a predecessor had under way.
    since: Option<Timestamp>,
    listed_at: Option<Timestamp>,
    listed: Vec<InstanceProfileInfo>,
    /// When a class last named a profile.
    named: BTreeMap<String, Timestamp>,
}

impl Profiles {
    /// Notes which profiles the classes name now.
    pub(crate) fn note<'a>(&mut self, classes: impl Iterator<Item = &'a Class>, now: Timestamp) {
        self.since.get_or_insert(now);
        for class in classes {
            if let Some(name) = named(class) {
                self.named.insert(name.to_owned(), now);
            }
        }
        self.named.retain(|_, at| !is_past(*at, PROTECTED_FOR, now));
    }

    pub(crate) fn learn(&mut self, at: Timestamp, listed: Vec<InstanceProfileInfo>) {
        self.listed_at = Some(at);
        self.listed = listed;
    }

    pub(crate) fn deleted(&mut self, name: &str) {
        self.listed.retain(|profile| profile.name != name);
    }

    fn is_protected(&self, profile: &InstanceProfileInfo, now: Timestamp) -> bool {
        let young = profile.created.is_none_or(|created| !is_past(created, PROTECTED_FOR, now));
        young || self.named.contains_key(&profile.name)
    }
}

impl Aws {
    /// The profiles that were made for a class, whatever role it had; those of old had no path.
    pub(crate) fn profiles_of(&self, class: &Class) -> ProfilesOf {
        let legacy = self.settings.cluster_name.clone() + "_";
        let status = named(class).filter(|name| class.object.spec.role.is_some() && name.starts_with(&legacy));
        ProfilesOf { path: class.profile_path(&self.settings), names: status.cloned().into_iter().collect() }
    }

    /// Lists profiles when that is due, and deletes those that nobody uses.
    pub(crate) fn clean_profiles(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        let Some(since) = self.profiles.since.filter(|_| !self.settings.isolated_vpc) else {
            return;
        };
        let again = self.profiles.listed_at.unwrap_or(since).checked_add(EVERY).unwrap_or(now);
        if again <= now {
            let call = Call::InstanceProfiles { path: path(&self.settings) };
            decision.cloud(world, now, ActionKey::new("aws", "instance-profiles"), call);
        } else {
            decision.wake(again);
        }
        for profile in &self.profiles.listed {
            let used = world.claims.values().any(|state| launched_with(&state.claim) == Some(&profile.name))
                || self.classes.values().any(|class| named(class) == Some(&profile.name));
            if !used && !self.profiles.is_protected(profile, now) {
                let call = Call::DeleteInstanceProfile { name: profile.name.clone() };
                let subject = format!("InstanceProfile/{}", profile.name);
                decision.cloud(world, now, ActionKey::new(subject, "delete"), call);
            }
        }
    }
}

fn launched_with(claim: &NodeClaim) -> Option<&String> {
    claim.metadata.annotations.as_ref()?.get(keys::INSTANCE_PROFILE_NAME)
}

fn named(class: &Class) -> Option<&String> {
    class.object.status.as_ref()?.instance_profile.as_ref()
}

fn is_past(at: Timestamp, duration: SignedDuration, now: Timestamp) -> bool {
    at.checked_add(duration).is_ok_and(|until| until <= now)
}
