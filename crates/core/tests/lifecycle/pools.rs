//! A NodePool's hash, and whether its launches become nodes.

use serde_json::{Value, json};

use crate::life::{Life, claim, node};

const HASH: &str = "karpenter.sh/nodepool-hash";
const VERSION: &str = "karpenter.sh/nodepool-hash-version";
const HEALTHY: &str = "NodeRegistrationHealthy";

fn owned(uid: &str) -> Value {
    json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": "general", "uid": uid },
    ] } })
}

fn health(life: &Life) -> String {
    life.condition("NodePool", "general", HEALTHY)
}

/// A pool that was seen before, so that its condition is of its present generation.
fn life() -> Life {
    let mut life = Life::new();
    life.pool("general", &json!({}));
    life.pass(6);
    assert_eq!(health(&life), "Unknown AwaitingReconciliation");
    life
}

fn fails(life: &mut Life, name: &str) {
    life.launches = false;
    life.has(&claim(name, &owned("uid-general")));
    life.pass(310);
    assert!(life.get("NodeClaim", name).is_none());
}

fn succeeds(life: &mut Life, name: &str) {
    life.launches = true;
    life.has(&claim(name, &owned("uid-general")));
    life.pass(1);
    life.has(&node(name, &json!({ "metadata": { "labels": { "karpenter.sh/registered": null } } })));
    life.pass(6);
    assert_eq!(life.claim_condition(name, "Registered"), "True Registered");
}

#[test]
fn two_failures_of_the_latest_four_launches_are_too_many() {
    let mut life = life();
    succeeds(&mut life, "a");
    assert_eq!(health(&life), "True NodeRegistrationHealthy");
    fails(&mut life, "b");
    assert_eq!(health(&life), "True NodeRegistrationHealthy");
    fails(&mut life, "c");
    assert_eq!(health(&life), "False Throttled", "as the launch said");
    assert_eq!(life.condition("NodePool", "general", "Ready"), "True Ready", "it informs only");
    succeeds(&mut life, "d");
    succeeds(&mut life, "e");
    assert_eq!(health(&life), "False Throttled", "two of four");
    succeeds(&mut life, "f");
    assert_eq!(health(&life), "True NodeRegistrationHealthy");
}

#[test]
fn nodes_that_do_not_register_count_as_well() {
    let mut life = life();
    for name in ["a", "b"] {
        life.has(&claim(name, &owned("uid-general")));
    }
    life.pass(910);
    assert_eq!(health(&life), "False RegistrationFailed");
}

#[test]
fn claims_of_an_earlier_pool_of_that_name_and_claims_that_somebody_deletes_do_not_count() {
    let mut life = life();
    life.launches = false;
    for name in ["a", "b"] {
        life.has(&claim(name, &owned("uid-before")));
    }
    life.pass(310);
    assert_eq!(life.done(&["gone"]).len(), 2);
    for name in ["c", "d"] {
        life.has(&claim(name, &owned("uid-general")));
        life.pass(10);
        life.deletes("NodeClaim", name);
        life.pass(10);
    }
    assert_eq!(health(&life), "Unknown AwaitingReconciliation");
}

#[test]
fn another_template_or_class_starts_anew() {
    for class_too in [false, true] {
        let mut life = life();
        fails(&mut life, "a");
        fails(&mut life, "b");
        assert_eq!(health(&life), "False Throttled");
        if class_too {
            life.sky.class_generation += 1;
        } else {
            life.changes("NodePool", "general", &json!({ "metadata": { "generation": 2 } }));
        }
        life.pass(10);
        assert_eq!(health(&life), "Unknown AwaitingReconciliation");
        fails(&mut life, "c");
        assert_eq!(health(&life), "True NodeRegistrationHealthy", "one is no proof");
    }
}

#[test]
fn a_restart_remembers_what_the_condition_says() {
    for (status, after_one_failure) in [("True", "True"), ("False", "False"), ("Unknown", "True")] {
        let mut life = Life::new();
        life.sky.class_generation = 7;
        life.pool(
            "general",
            &json!({ "status": { "nodeClassObservedGeneration": 7, "conditions": [{
            "type": HEALTHY, "status": status, "reason": "RegistrationFailed", "message": "m", "observedGeneration": 1,
            "lastTransitionTime": "2029-01-01T00:00:00Z",
        }] } }),
        );
        life.pass(6);
        assert!(health(&life).starts_with(status), "{}", health(&life));
        fails(&mut life, "a");
        assert!(health(&life).starts_with(after_one_failure), "{status}: {}", health(&life));
    }
}

#[test]
fn a_new_version_of_the_hash_replaces_no_node() {
    let mut life = Life::new();
    life.pool("general", &json!({ "metadata": { "annotations": { HASH: "1", VERSION: "v2" } } }));
    let old = json!({ "metadata": { "annotations": { HASH: "1", VERSION: "v2" } } });
    life.node("n", &old);
    life.node("drifted", &old);
    let mut claim = life.get("NodeClaim", "drifted").unwrap().clone();
    claim["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "Drifted", "status": "True", "reason": "NodePoolDrifted", "message": "", "lastTransitionTime": "2030-01-01T00:00:00Z",
    }));
    life.has(&claim);
    life.pass(1);
    let of = |kind: &str, name: &str, key: &str| life.get(kind, name).unwrap()["metadata"]["annotations"][key].clone();
    let hash = of("NodePool", "general", HASH);
    assert_ne!(hash, "1");
    assert_eq!((of("NodeClaim", "n", HASH), of("NodeClaim", "n", VERSION)), (hash, "v3".into()));
    assert_eq!((of("NodeClaim", "drifted", HASH), of("NodeClaim", "drifted", VERSION)), ("1".into(), "v3".into()));
    assert_eq!(life.claim_condition("drifted", "Drifted"), "True NodePoolDrifted");
}

/// Whoever is interrupted in the middle finds the old version on the pool, and begins again.
#[test]
fn the_pool_gets_its_new_version_only_after_its_claims() {
    let old = json!({ "metadata": { "annotations": { HASH: "1", VERSION: "v2" } } });
    let mut life = Life::new();
    life.pool("general", &old);
    life.node("n", &old);
    life.broken.insert("n".into());
    life.pass(60);
    let version = |life: &Life| life.get("NodePool", "general").unwrap()["metadata"]["annotations"][VERSION].clone();
    assert_eq!(version(&life), "v2");
    life.broken.clear();
    life.pass(61);
    assert_eq!(version(&life), "v3");
}

/// The same version, another template: that is drift, and the claims keep the hash that they were made with.
#[test]
fn another_template_changes_the_hash_of_the_pool_alone() {
    let mut life = Life::new();
    life.pool("general", &json!({ "metadata": { "annotations": { HASH: "1", VERSION: "v3" } } }));
    life.node("n", &json!({ "metadata": { "annotations": { HASH: "1", VERSION: "v3" } } }));
    life.pass(1);
    let of = |kind: &str, name: &str| life.get(kind, name).unwrap()["metadata"]["annotations"][HASH].clone();
    assert_ne!(of("NodePool", "general"), "1");
    assert_eq!(of("NodeClaim", "n"), "1");
}

#[test]
fn a_resource_that_no_node_has_any_longer_leaves_the_counters() {
    let mut life = Life::new();
    life.pool("general", &json!({ "status": { "resources": { "example.com/gpu": "4", "cpu": "16" } } }));
    life.pass(6);
    let pool = life.get("NodePool", "general").expect("the pool");
    let resources = pool["status"]["resources"].as_object().expect("counters").clone();
    assert_eq!(resources.get("cpu"), Some(&json!("0")));
    assert!(!resources.contains_key("example.com/gpu"), "{resources:?}");
}
