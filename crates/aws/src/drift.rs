//! Whether an instance still is what its EC2NodeClass asks for: the class's hash, image, security groups, subnet,
//! reservation, in this order. What the class's status does not tell yet, or EC2 of the instance, says nothing.

use std::collections::{BTreeMap, BTreeSet};

use karpenter_api::{Ec2NodeClass, NodeClaim, labels as keys};
use karpenter_core::cloud::{CapacityType, Drift};

use crate::Aws;
use crate::class::Class;
use crate::launch::image_fits;
use crate::report::InstanceInfo;

/// What EC2 told of the instances when it last listed them, by id.
#[derive(Debug, Default)]
pub(crate) struct Machines(BTreeMap<String, Machine>);

#[derive(Debug, PartialEq)]
struct Machine {
    image: String,
    subnet: String,
    security_groups: BTreeSet<String>,
    reservation: Option<String>,
    partition: Option<i32>,
}

impl Machines {
    /// Returns true if something differs from what was known.
    pub(crate) fn listed(&mut self, instances: &[InstanceInfo]) -> bool {
        let machine = |of: &InstanceInfo| Machine {
            image: of.image_id.clone(),
            subnet: of.subnet_id.clone(),
            security_groups: of.security_group_ids.iter().cloned().collect(),
            reservation: of.reservation.clone(),
            partition: of.partition,
        };
        let there = instances.iter().filter(|one| one.runs());
        let there = there.map(|one| (one.id.clone(), machine(one))).collect();
        let differs = self.0 != there;
        self.0 = there;
        differs
    }
}

impl Machines {
    /// It is listed, and in no reservation.
    pub(crate) fn is_unreserved(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|machine| machine.reservation.is_none())
    }

    /// Which part of its placement group it is in.
    pub(crate) fn partition(&self, id: &str) -> Option<i32> {
        self.0.get(id)?.partition
    }
}

impl Aws {
    pub(crate) fn drift_of(&self, claim: &NodeClaim) -> Drift {
        let Some(class) = self.classes.get(&claim.spec.node_class_ref.name) else {
            return Drift::Unknown;
        };
        if has_another_hash(claim, &class.object) {
            return Drift::Drifted("NodeClassDrift");
        }
        self.drift_of_instance(claim, class).unwrap_or(Drift::Unknown)
    }

    /// `None` while something is not known.
    fn drift_of_instance(&self, claim: &NodeClaim, class: &Class) -> Option<Drift> {
        let id = claim.status.as_ref()?.provider_id.as_deref()?.rsplit('/').next()?;
        let machine = self.machines.0.get(id)?;
        let status = class.object.status.as_ref()?;
        let label = |key: &str| claim.metadata.labels.as_ref()?.get(key).map(String::as_str);
        let row = self.rows.get(&claim.spec.node_class_ref.name)?.get(label(keys::INSTANCE_TYPE)?)?;
        // The newest that fits is what a launch would take.
        let image = status.amis.as_ref()?.iter().find(|ami| image_fits(ami, &row.requirements))?;
        let groups = status.security_groups.as_ref().filter(|all| !all.is_empty())?;
        let in_groups = groups.len() == machine.security_groups.len()
            && groups.iter().all(|group| machine.security_groups.contains(&group.id));
        let subnets = status.subnets.as_ref().filter(|all| !all.is_empty())?;
        let mut reservations = status.capacity_reservations.iter().flatten();
        let reserved = label(keys::CAPACITY_TYPE) == Some(CapacityType::Reserved.as_str());
        let held = machine.reservation.as_ref().filter(|_| reserved);
        // A group that is not known now is none that was left.
        let is_left = |group: &str| match class.placement_group() {
            Some(known) => known.id != group,
            None => class.object.spec.placement_group_selector.is_none(),
        };
        Some(if image.id != machine.image {
            Drift::Drifted("AMIDrift")
        } else if !in_groups {
            Drift::Drifted("SecurityGroupDrift")
        } else if !subnets.iter().any(|subnet| subnet.id == machine.subnet) {
            Drift::Drifted("SubnetDrift")
        } else if held.is_some_and(|id| !reservations.any(|one| one.id == *id)) {
            Drift::Drifted("CapacityReservationDrift")
        } else if label(keys::PLACEMENT_GROUP_ID).is_some_and(is_left) {
            Drift::Drifted("PlacementGroupDrift")
        } else {
            Drift::None
        })
    }
}

/// Hashes of different versions say nothing of each other.
fn has_another_hash(claim: &NodeClaim, class: &Ec2NodeClass) -> bool {
    let annotations = (claim.metadata.annotations.as_ref(), class.metadata.annotations.as_ref());
    let (Some(of_claim), Some(of_class)) = annotations else {
        return false;
    };
    let both = |key| Some((of_claim.get(key)?, of_class.get(key)?));
    match (both(keys::EC2_NODE_CLASS_HASH_VERSION), both(keys::EC2_NODE_CLASS_HASH)) {
        (Some((claims, classs)), Some((had, wanted))) => claims == classs && had != wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karpenter_core::cloud::InstanceType;
    use karpenter_core::requirements::{Requirement, Requirements};
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::Rows;
    use crate::testing::{aws, claim, class};

    /// Of the claim `claim` on the instance `i-1`.
    fn drift(of_class: &Value, of_claim: &Value, of_instance: Option<InstanceInfo>) -> Drift {
        let mut aws = aws();
        let mut status = json!({ "status": {
            "amis": [
                { "id": "ami-arm", "name": "a", "requirements": [{ "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] }] },
                { "id": "ami-new", "name": "n", "requirements": [] },
                { "id": "ami-old", "name": "o", "requirements": [] },
            ],
            "securityGroups": [{ "id": "sg-2" }, { "id": "sg-1" }],
            "subnets": [{ "id": "subnet-1", "zone": "us-west-2a" }],
            "conditions": [],
        } });
        crate::testing::merge(&mut status, of_class);
        aws.node_class_applied(class(&status), jiff::Timestamp::UNIX_EPOCH);
        let requirements = [(keys::ARCH.to_owned(), Requirement::one_of(["amd64"]))].into_iter().collect();
        let row = InstanceType {
            name: "m5.large".into(),
            requirements: Arc::new(Requirements(requirements)),
            capacity: karpenter_core::Resources::default(),
            allocatable: karpenter_core::Resources::default(),
            offerings: Vec::new(),
        };
        aws.rows.insert("default".into(), Rows::of(vec![Arc::new(row)]));
        aws.machines.listed(of_instance.as_slice());
        let mut metadata = json!({ "labels": { keys::INSTANCE_TYPE: "m5.large" } });
        crate::testing::merge(&mut metadata, of_claim);
        aws.drift_of(&claim(&metadata))
    }

    fn instance() -> InstanceInfo {
        InstanceInfo {
            id: "i-1".into(),
            image_id: "ami-new".into(),
            subnet_id: "subnet-1".into(),
            security_group_ids: vec!["sg-1".into(), "sg-2".into()],
            state: "running".into(),
            ..InstanceInfo::default()
        }
    }

    #[test]
    fn an_instance_drifts_from_what_its_class_has_come_to() {
        let none = json!({});
        let of = |instance: InstanceInfo| drift(&none, &none, Some(instance));
        assert_eq!(of(instance()), Drift::None);
        assert_eq!(of(InstanceInfo { image_id: "ami-old".into(), ..instance() }), Drift::Drifted("AMIDrift"));
        let groups = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect();
        for wrong in [groups(&["sg-1"]), groups(&["sg-1", "sg-2", "sg-3"])] {
            let of = of(InstanceInfo { security_group_ids: wrong, ..instance() });
            assert_eq!(of, Drift::Drifted("SecurityGroupDrift"));
        }
        assert_eq!(of(InstanceInfo { subnet_id: "subnet-2".into(), ..instance() }), Drift::Drifted("SubnetDrift"));
        let in_reservation = InstanceInfo { reservation: Some("cr-1".into()), ..instance() };
        assert_eq!(of(in_reservation.clone()), Drift::None, "an open reservation took it in: not the class's choice");
        let reserved = json!({ "labels": { keys::CAPACITY_TYPE: "reserved" } });
        let gone = drift(&none, &reserved, Some(in_reservation.clone()));
        assert_eq!(gone, Drift::Drifted("CapacityReservationDrift"));
        let there = json!({ "status": { "capacityReservations": [{
            "id": "cr-1", "availabilityZone": "us-west-2a", "instanceMatchCriteria": "open", "instanceType": "m5.large",
            "ownerID": "1", "reservationType": "default", "state": "active",
        }] } });
        assert_eq!(drift(&there, &reserved, Some(in_reservation)), Drift::None);
    }

    #[test]
    fn an_instance_drifts_out_of_a_group_that_its_class_has_left() {
        let grouped = json!({ "labels": { keys::PLACEMENT_GROUP_ID: "pg-old" } });
        let left = drift(&json!({}), &grouped, Some(instance()));
        assert_eq!(left, Drift::Drifted("PlacementGroupDrift"));
        let asks = json!({ "spec": { "placementGroupSelector": { "name": "group" } } });
        assert_eq!(drift(&asks, &grouped, Some(instance())), Drift::None, "EC2 has not said which group that is");
    }

    #[test]
    fn what_is_not_known_says_nothing() {
        let none = json!({});
        assert_eq!(drift(&none, &none, None), Drift::Unknown, "no instance");
        let ended = InstanceInfo { state: "terminated".into(), image_id: "ami-old".into(), ..instance() };
        assert_eq!(drift(&none, &none, Some(ended)), Drift::Unknown);
        for part in ["amis", "securityGroups", "subnets"] {
            let class = json!({ "status": { part: [] } });
            assert_eq!(drift(&class, &none, Some(instance())), Drift::Unknown, "{part}");
        }
        let other_type = json!({ "labels": { keys::INSTANCE_TYPE: "m5.xlarge" } });
        assert_eq!(drift(&none, &other_type, Some(instance())), Drift::Unknown, "no such type here");
    }

    #[test]
    fn the_hash_of_the_class_comes_first_if_both_are_of_one_version() {
        let hashed = |hash: &str, version: &str| json!({ "annotations": { keys::EC2_NODE_CLASS_HASH: hash, keys::EC2_NODE_CLASS_HASH_VERSION: version } });
        let old = || Some(InstanceInfo { image_id: "ami-old".into(), ..instance() });
        let class = json!({ "metadata": hashed("1", "v6") });
        assert_eq!(drift(&class, &hashed("2", "v6"), old()), Drift::Drifted("NodeClassDrift"));
        assert_eq!(drift(&class, &hashed("2", "v5"), old()), Drift::Drifted("AMIDrift"));
        assert_eq!(drift(&class, &hashed("1", "v6"), Some(instance())), Drift::None);
        assert_eq!(drift(&class, &json!({}), Some(instance())), Drift::None);
    }
}
