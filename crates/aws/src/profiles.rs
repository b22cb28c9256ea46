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
                || self.classes.values().any(|class| {
                    let wanted = class.managed_profile(&self.settings);
                    named(class) == Some(&profile.name) || wanted.is_some_and(|wanted| wanted.name == profile.name)
                });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::testing::{aws, claim, class, world};
    use karpenter_core::Deed;
    use serde_json::json;

    /// The profiles that are deleted at this time after the start.
    fn deleted(aws: &mut Aws, world: &World, minutes: i64) -> Vec<String> {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        aws.tick(&World::default(), now);
        let mut decision = Decision::default();
        aws.clean_profiles(world, now, &mut decision);
        let calls = decision.actions.into_iter().filter_map(|action| match action.deed {
            Deed::Cloud(Call::DeleteInstanceProfile { name }) => Some(name),
            _ => None,
        });
        calls.collect()
    }

    fn list(aws: &mut Aws, names: &[(&str, i64)], minutes: i64) {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let told = |(name, made): &(&str, i64)| InstanceProfileInfo { name: (*name).into(), created: Some(at(*made)) };
        aws.apply(Report::InstanceProfiles { result: Ok(names.iter().map(told).collect()) }, at(minutes));
    }

    #[test]
    fn only_what_nobody_uses_any_more_goes() {
        let mut aws = aws();
        aws.node_class_applied(
            class(&json!({ "status": { "instanceProfile": "of-the-class" } })),
            Timestamp::UNIX_EPOCH,
        );
        let world = world(&[claim(&json!({ "annotations": { keys::INSTANCE_PROFILE_NAME: "of-a-claim" } }))]);
        let all = [("of-the-class", 0), ("of-a-claim", 0), ("of-nobody", 0), ("young", 60)];
        assert!(deleted(&mut aws, &world, 0).is_empty());
        list(&mut aws, &all, 100);
        assert_eq!(deleted(&mut aws, &world, 100), ["of-nobody"]);
        aws.apply(Report::InstanceProfileDeleted { name: "of-nobody".into(), result: Ok(()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(deleted(&mut aws, &world, 101), Vec::<String>::new());
        assert_eq!(deleted(&mut aws, &world, 120), ["young"], "an hour old by now");
    }

    #[test]
    fn what_a_class_gave_up_stays_for_an_hour() {
        let mut aws = aws();
        aws.node_class_applied(class(&json!({ "status": { "instanceProfile": "old" } })), Timestamp::UNIX_EPOCH);
        let world = world(&[]);
        assert!(deleted(&mut aws, &world, 90).is_empty());
        let newer = json!({ "metadata": { "resourceVersion": "2" }, "status": { "instanceProfile": "new" } });
        aws.node_class_applied(class(&newer), Timestamp::UNIX_EPOCH);
        list(&mut aws, &[("old", 0), ("new", 0)], 91);
        assert_eq!(deleted(&mut aws, &world, 149), Vec::<String>::new());
        assert_eq!(deleted(&mut aws, &world, 150), ["old"]);
    }

    #[test]
    fn they_are_listed_every_half_hour_but_not_at_the_start_and_not_from_an_isolated_vpc() {
        let asked = |aws: &mut Aws, minutes: i64| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
            aws.tick(&World::default(), now);
            let mut decision = Decision::default();
            aws.clean_profiles(&world(&[]), now, &mut decision);
            !decision.actions.is_empty()
        };
        let mut usual = aws();
        assert_eq!([0, 29, 30].map(|minutes| asked(&mut usual, minutes)), [false, false, true]);
        list(&mut usual, &[], 31);
        assert_eq!([60, 61].map(|minutes| asked(&mut usual, minutes)), [false, true]);
        let mut isolated = aws();
        isolated.settings.isolated_vpc = true;
        assert_eq!([0, 30].map(|minutes| asked(&mut isolated, minutes)), [false, false]);
    }
}
