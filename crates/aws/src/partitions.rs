//! Partition placement groups: which partition a claim is launched into, and how it learns which one EC2 chose.
//!
//! A node without the label of its partition can be no part of a spread over partitions, so it is not registered before
//! its partition is known.

use jiff::Timestamp;
use karpenter_api::{NodeClaim, labels as keys};
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::cloud::Offering;
use karpenter_core::world::ClaimState;
use karpenter_core::{Decision, World};
use serde_json::json;

use crate::call::Call;
use crate::class::Class;
use crate::report::PlacementGroup;
use crate::select::Candidate;
use crate::unavailable::{part, place};
use crate::{Aws, labels};

/// Karpenter's name for what keeps a node from being registered.
pub(crate) const HOOK: &str = "PlacementGroupRegistrationHook";

/// The partition that the claim is launched into, if it asks for any: of those that are left, the lowest. Offerings in
/// others are taken out.
pub(crate) fn narrow(candidates: &mut Vec<Candidate>, claim: &NodeClaim) -> Option<i32> {
    let is_asked = claim.spec.requirements.iter().any(|spec| spec.key == keys::PLACEMENT_GROUP_PARTITION);
    let all = candidates.iter().flat_map(|candidate| &candidate.offerings).filter_map(number_of);
    let lowest = all.min().filter(|_| is_asked)?;
    for candidate in candidates.iter_mut() {
        candidate.offerings.retain(|offering| number_of(offering) == Some(lowest));
    }
    candidates.retain(|candidate| !candidate.offerings.is_empty());
    Some(lowest)
}

fn number_of(offering: &Offering) -> Option<i32> {
    offering.labels.get(keys::PLACEMENT_GROUP_PARTITION)?.parse().ok()
}

/// Whether nodes of the class are in partitions.
pub(crate) fn are_in(class: &Class) -> bool {
    class.placement_group().is_some_and(|group| !labels::partitions(group).is_empty())
}

/// Claims that wait to be told theirs.
pub(crate) fn awaiting(world: &World) -> impl Iterator<Item = &ClaimState> {
    world.claims.values().filter(|state| is_awaited(&state.claim))
}

/// EC2 has chosen the partition, and the claim does not say which.
pub(crate) fn is_awaited(claim: &NodeClaim) -> bool {
    let labels = claim.metadata.labels.as_ref();
    labels.and_then(|all| all.get(keys::PLACEMENT_GROUP_PARTITION)).is_some_and(String::is_empty)
}

impl Aws {
    /// In a partition group each offering comes once per partition, so that pods can be spread over them.
    pub(crate) fn in_partitions(
        &self,
        name: &str,
        all: Vec<Offering>,
        group: Option<&PlacementGroup>,
    ) -> Vec<Offering> {
        let Some((group, partitions)) = group.map(|group| (group, labels::partitions(group))) else { return all };
        if partitions.is_empty() {
            return all;
        }
        let each = |offering: Offering| {
            partitions.iter().map(move |number| {
                let mut one = offering.clone();
                let here = place(&one.zone, Some(&part(&group.id, number.parse().ok())));
                one.available &= !self.unavailable.has(one.capacity_type, name, &here, self.ticked);
                one.labels.insert(keys::PLACEMENT_GROUP_PARTITION.to_owned(), number.clone());
                one
            })
        };
        all.into_iter().flat_map(each).collect()
    }

    /// Claims learn their partition from the list of instances.
    pub(crate) fn tell_partitions(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        for state in awaiting(world).filter(|state| !state.is_deleting()) {
            let id = state.provider_id().and_then(|id| id.rsplit('/').next());
            let Some(number) = id.and_then(|id| self.machines.partition(id)) else { continue };
            let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "write");
            let object = ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone());
            let labels = json!({ keys::PLACEMENT_GROUP_PARTITION: number.to_string() });
            let patch = json!({ "metadata": { "labels": labels } });
            decision.kube(world, now, key, KubeWrite::Patch { object, part: Part::Main, patch });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use jiff::SignedDuration;
    use karpenter_core::cloud::{CapacityType, InstanceType};
    use karpenter_core::{Cloud, Deed, Resources};

    use super::*;
    use crate::report::{InstanceInfo, Report};
    use crate::testing;

    fn candidate(name: &str, partitions: &[i32]) -> Candidate {
        let offering = |number: &i32| Offering {
            capacity_type: CapacityType::OnDemand,
            zone: "a".into(),
            zone_id: String::new(),
            price: 1,
            available: true,
            reservation: None,
            labels: BTreeMap::from([(keys::PLACEMENT_GROUP_PARTITION.to_owned(), number.to_string())]),
        };
        Candidate {
            row: Arc::new(InstanceType {
                name: name.into(),
                requirements: Arc::default(),
                capacity: Resources::default(),
                allocatable: Resources::default(),
                offerings: Vec::new(),
            }),
            offerings: partitions.iter().map(offering).collect(),
        }
    }

    #[test]
    fn a_claim_that_asks_for_partitions_is_launched_into_one_of_them() {
        let asks = |key: &str| {
            let mut claim = testing::claim(&json!({}));
            claim.spec.requirements = serde_json::from_value(json!([{ "key": key, "operator": "Exists" }])).unwrap();
            claim
        };
        let told = |claim: &NodeClaim| {
            let mut all = vec![candidate("m5.large", &[10, 3]), candidate("c5.large", &[10])];
            let number = narrow(&mut all, claim);
            let rest = all.iter().map(|one| format!("{} {}", one.row.name, one.offerings.len())).collect::<Vec<_>>();
            (number, rest.join(", "))
        };
        assert_eq!(told(&asks(keys::PLACEMENT_GROUP_PARTITION)), (Some(3), "m5.large 1".to_owned()));
        assert_eq!(told(&asks(keys::ZONE)), (None, "m5.large 2, c5.large 1".to_owned()), "EC2 chooses");
    }

    #[test]
    fn a_partition_that_was_refused_is_not_on_offer_and_the_others_are() {
        let group = PlacementGroup {
            id: "pg-1".into(),
            strategy: "partition".into(),
            partitions: Some(3),
            ..PlacementGroup::default()
        };
        let mut aws = testing::aws();
        let refused = place("a", Some(&part("pg-1", Some(2))));
        aws.unavailable.refuse(CapacityType::OnDemand, "m5.large", &refused, Timestamp::UNIX_EPOCH);
        let open = |name: &str| {
            let all = aws.in_partitions(name, candidate(name, &[0]).offerings, Some(&group));
            all.iter().filter(|one| one.available).filter_map(number_of).collect::<Vec<_>>()
        };
        assert_eq!((open("m5.large"), open("c5.large")), (vec![1, 3], vec![1, 2, 3]));
    }

    #[test]
    fn a_node_is_registered_once_its_partition_is_known() {
        let now = Timestamp::UNIX_EPOCH;
        let told = |label: Option<&str>, listed: Option<i32>| {
            let mut aws = testing::aws();
            let instance = InstanceInfo {
                id: "i-1".into(),
                state: "pending".into(),
                partition: listed,
                ..InstanceInfo::default()
            };
            aws.machines.listed(&[instance]);
            let labels = label.map_or(json!({}), |value| json!({ keys::PLACEMENT_GROUP_PARTITION: value }));
            let claim = testing::claim(&json!({ "labels": labels }));
            let mut decision = Decision::default();
            aws.tell_partitions(&testing::world(std::slice::from_ref(&claim)), now, &mut decision);
            let written = decision.actions.into_iter().filter_map(|action| match action.deed {
                Deed::Kube(KubeWrite::Patch { patch, .. }) => {
                    patch["metadata"]["labels"][keys::PLACEMENT_GROUP_PARTITION].as_str().map(str::to_owned)
                }
                _ => None,
            });
            (aws.registration_hooks(&claim).len(), written.collect::<Vec<_>>())
        };
        assert_eq!(told(Some(""), Some(2)), (1, vec!["2".to_owned()]));
        assert_eq!(told(Some(""), None), (1, vec![]), "EC2 does not say yet");
        assert_eq!(told(Some("2"), Some(3)), (0, vec![]));
        assert_eq!(told(None, Some(3)), (0, vec![]), "in no such group");
    }

    #[test]
    fn instances_are_listed_often_while_a_partition_is_awaited() {
        let is_listed_after = |label: &str, seconds: i64| {
            let mut aws = testing::aws();
            let start = Timestamp::UNIX_EPOCH;
            for _ in 0..20 {
                aws.apply(Report::Instances { asked_at: start, result: Ok(Vec::new()) }, start);
            }
            let claim = testing::claim(&json!({ "labels": { keys::PLACEMENT_GROUP_PARTITION: label } }));
            let due = aws.decide(&testing::world(&[claim]), start + SignedDuration::from_secs(seconds));
            due.actions.iter().any(|action| matches!(action.deed, Deed::Cloud(Call::Instances { .. })))
        };
        assert!(is_listed_after("", 10) && !is_listed_after("", 9));
        assert!(is_listed_after("2", 120) && !is_listed_after("2", 119));
    }
}
