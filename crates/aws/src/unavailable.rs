//! Capacity that was refused, and until when it is left alone.
//!
//! | refused | left alone | for |
//! |---|---|---|
//! | an offering, once | the offering | 3 min |
//! | again when it was tried after that, n-th time in a row | its instance family in that zone and capacity type | 3 min × 2ⁿ⁻¹, at most 12 min |
//! | a fleet that got nothing at all | every offering it could have taken | as above, each |
//! | spot for want of its service-linked role | spot | 3 min |
//! | a subnet without free addresses | the subnet | 3 min |
//!
//! What was refused is *on trial* after its time, for half an hour: one claim at a time tries it. A launch that gets it
//! ends the trial. So a drought of hours costs one failed claim per trial, not one per node that waits.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_core::cloud::CapacityType;

/// An offering: capacity type, instance type, place.
pub(crate) type OfferingKey = (CapacityType, String, String);

/// Karpenter's figure for whatever is refused.
const FIRST: SignedDuration = SignedDuration::from_mins(3);
const LONGEST: SignedDuration = SignedDuration::from_mins(12);
/// Without another refusal, it is as if there had been none.
const TRIAL: SignedDuration = SignedDuration::from_mins(30);

#[derive(Debug, Default)]
pub(crate) struct Unavailable {
    offerings: BTreeMap<OfferingKey, Refusal>,
    /// By capacity type, instance family and zone.
    families: BTreeMap<OfferingKey, Refusal>,
    capacity_types: BTreeMap<CapacityType, Timestamp>,
    subnets: BTreeMap<String, Timestamp>,
    /// Placement groups' parts of zones that take nothing in, whatever it is.
    places: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    until: Timestamp,
    in_a_row: u32,
}

/// Where something was refused: a zone, or a placement group's part of it.
pub(crate) fn place(zone: &str, group: Option<&str>) -> String {
    group.map_or_else(|| zone.to_owned(), |group| format!("{zone} in {group}"))
}

/// A placement group's partition as the group that [`place`] takes.
pub(crate) fn part(group: &str, partition: Option<i32>) -> String {
    partition.map_or_else(|| group.to_owned(), |number| format!("{group} partition {number}"))
}

impl Refusal {
    fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        after(self.until, TRIAL) <= now
    }
}

impl Unavailable {
    pub(crate) fn refuse(&mut self, capacity_type: CapacityType, instance_type: &str, place: &str, now: Timestamp) {
        let key = (capacity_type, instance_type.to_owned(), place.to_owned());
        let family = (capacity_type, family_of(instance_type).to_owned(), place.to_owned());
        let known = self.offerings.get(&key).filter(|known| !known.is_forgotten(now));
        let wider = self.families.get(&family).filter(|known| !known.is_forgotten(now));
        // Answers to launches of the same moment say one thing once.
        let counted =
            |known: &Refusal| if known.is_over(now) { known.in_a_row.saturating_add(1) } else { known.in_a_row };
        let in_a_row = known.into_iter().chain(wider).map(counted).max().unwrap_or(1);
        let refusal = Refusal { until: after(now, wait(in_a_row)), in_a_row };
        if in_a_row > 1 {
            self.families.insert(family, refusal);
        }
        self.offerings.insert(key, refusal);
    }

    pub(crate) fn refuse_capacity_type(&mut self, capacity_type: CapacityType, now: Timestamp) {
        self.capacity_types.insert(capacity_type, after(now, FIRST));
    }

    pub(crate) fn refuse_subnet(&mut self, id: &str, now: Timestamp) {
        self.subnets.insert(id.to_owned(), after(now, FIRST));
    }

    pub(crate) fn refuse_place(&mut self, place: String, now: Timestamp) {
        self.places.insert(place, after(now, FIRST));
    }

    pub(crate) fn has_place(&self, place: &str, now: Timestamp) -> bool {
        self.places.get(place).is_some_and(|until| *until > now)
    }

    /// There is capacity again.
    pub(crate) fn bought(&mut self, capacity_type: CapacityType, instance_type: &str, place: &str) -> bool {
        let offering = self.offerings.remove(&(capacity_type, instance_type.to_owned(), place.to_owned()));
        let family = self.families.remove(&(capacity_type, family_of(instance_type).to_owned(), place.to_owned()));
        offering.is_some() || family.is_some()
    }

    pub(crate) fn has(&self, capacity_type: CapacityType, instance_type: &str, place: &str, now: Timestamp) -> bool {
        let holds = |refusal: &Refusal| !refusal.is_over(now);
        self.capacity_types.get(&capacity_type).is_some_and(|until| *until > now)
            || self.refusals(capacity_type, instance_type, place).any(|one| holds(&one))
    }

    pub(crate) fn has_subnet(&self, id: &str, now: Timestamp) -> bool {
        self.subnets.get(id).is_some_and(|until| *until > now)
    }

    /// It was refused not long ago, and nobody has got it since.
    pub(crate) fn is_on_trial(&self, capacity_type: CapacityType, instance_type: &str, place: &str) -> bool {
        self.refusals(capacity_type, instance_type, place).next().is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offerings.is_empty() && self.families.is_empty()
    }

    fn refusals(&self, capacity_type: CapacityType, instance_type: &str, place: &str) -> impl Iterator<Item = Refusal> {
        if self.is_empty() {
            return None.into_iter().chain(None);
        }
        let of = |name: &str| (capacity_type, name.to_owned(), place.to_owned());
        let offering = self.offerings.get(&of(instance_type)).copied();
        offering.into_iter().chain(self.families.get(&of(family_of(instance_type))).copied())
    }

    /// Until when whole capacity types, places and subnets are left alone.
    fn whole(&self) -> impl Iterator<Item = Timestamp> {
        self.capacity_types.values().chain(self.places.values()).chain(self.subnets.values()).copied()
    }

    /// When the next of them is to be tried again.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let refusals = self.offerings.values().chain(self.families.values()).map(|refusal| refusal.until);
        refusals.chain(self.whole()).filter(|until| *until > now).min()
    }

    /// Forgets what is long over; says whether something came to be available between two looks.
    pub(crate) fn sweep(&mut self, last: Timestamp, now: Timestamp) -> bool {
        let ended = |until: Timestamp| until > last && until <= now;
        let mut changed = false;
        for all in [&mut self.offerings, &mut self.families] {
            changed |= all.values().any(|refusal| ended(refusal.until));
            all.retain(|_, refusal| !refusal.is_forgotten(now));
        }
        changed |= self.whole().any(ended);
        self.capacity_types.retain(|_, until| *until > now);
        self.places.retain(|_, until| *until > now);
        self.subnets.retain(|_, until| *until > now);
        changed
    }
}

/// How long capacity is left alone that was refused so often in a row.
fn wait(in_a_row: u32) -> SignedDuration {
    let doublings = in_a_row.saturating_sub(1).min(8);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

pub(crate) fn family_of(instance_type: &str) -> &str {
    instance_type.split_once('.').map_or(instance_type, |(family, _)| family)
}

fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOT: CapacityType = CapacityType::Spot;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn the_first_refusal_is_the_offerings_alone_and_lasts_three_minutes() {
        let mut known = Unavailable::default();
        known.refuse(SPOT, "m5.large", "a", at(0));
        known.refuse(SPOT, "m5.large", "a", at(0));
        let table = [
            (SPOT, "m5.large", "a", 2, true),
            (SPOT, "m5.large", "a", 3, false),
            (SPOT, "m5.large", "b", 2, false),
            (SPOT, "m5.xlarge", "a", 2, false),
            (CapacityType::OnDemand, "m5.large", "a", 2, false),
        ];
        for (capacity_type, name, zone, minute, expected) in table {
            assert_eq!(known.has(capacity_type, name, zone, at(minute)), expected, "{name} {zone} {minute}");
        }
    }

    #[test]
    fn refused_again_it_takes_its_family_along_for_longer_and_longer() {
        let mut known = Unavailable::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..5 {
            known.refuse(SPOT, "m5.large", "a", now);
            let until = known.next(now).unwrap();
            waits.push(until.duration_since(now).as_mins());
            now = until;
        }
        assert_eq!(waits, [3, 6, 12, 12, 12]);
        let during = now - SignedDuration::from_secs(1);
        assert!(known.has(SPOT, "m5.24xlarge", "a", during) && !known.has(SPOT, "m5.24xlarge", "b", during));
        assert!(!known.has(SPOT, "m5a.large", "a", during));
    }

    #[test]
    fn what_was_refused_is_on_trial_until_it_is_bought_or_forgotten() {
        let mut known = Unavailable::default();
        known.refuse(SPOT, "m5.large", "a", at(0));
        known.refuse(SPOT, "m5.large", "b", at(0));
        assert!(known.sweep(at(0), at(3)), "its time is over");
        assert!(!known.sweep(at(3), at(4)), "told once");
        assert!(known.is_on_trial(SPOT, "m5.large", "a") && !known.has(SPOT, "m5.large", "a", at(4)));
        assert!(known.bought(SPOT, "m5.large", "a"));
        assert!(!known.is_on_trial(SPOT, "m5.large", "a"));
        known.sweep(at(4), at(33));
        assert!(known.is_empty());
    }
}
