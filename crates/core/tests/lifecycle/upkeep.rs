//! Nodes in use: they expire, are found to be without an instance, and lose what others left on them.

use jiff::SignedDuration;
use karpenter_core::cloud::{Instance, InstanceState};
use karpenter_core::{Fact, Observation};
use serde_json::{Value, json};

use crate::life::{Life, pod};

fn reasons(life: &Life) -> Vec<&'static str> {
    let told = life.facts.iter().filter_map(|fact| match fact {
        Fact::ClaimDisrupted { reason, .. } => Some(*reason),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_claim_expires_after_its_time_whatever_holds_it() {
    let mut life = Life::new();
    life.node("n", &json!({ "spec": { "expireAfter": "1h30m" } }));
    life.node("forever", &json!({ "spec": { "expireAfter": "Never" } }));
    life.node("unsaid", &json!({}));
    let keep = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
    life.has(&pod("p", "n", &keep));
    life.pass(5399);
    assert_eq!(life.done(&["delete"]), [""; 0]);
    life.pass(2);
    assert_eq!(life.done(&["delete NodeClaim"]), ["delete NodeClaim n"]);
    assert_eq!(reasons(&life), ["expired"]);
    life.pass(86_400);
    assert_eq!(life.done(&["evict"]), [""; 0], "its pod holds the drain for as long as it likes");
}

#[test]
fn a_claim_whose_instance_is_gone_goes_unless_its_node_lives() {
    let broken = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    let mut life = Life::new();
    for name in ["here", "gone", "lives"] {
        life.node(name, &json!({}));
    }
    life.changes("Node", "here", &broken);
    life.changes("Node", "gone", &broken);
    life.pass(1);
    life.instances.remove("id/gone");
    life.instances.remove("id/lives");
    life.lists_instances();
    life.pass(10);
    assert_eq!(life.done(&["delete NodeClaim"]), ["delete NodeClaim gone"]);
    assert_eq!(reasons(&life), ["garbage_collected"]);
    assert_eq!(life.done(&["gone N"]), ["gone Node gone", "gone NodeClaim gone"]);
}

#[test]
fn what_a_disruption_of_the_past_left_is_taken_away() {
    let mut life = Life::new();
    let reason = json!({ "type": "DisruptionReason", "status": "True", "reason": "Underutilized", "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z" });
    life.node("n", &json!({}));
    let mut claim = life.get("NodeClaim", "n").unwrap().clone();
    claim["status"]["conditions"].as_array_mut().unwrap().push(reason);
    life.has(&claim);
    let taints =
        json!([{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }, { "key": "own", "effect": "NoSchedule" }]);
    life.changes("Node", "n", &json!({ "spec": { "taints": taints } }));
    life.pass(1);
    assert_eq!(life.get("Node", "n").unwrap()["spec"]["taints"], json!([{ "key": "own", "effect": "NoSchedule" }]));
    assert_eq!(life.claim_condition("n", "DisruptionReason"), "");
}

#[test]
fn objects_of_old_learn_the_name_of_their_class() {
    let label = |life: &Life, kind: &str| {
        life.get(kind, "n").unwrap()["metadata"]["labels"]["karpenter.k8s.aws/ec2nodeclass"].clone()
    };
    for before in [Value::Null, json!("another")] {
        let mut life = Life::new();
        life.node("n", &json!({}));
        for kind in ["NodeClaim", "Node"] {
            life.changes(kind, "n", &json!({ "metadata": { "labels": { "karpenter.k8s.aws/ec2nodeclass": before } } }));
        }
        life.pass(60);
        assert_eq!((label(&life, "NodeClaim"), label(&life, "Node")), ("default".into(), "default".into()));
    }
}

/// A stopped instance keeps its disks: it is there for its claim, and one that is nobody's is ended.
#[test]
fn a_stopped_instance_is_there() {
    let mut life = Life::new();
    life.node("n", &json!({}));
    life.changes("Node", "n", &json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }));
    life.pass(100);
    let an_hour_ago = life.now - SignedDuration::from_hours(1);
    let stopped = |id: &str| Instance {
        provider_id: format!("id/{id}"),
        claim: None,
        launch: None,
        pool: Some("general".into()),
        launched_at: Some(an_hour_ago),
        state: InstanceState::Stopped,
    };
    let instances = vec![stopped("n"), stopped("orphan")];
    life.world.apply(Observation::Instances { asked_at: life.now, instances }, life.now);
    life.pass(1);
    assert_eq!(life.done(&["delete NodeClaim", "terminate"]), ["terminate id/orphan"]);
}
