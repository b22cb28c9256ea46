//! When pods last came or went is written on the claim; a node that was quiet for long enough may be consolidated. And
//! whether a node is what its claim was promised.

use serde_json::{Value, json};

use crate::life::{Life, merge, owned, pod};

/// A node `n` of a pool with this consolidateAfter.
fn life(after: &str) -> Life {
    let mut life = Life::new();
    life.pool("general", &json!({ "spec": { "disruption": { "consolidateAfter": after } } }));
    life.node("n", &json!({}));
    life.pass(0);
    life
}

fn last_event(life: &Life) -> Value {
    life.get("NodeClaim", "n").unwrap()["status"]["lastPodEventTime"].clone()
}

#[test]
fn a_node_is_consolidatable_once_it_was_quiet_for_as_long_as_its_pool_wants() {
    let mut life = life("30s");
    life.pass(29);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "", "counted from when it became usable");
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "True Consolidatable");
    life.has(&pod("p", "n", &json!({})));
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "", "a pod was bound");
    assert_eq!(last_event(&life), "2030-01-01T00:00:30Z");
    life.pass(29);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "True Consolidatable");
    life.changes("Pod", "p", &json!({ "status": { "phase": "Succeeded" } }));
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "", "a pod has ended");
    life.pass(29);
    life.changes("Pod", "p", &json!({ "metadata": { "labels": { "new": "label" } } }));
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "True Consolidatable", "nothing came or went");
    life.vanishes("Pod", "p");
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "");
}

/// Events are written every ten seconds only; what is not written yet counts all the same.
#[test]
fn an_event_counts_from_when_it_is_observed() {
    let mut life = life("8s");
    life.has(&pod("p", "n", &json!({})));
    life.pass(5);
    life.has(&pod("q", "n", &json!({})));
    life.pass(4);
    assert_eq!(last_event(&life), "2030-01-01T00:00:00Z");
    assert_eq!(life.claim_condition("n", "Consolidatable"), "");
    life.pass(4);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "True Consolidatable");
}

#[test]
fn zero_is_at_once_and_never_is_never() {
    assert_eq!(life("0s").claim_condition("n", "Consolidatable"), "True Consolidatable");
    let mut life = life("Never");
    life.pass(86_400);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "");
}

#[test]
fn a_node_of_a_static_pool_or_one_that_is_not_usable_yet_is_never_consolidatable() {
    let mut life = life("0s");
    life.pool("general", &json!({ "spec": { "replicas": 1, "disruption": { "consolidateAfter": "0s" } } }));
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "");

    let mut life = self::life("0s");
    let mut claim = life.get("NodeClaim", "n").unwrap().clone();
    for condition in claim["status"]["conditions"].as_array_mut().unwrap() {
        if condition["type"] == "Initialized" {
            merge(condition, &json!({ "status": "Unknown" }));
        }
    }
    life.has(&claim);
    life.changes("Node", "n", &json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }));
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Consolidatable"), "");
}

#[test]
fn pods_of_daemon_sets_do_not_count() {
    let mut life = life("0s");
    life.has(&pod("p", "n", &owned("apps/v1", "DaemonSet")));
    life.pass(1);
    assert_eq!(last_event(&life), Value::Null);
}

#[test]
fn many_events_are_written_every_ten_seconds_and_none_is_lost() {
    let mut life = life("Never");
    for number in 0..25 {
        life.has(&pod(&format!("p{number}"), "n", &json!({})));
        life.pass(1);
    }
    life.pass(20);
    assert_eq!(last_event(&life), "2030-01-01T00:00:24Z");
    let writes = life.done(&["patch NodeClaim"]).len();
    assert!((3..=6).contains(&writes), "{writes}: {:#?}", life.journal);
}

#[test]
fn a_node_with_less_than_it_was_promised_is_told_of() {
    for (cpu, found) in [("4", true), ("3600m", true), ("3599m", false), ("0", false)] {
        let mut life = life("Never");
        let asks = json!({ "spec": { "resources": { "requests": { "cpu": "1", "memory": "1Gi" } } } });
        life.changes("NodeClaim", "n", &asks);
        life.changes("Node", "n", &json!({ "status": { "capacity": { "cpu": cpu } } }));
        life.pass(1);
        let expected = if found { "True ConsistentStateFound" } else { "False ConsistencyCheckFailed" };
        assert_eq!(life.claim_condition("n", "ConsistentStateFound"), expected, "{cpu}: memory was not promised");
        assert_eq!(life.told("FailedConsistencyCheck").len(), usize::from(!found), "{cpu}");
    }
}
