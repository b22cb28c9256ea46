use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{PodKey, World};
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
