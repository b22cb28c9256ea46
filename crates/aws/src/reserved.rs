//! Launches into reserved capacity: which reservation, and what EC2 calls it.

use karpenter_api::labels as keys;
use karpenter_core::cloud::{Offering, Price};
use karpenter_core::requirements::Requirements;

/// Labels that belong to an offering, not to its type.
const OWN: [&str; 4] = [
    keys::CAPACITY_RESERVATION_ID,
    keys::CAPACITY_RESERVATION_TYPE,
    keys::CAPACITY_RESERVATION_INTERRUPTIBLE,
    keys::PLACEMENT_GROUP_PARTITION,
];

fn label<'a>(offering: &'a Offering, key: &str) -> Option<&'a str> {
    match &offering.reservation {
        Some(of) if key == keys::CAPACITY_RESERVATION_ID => Some(&of.id),
        _ => offering.labels.get(key).map(String::as_str),
    }
}

/// Whether nodes of the offering have the labels of its own that are asked for, and lack those they are to lack.
pub(crate) fn is_meant(offering: &Offering, wanted: &Requirements) -> bool {
    OWN.iter().all(|key| {
        let Some(requirement) = wanted.get(key) else { return true };
        label(offering, key).map_or_else(|| requirement.allows_absence(), |value| requirement.has(value))
    })
}

/// EC2's word for the market of a reservation that is no plain one.
pub(crate) fn market(offering: &Offering) -> Option<&'static str> {
    let is = |key: &str, value: &str| label(offering, key) == Some(value);
    if is(keys::CAPACITY_RESERVATION_TYPE, "capacity-block") {
        return Some("capacity-block");
    }
    is(keys::CAPACITY_RESERVATION_INTERRUPTIBLE, "true").then_some("interruptible-capacity-reservation")
}

/// One fleet launches into one kind of reservation, the cheapest, plain ones first; of capacity blocks into a single one;
/// and of each type and zone into the reservation with the most left.
pub(crate) fn narrow(all: &mut [&mut Vec<Offering>]) {
    let kind = |offering: &Offering| match market(offering) {
        None => 0,
        Some("capacity-block") => 1,
        Some(_) => 2,
    };
    let cheapest: Option<(Price, u8)> = all.iter().flat_map(|list| list.iter()).map(|o| (o.price, kind(o))).min();
    let Some((_, best)) = cheapest else { return };
    for list in all.iter_mut() {
        list.retain(|offering| kind(offering) == best);
    }
    let id = |offering: &Offering| offering.reservation.as_ref().map(|of| of.id.clone());
    if best == 1 {
        let block = all.iter().flat_map(|list| list.iter()).min_by_key(|o| (o.price, id(o))).and_then(id);
        for list in all.iter_mut() {
            list.retain(|offering| id(offering) == block);
        }
    }
    let left = |offering: &Offering| offering.reservation.as_ref().map_or(0, |of| of.left);
    for list in all.iter_mut() {
        let before = list.clone();
        let beats = |other: &Offering, one: &Offering| {
            other.zone == one.zone && (left(other), id(one)) > (left(one), id(other))
        };
        list.retain(|one| !before.iter().any(|other| beats(other, one)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use karpenter_core::Requirement;
    use karpenter_core::cloud::{CapacityType, Reservation};

    use super::*;

    fn offering(id: &str, zone: &str, kind: &str, interruptible: bool, price: Price, left: u32) -> Offering {
        Offering {
            capacity_type: CapacityType::Reserved,
            zone: zone.into(),
            zone_id: String::new(),
            price,
            available: true,
            reservation: Some(Reservation { id: id.into(), left }),
            labels: BTreeMap::from([
                (keys::CAPACITY_RESERVATION_TYPE.to_owned(), kind.to_owned()),
                (keys::CAPACITY_RESERVATION_INTERRUPTIBLE.to_owned(), interruptible.to_string()),
            ]),
        }
    }

    fn narrowed(lists: &[&[Offering]]) -> Vec<String> {
        let mut lists: Vec<Vec<Offering>> = lists.iter().map(|list| list.to_vec()).collect();
        narrow(&mut lists.iter_mut().collect::<Vec<_>>());
        lists.iter().flatten().filter_map(|one| Some(one.reservation.as_ref()?.id.clone())).collect()
    }

    #[test]
    fn one_kind_the_cheapest_and_plain_ones_first() {
        let plain = offering("plain", "a", "default", false, 5, 1);
        let block = offering("block", "a", "capacity-block", false, 5, 9);
        let lent = offering("lent", "a", "default", true, 5, 9);
        assert_eq!(narrowed(&[&[lent.clone(), block.clone(), plain.clone()]]), ["plain"]);
        assert_eq!(narrowed(&[&[lent.clone(), block.clone()]]), ["block"]);
        let cheap = Offering { price: 4, ..lent };
        assert_eq!(narrowed(&[&[cheap, block, plain]]), ["lent"]);
    }

    #[test]
    fn a_single_capacity_block() {
        let one = offering("one", "a", "capacity-block", false, 5, 1);
        let two = offering("two", "b", "capacity-block", false, 4, 1);
        assert_eq!(narrowed(&[&[one], &[two]]), ["two"]);
    }

    #[test]
    fn of_each_type_and_zone_the_one_with_the_most_left() {
        let few = offering("few", "a", "default", false, 5, 1);
        let many = offering("many", "a", "default", false, 5, 3);
        let as_many = offering("nany", "a", "default", false, 5, 3);
        let elsewhere = offering("there", "b", "default", false, 5, 1);
        assert_eq!(narrowed(&[&[few.clone(), as_many, many, elsewhere], &[few]]), ["many", "there", "few"]);
    }

    #[test]
    fn labels_that_are_asked_for() {
        let one = offering("cr-1", "a", "default", false, 5, 1);
        let plain = Offering { reservation: None, labels: BTreeMap::new(), ..one.clone() };
        let asks = |key: &str, requirement: Requirement| {
            let mut all = Requirements::default();
            all.add(key.to_owned(), requirement);
            (is_meant(&one, &all), is_meant(&plain, &all))
        };
        assert_eq!(asks(keys::CAPACITY_RESERVATION_ID, Requirement::one_of(["cr-1"])), (true, false));
        assert_eq!(asks(keys::CAPACITY_RESERVATION_ID, Requirement::one_of(["cr-2"])), (false, false));
        assert_eq!(asks(keys::CAPACITY_RESERVATION_TYPE, Requirement::does_not_exist()), (false, true));
        assert_eq!(asks(keys::ZONE, Requirement::one_of(["b"])), (true, true), "not of the offering's own");
    }
}
