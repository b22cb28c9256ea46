//! Spread placement groups: each instance is on hardware of its own, so that a zone has room for a few of them only.
//! Counted from what EC2 lists and what was launched since; a zone that is full is not on offer to the group.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{FleetError, FleetInstance, InstanceInfo, PlacementGroup};

/// Running instances of a group in a zone (EC2's limit).
const ZONE_MAX: usize = 7;
/// EC2 has no code of its own for the limit: the words tell it from hardware that is short.
const LIMIT: &str = "limit of instances in this spread placement group";

/// By group and zone.
#[derive(Debug, Default)]
pub(crate) struct Spreads(BTreeMap<(String, String), BTreeSet<String>>);

impl Spreads {
    /// All instances, as EC2 lists them; says whether any place is full that was not, or the other way round.
    pub(crate) fn listed(&mut self, instances: &[InstanceInfo]) -> bool {
        let before = self.full();
        self.0.clear();
        for one in instances.iter().filter(|one| one.runs()) {
            if let Some(group) = &one.group {
                self.add(group, &one.zone, &one.id);
            }
        }
        before != self.full()
    }

    pub(crate) fn launched(&mut self, group: &str, instance: &FleetInstance) {
        self.add(group, &instance.zone, &instance.id);
    }

    pub(crate) fn is_full(&self, group: &PlacementGroup, zone: &str) -> bool {
        // One that spreads over hosts of an Outpost has no such limit.
        let is_limited = group.strategy == "spread" && group.spread_level != "host";
        let count = || self.0.get(&(group.id.clone(), zone.to_owned())).map_or(0, BTreeSet::len);
        is_limited && count() >= ZONE_MAX
    }

    fn add(&mut self, group: &str, zone: &str, id: &str) {
        self.0.entry((group.to_owned(), zone.to_owned())).or_default().insert(id.to_owned());
    }

    fn full(&self) -> Vec<(String, String)> {
        self.0.iter().filter(|(_, ids)| ids.len() >= ZONE_MAX).map(|(place, _)| place.clone()).collect()
    }
}

/// Whether a fleet was refused because a spread group has all it may have in the zone.
pub(crate) fn is_limit(error: &FleetError) -> bool {
    error.message.contains(LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(count: usize, state: &str) -> Vec<InstanceInfo> {
        let one = |n| InstanceInfo {
            id: format!("i-{state}-{n}"),
            zone: "a".into(),
            group: Some("pg-1".into()),
            state: state.into(),
            ..InstanceInfo::default()
        };
        (0..count).map(one).collect()
    }

    fn group(strategy: &str, level: &str) -> PlacementGroup {
        PlacementGroup {
            id: "pg-1".into(),
            strategy: strategy.into(),
            spread_level: level.into(),
            ..PlacementGroup::default()
        }
    }

    #[test]
    fn a_zone_has_room_for_seven_running_instances_of_a_spread_group() {
        let rack = group("spread", "rack");
        let mut spreads = Spreads::default();
        assert!(!spreads.listed(&instances(6, "running")));
        assert!(!spreads.is_full(&rack, "a"));
        let launched = FleetInstance { id: "i-7".into(), zone: "a".into(), ..FleetInstance::default() };
        spreads.launched("pg-1", &launched);
        // The same answer again, as it comes when a call is repeated.
        spreads.launched("pg-1", &launched);
        assert!(spreads.is_full(&rack, "a") && !spreads.is_full(&rack, "b"));
        let of_others = PlacementGroup { id: "pg-2".into(), ..group("spread", "rack") };
        for other in [of_others, group("spread", "host"), group("cluster", ""), group("partition", "")] {
            assert!(!spreads.is_full(&other, "a"), "{other:?}");
        }
        let mut ended = instances(6, "running");
        ended.extend(instances(9, "shutting-down"));
        assert!(spreads.listed(&ended), "there is room again");
        assert!(!spreads.is_full(&rack, "a"));
        assert!(spreads.listed(&instances(7, "pending")) && spreads.is_full(&rack, "a"));
    }
}
