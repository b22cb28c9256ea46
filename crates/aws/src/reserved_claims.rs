//! Claims that run in reserved capacity. One whose instance is in no reservation any more is an on-demand one from then
//! on, with its node; those of a capacity block end before the block does, while their pods can still move.

use jiff::Timestamp;
use karpenter_api::{conditions as names, labels as keys};
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::cloud::CapacityType;
use karpenter_core::fact::{About, Home};
use karpenter_core::world::{ClaimState, NodeState};
use karpenter_core::{Decision, Fact, World, conditions};
use serde_json::{Value, json};

use crate::Aws;
use crate::call::Call;
use crate::class::expires_at;

impl Aws {
    pub(crate) fn keep_reserved(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        if !self.settings.reserved_capacity {
            return;
        }
        let is_reserved = |state: &&ClaimState| is_reserved(state.label(keys::CAPACITY_TYPE)) && !state.is_deleting();
        for state in world.claims.values().filter(is_reserved) {
            match self.block_ends(state) {
                Some(end) if end <= now => leave(world, state, now, decision),
                end => {
                    if let Some(end) = end {
                        decision.wake(end);
                    }
                    if self.has_left(state) {
                        relabel(world, state, now, decision);
                    }
                }
            }
        }
    }

    /// When the claim has to go, if it is in a capacity block.
    fn block_ends(&self, state: &ClaimState) -> Option<Timestamp> {
        let id = state.label(keys::CAPACITY_RESERVATION_ID)?;
        let class = self.classes.get(&state.claim.spec.node_class_ref.name)?;
        expires_at(class.capacity_reservations().iter().find(|reservation| reservation.id == id)?)
    }

    /// EC2 lists its instance, and in no reservation.
    fn has_left(&self, state: &ClaimState) -> bool {
        let status = state.claim.status.as_ref();
        let list = status.and_then(|status| status.conditions.as_deref());
        let instance = || state.provider_id()?.rsplit('/').next();
        conditions::is_true(list, names::REGISTERED) && instance().is_some_and(|id| self.machines.is_unreserved(id))
    }
}

fn is_reserved(capacity_type: Option<&str>) -> bool {
    capacity_type == Some(CapacityType::Reserved.as_str())
}

fn leave(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<Call>) {
    let label = |key: &str| state.label(key).unwrap_or_default().to_owned();
    let home = Home { pool: label(keys::NODEPOOL), capacity_type: label(keys::CAPACITY_TYPE), zone: label(keys::ZONE) };
    let (name, uid) = (state.name().to_owned(), state.uid().to_owned());
    let claim = About { kind: "NodeClaim", namespace: String::new(), name, uid };
    let told = Fact::ClaimDisrupted { claim, home, reason: "capacity_block_expiring" };
    let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "delete");
    let write = KubeWrite::Delete { object: reference(state), grace_period_seconds: None };
    decision.kube_then(world, now, key, write, vec![told]);
}

/// The node first: as long as the claim says otherwise, it is looked at again.
fn relabel(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<Call>) {
    let name = state.claim.status.as_ref().and_then(|status| status.node_name.as_deref());
    let node = name.and_then(|name| world.nodes.get(name));
    if let Some(node) = node.filter(|node| is_reserved(node.label(keys::CAPACITY_TYPE))) {
        let key = ActionKey::new(format!("Node/{}", node.name()), "keep");
        decision.kube(world, now, key, on_demand(of_node(node)));
        return;
    }
    let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "write");
    decision.kube(world, now, key, on_demand(reference(state)));
}

fn on_demand(object: ObjectRef) -> KubeWrite {
    let labels = json!({
        keys::CAPACITY_TYPE: CapacityType::OnDemand.as_str(),
        keys::CAPACITY_RESERVATION_ID: Value::Null,
        keys::CAPACITY_RESERVATION_TYPE: Value::Null,
        keys::CAPACITY_RESERVATION_INTERRUPTIBLE: Value::Null,
    });
    KubeWrite::Patch { object, part: Part::Main, patch: json!({ "metadata": { "labels": labels } }) }
}

fn reference(state: &ClaimState) -> ObjectRef {
    ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone())
}

fn of_node(node: &NodeState) -> ObjectRef {
    ObjectRef::cluster(WriteKind::Node, node.name(), node.node.metadata.uid.clone())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use karpenter_core::{Change, Deed, Object, Observation};

    use super::*;
    use crate::report::{CapacityReservation, InstanceInfo, Report};
    use crate::testing::{self, merge};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// What is done about a claim in `cr-1`, with its instance listed in such a reservation, so long before `cr-1` ends.
    fn done(kind: &str, of_claim: &Value, listed: &[Option<&str>], before_end: SignedDuration) -> Vec<String> {
        let ends = Timestamp::UNIX_EPOCH + HOUR;
        let mut aws = testing::aws();
        aws.settings.reserved_capacity = true;
        aws.node_class_applied(testing::class(&json!({})), Timestamp::UNIX_EPOCH);
        let reservation = CapacityReservation {
            id: "cr-1".into(),
            kind: kind.into(),
            ends: Some(ends),
            ..CapacityReservation::default()
        };
        let result = Ok(vec![reservation]);
        aws.apply(Report::Reservations { class: "default".into(), generation: 1, result }, Timestamp::UNIX_EPOCH);
        let instance = |reservation: Option<&str>| InstanceInfo {
            id: "i-1".into(),
            state: "running".into(),
            reservation: reservation.map(str::to_owned),
            ..InstanceInfo::default()
        };
        aws.machines.listed(&listed.iter().copied().map(instance).collect::<Vec<_>>());
        let labels = json!({ keys::CAPACITY_TYPE: "reserved", keys::CAPACITY_RESERVATION_ID: "cr-1" });
        let mut metadata = json!({ "labels": labels });
        merge(&mut metadata, of_claim);
        let mut claim = testing::claim(&metadata);
        let registered = json!({ "type": "Registered", "status": "True", "reason": "", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z" });
        let status = claim.status.get_or_insert_default();
        status.conditions = serde_json::from_value(json!([registered])).unwrap();
        status.node_name = Some("node".into());
        let mut world = testing::world(&[claim]);
        let node = serde_json::from_value(json!({ "metadata": { "name": "node", "labels": labels } })).unwrap();
        let now = ends - before_end;
        let mut all = Vec::new();
        // Until nothing more is to be done.
        let mut node: k8s_openapi::api::core::v1::Node = node;
        for _ in 0..3 {
            let object = Object::Node(Box::new(node.clone()));
            world.apply(Observation::Kube(Change::Applied(object)), now);
            let mut decision = Decision::default();
            aws.keep_reserved(&world, now, &mut decision);
            let Some(action) = decision.actions.into_iter().next() else { break };
            all.push(action.key.to_string());
            match action.deed {
                Deed::Kube(KubeWrite::Patch { patch, object, .. }) => {
                    all.push(patch["metadata"]["labels"].to_string());
                    if object.kind != WriteKind::Node {
                        break;
                    }
                    node.metadata.labels.get_or_insert_default().insert(keys::CAPACITY_TYPE.into(), "on-demand".into());
                }
                _ => break,
            }
        }
        all
    }

    #[test]
    fn an_instance_that_has_left_its_reservation_is_on_demand() {
        let of = |listed: &[Option<&str>]| done("default", &json!({}), listed, HOUR);
        let labels = r#"{"karpenter.k8s.aws/capacity-reservation-id":null,"karpenter.k8s.aws/capacity-reservation-interruptible":null,"karpenter.k8s.aws/capacity-reservation-type":null,"karpenter.sh/capacity-type":"on-demand"}"#;
        assert_eq!(of(&[None]), ["keep Node/node", labels, "write NodeClaim/claim", labels]);
        assert!(of(&[Some("cr-1")]).is_empty(), "it is in it");
        assert!(of(&[]).is_empty(), "EC2 does not list it: nothing is known");
        let deleting =
            json!({ "deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": ["karpenter.sh/termination"] });
        assert!(done("default", &deleting, &[None], HOUR).is_empty());
        let on_demand = json!({ "labels": { keys::CAPACITY_TYPE: "on-demand" } });
        assert!(done("default", &on_demand, &[None], HOUR).is_empty());
    }

    #[test]
    fn claims_of_a_capacity_block_go_forty_minutes_before_it_ends() {
        let of = |kind, minutes| done(kind, &json!({}), &[Some("cr-1")], SignedDuration::from_mins(minutes));
        assert!(of("capacity-block", 41).is_empty());
        assert_eq!(of("capacity-block", 40), ["delete NodeClaim/claim"]);
        assert!(of("default", 1).is_empty(), "a plain reservation ends, its instances go on");
    }
}
