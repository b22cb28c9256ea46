//! Capacity reservations: how many more instances each takes.
//!
//! EC2 is asked every minute; in between, a launch takes one and an instance that ends gives one back, so that what the
//! scheduler sees is never older than our own deeds.

use std::collections::BTreeMap;

use crate::report::CapacityReservation;

/// Reservations, and instances in them, that are kept; beyond that all are forgotten until EC2 tells of them again.
const KEPT_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Reservations {
    left: BTreeMap<String, u32>,
    /// Provider id of an instance we launched → the reservation it is in.
    holders: BTreeMap<String, String>,
}

impl Reservations {
    /// EC2's figures. An answer from before our latest deed may undo it for a minute, until the next one: a launch
    /// that finds nothing left is planned anew.
    pub(crate) fn told(&mut self, all: &[CapacityReservation]) {
        if self.left.len() > KEPT_MAX || self.holders.len() > KEPT_MAX {
            *self = Self::default();
        }
        let left = |one: &CapacityReservation| u32::try_from(one.available.max(0)).unwrap_or(u32::MAX);
        self.left.extend(all.iter().map(|one| (one.id.clone(), left(one))));
    }

    pub(crate) fn left(&self, id: &str) -> u32 {
        self.left.get(id).copied().unwrap_or(0)
    }

    /// An instance was launched into it; an answer that is repeated under its token tells of it again.
    pub(crate) fn taken(&mut self, id: &str, provider_id: &str) {
        if self.holders.insert(provider_id.to_owned(), id.to_owned()).is_none() {
            self.change(id, |left| left.saturating_sub(1));
        }
    }

    /// An instance is ended; says whether a reservation has it back.
    pub(crate) fn given_back(&mut self, provider_id: &str) -> bool {
        let held = self.holders.remove(provider_id);
        if let Some(id) = &held {
            self.change(id, |left| left.saturating_add(1));
        }
        held.is_some()
    }

    /// EC2 had nothing left in it, whatever it had told.
    pub(crate) fn exhausted(&mut self, id: &str) {
        self.change(id, |_| 0);
    }

    fn change(&mut self, id: &str, to: impl FnOnce(u32) -> u32) {
        if let Some(left) = self.left.get_mut(id) {
            *left = to(*left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(available: i64) -> [CapacityReservation; 1] {
        [CapacityReservation { id: "cr-1".into(), available, ..CapacityReservation::default() }]
    }

    #[test]
    fn our_own_deeds_count_before_ec2_tells_of_them() {
        let mut all = Reservations::default();
        assert_eq!(all.left("cr-1"), 0, "unknown is nothing");
        all.told(&told(2));
        all.taken("cr-1", "i-1");
        all.taken("cr-1", "i-1");
        assert_eq!(all.left("cr-1"), 1, "one instance is one");
        assert!(all.given_back("i-1") && !all.given_back("i-1") && !all.given_back("i-2"), "once, and its own alone");
        assert_eq!(all.left("cr-1"), 2);
        all.exhausted("cr-1");
        all.taken("cr-1", "i-3");
        assert_eq!(all.left("cr-1"), 0, "never below nothing");
        all.told(&told(3));
        assert_eq!(all.left("cr-1"), 3, "EC2 knows best");
    }
}
