//! Capacity reservations: how many more instances each takes.
//!
//! EC2 is asked every minute.

use std::collections::BTreeMap;

use crate::report::CapacityReservation;

/// Reservations kept; beyond that those that EC2 did not tell last are forgotten.
const RESERVATIONS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Reservations {
    left: BTreeMap<String, u32>,
}

impl Reservations {
    pub(crate) fn told(&mut self, all: &[CapacityReservation]) {
        if self.left.len() > RESERVATIONS_MAX {
            self.left.clear();
        }
        let left = |one: &CapacityReservation| u32::try_from(one.available.max(0)).unwrap_or(u32::MAX);
        self.left.extend(all.iter().map(|one| (one.id.clone(), left(one))));
    }

    pub(crate) fn left(&self, id: &str) -> u32 {
        self.left.get(id).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(available: i64) -> [CapacityReservation; 1] {
        [CapacityReservation { id: "cr-1".into(), available, ..CapacityReservation::default() }]
    }

    #[test]
    fn what_ec2_told_last_counts() {
        let mut all = Reservations::default();
        assert_eq!(all.left("cr-1"), 0, "unknown is nothing");
        all.told(&told(2));
        assert_eq!(all.left("cr-1"), 2);
        all.told(&told(3));
        assert_eq!(all.left("cr-1"), 3, "EC2 knows best");
    }
}
