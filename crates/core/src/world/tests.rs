use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::{NodeClaim, NodePool};
use serde_json::json;

use super::{PodKey, World};
use crate::action::ActionKey;
use crate::cloud::{Instance, InstanceState};
use crate::observation::{Change, Object, Observation};
use crate::provision::Round;
use crate::{Settings, Timestamp};

fn pod(spec: serde_json::Value) -> Object {
    let unschedulable = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }]);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "default", "uid": "u" }, "spec": spec,
        "status": { "conditions": unschedulable },
    }))
    .unwrap();
    Object::Pod(Box::new(pod))
}

fn observe(world: &mut World, object: Object, now: Timestamp) {
    world.apply(Observation::Kube(Change::Applied(object)), now);
}

/// Whoever has taken its place, a pod is looked at again until it is bound.
#[test]
fn a_pod_that_is_expected_on_a_node_is_looked_at_again() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let due = |world: &World| world.batch.due_at(&Settings::default());
    let key = PodKey { namespace: "default".into(), name: "p".into() };
    let mut world = World::default();
    observe(&mut world, pod(json!({ "containers": [] })), at(0));
    assert_eq!(due(&world), Some(at(1)), "it has just come");

    let nominated = [(key, "node".to_owned())].into();
    world.apply(Observation::Planned(Box::new(Round { at: at(1), nominated, ..Round::default() })), at(1));
    assert_eq!(due(&world), Some(at(11)), "it may not fit there after all");
    // The next round leaves it where it is expected.
    world.apply(Observation::Planned(Box::new(Round { at: at(11), ..Round::default() })), at(11));
    assert_eq!(due(&world), Some(at(21)));

    observe(&mut world, pod(json!({ "containers": [], "nodeName": "node" })), at(12));
    world.apply(Observation::Planned(Box::new(Round { at: at(21), ..Round::default() })), at(21));
    assert_eq!(due(&world), None, "it is bound");
}

/// EC2 may not know an instance for some seconds after its launch.
#[test]
fn an_instance_that_was_not_known_and_is_listed_later_is_not_gone() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let listed = |state| Instance {
        provider_id: "i-1".into(),
        state,
        claim: None,
        pool: None,
        launch: None,
        launched_at: Some(at(0)),
    };
    let remembers = |gone, asked_at, state| {
        let mut world = World::default();
        world.apply(Observation::Terminating { provider_id: "i-1".into(), gone }, at(10));
        let instances = vec![listed(state)];
        world.apply(Observation::Instances { asked_at: at(asked_at), instances }, at(30));
        world.terminating.contains_key("i-1")
    };
    assert!(!remembers(true, 20, InstanceState::Running), "it must be ended after all");
    assert!(!remembers(true, 20, InstanceState::Pending));
    assert!(remembers(true, 5, InstanceState::Running), "the list is older");
    assert!(remembers(true, 20, InstanceState::Terminated));
    assert!(remembers(false, 20, InstanceState::Running), "its end was accepted");
}

/// What was found quiet is looked at again when something it depends on is observed, and not otherwise.
#[test]
fn a_quiet_claim_is_disturbed_by_what_it_depends_on() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let claim = |name: &str| -> NodeClaim {
        serde_json::from_value(json!({
            "metadata": { "name": name, "uid": name, "labels": { "karpenter.sh/nodepool": "pool" } },
            "spec": { "requirements": [], "nodeClassRef": { "group": "", "kind": "", "name": "" } },
            "status": { "providerID": format!("aws:///a/{name}"), "nodeName": format!("node-of-{name}") },
        }))
        .unwrap()
    };
    let node = |of: &str| -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": format!("node-of-{of}") }, "spec": { "providerID": format!("aws:///a/{of}") },
        }))
        .unwrap()
    };
    let pool = |weight: u32| -> NodePool {
        serde_json::from_value(json!({
            "metadata": { "name": "pool" },
            "spec": { "weight": weight, "disruption": { "consolidateAfter": "0s" }, "template": { "spec": {
                "requirements": [], "nodeClassRef": { "group": "", "kind": "", "name": "" },
            } } },
        }))
        .unwrap()
    };
    let applied = |object| Observation::Kube(Change::Applied(object));
    let done = |subject: &str| Observation::Done { key: ActionKey::new(subject, "write"), outcome: Ok(None) };
    let is_quiet_after = |observed: Observation| {
        let mut world = World::default();
        observe(&mut world, Object::NodePool(Box::new(pool(1))), at(0));
        observe(&mut world, pod(json!({ "containers": [] })), at(0));
        for name in ["mine", "other"] {
            observe(&mut world, Object::NodeClaim(Box::new(claim(name))), at(0));
            observe(&mut world, Object::Node(Box::new(node(name))), at(0));
        }
        let claims = vec![("mine".to_owned(), at(100)), ("other".to_owned(), at(100))];
        world.apply(Observation::Quiet { claims, version: 1 }, at(10));
        world.apply(observed, at(20));
        ["mine", "other"].map(|name| world.claims[name].quiet_until(1, at(20)).is_some())
    };
    for mine in [
        applied(Object::NodeClaim(Box::new(claim("mine")))),
        applied(Object::Node(Box::new(node("mine")))),
        Observation::Kube(Change::Deleted(Object::Node(Box::new(node("mine"))))),
        applied(pod(json!({ "containers": [], "nodeName": "node-of-mine" }))),
        done("NodeClaim/mine"),
        done("Node/node-of-mine"),
    ] {
        let told = format!("{mine:?}");
        assert_eq!(is_quiet_after(mine), [false, true], "{told}");
    }
    assert_eq!(is_quiet_after(applied(Object::NodePool(Box::new(pool(2))))), [false, false], "both are of the pool");
    assert_eq!(is_quiet_after(applied(Object::NodePool(Box::new(pool(1))))), [true, true], "it asks for the same");
    assert_eq!(is_quiet_after(done("NodePool/pool")), [true, true]);
}

#[test]
fn a_claim_is_quiet_between_two_times_and_for_one_version_of_the_cloud() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let mut world = World::default();
    let claim = serde_json::from_value(json!({
        "metadata": { "name": "c" }, "spec": { "requirements": [], "nodeClassRef": { "group": "", "kind": "", "name": "" } },
    }));
    observe(&mut world, Object::NodeClaim(claim.unwrap()), at(0));
    world.apply(Observation::Quiet { claims: vec![("c".to_owned(), at(100))], version: 1 }, at(10));
    let quiet = |version, seconds| world.claims["c"].quiet_until(version, at(seconds));
    assert_eq!(quiet(1, 99), Some(at(100)));
    assert_eq!(quiet(1, 100), None, "its time has come");
    assert_eq!(quiet(2, 50), None, "the cloud has changed");
    assert_eq!(quiet(1, 9), None, "the clock was put back");
}
