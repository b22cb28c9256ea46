//! A node that joins becomes its claim's, and is usable once everything that was asked for is there.

use karpenter_core::Fact;
use serde_json::{Value, json};

use crate::life::{Life, claim, merge, node};

/// A launched claim `n`; its node has just joined.
fn joining(claim_more: &Value, node_more: &Value) -> Life {
    let mut life = Life::new();
    life.has(&claim("n", claim_more));
    life.pass(1);
    let mut fresh = json!({
        "metadata": { "finalizers": [], "labels": { "karpenter.sh/registered": null, "karpenter.sh/initialized": null } },
        "spec": { "taints": [{ "key": "karpenter.sh/unregistered", "effect": "NoExecute" }] },
    });
    merge(&mut fresh, node_more);
    let mut base = node("n", &json!({}));
    merge(&mut base, &fresh);
    life.has(&base);
    life
}

fn taint(key: &str, effect: &str) -> Value {
    json!({ "key": key, "effect": effect })
}

#[test]
fn a_node_becomes_its_claims() {
    let mut life = joining(
        &json!({
            "metadata": { "labels": { "team": "a" }, "annotations": { "note": "b" } },
            "spec": { "taints": [taint("own", "NoSchedule")], "startupTaints": [taint("starting", "NoExecute")] },
        }),
        &json!({ "metadata": { "labels": { "team": "other", "kubelet": "c" } } }),
    );
    life.pass(1);
    let node = life.get("Node", "n").unwrap();
    assert_eq!(node["metadata"]["finalizers"], json!(["karpenter.sh/termination"]));
    assert_eq!(node["metadata"]["ownerReferences"][0]["uid"], "uid-n");
    assert_eq!(node["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
    let label = |key: &str| node["metadata"]["labels"][key].clone();
    assert_eq!(
        (label("team"), label("kubelet"), label("karpenter.sh/registered")),
        ("a".into(), "c".into(), "true".into())
    );
    assert_eq!(node["metadata"]["annotations"]["note"], "b");
    assert_eq!(node["spec"]["taints"], json!([taint("own", "NoSchedule"), taint("starting", "NoExecute")]));
    assert_eq!(life.claim_condition("n", "Registered"), "True Registered");
    assert_eq!(life.get("NodeClaim", "n").unwrap()["status"]["nodeName"], "n");
    assert!(!life.facts.iter().any(|fact| matches!(fact, Fact::UnregisteredTaintMissing { .. })));
}

#[test]
fn taints_that_the_kubelet_brought_itself_are_not_brought_again() {
    let mut life = joining(
        &json!({ "spec": { "startupTaints": [taint("starting", "NoSchedule")] } }),
        &json!({ "metadata": { "labels": { "karpenter.sh/do-not-sync-taints": "true" } } }),
    );
    life.pass(1);
    assert_eq!(
        life.get("Node", "n").unwrap()["spec"]["taints"],
        json!([]),
        "an agent took it away, the unregistered one went"
    );
}

#[test]
fn a_node_that_took_pods_too_early_is_told_of() {
    let mut life = joining(&json!({}), &json!({ "spec": { "taints": [] } }));
    life.pass(1);
    assert!(life.facts.iter().any(|fact| matches!(fact, Fact::UnregisteredTaintMissing { .. })));
    assert_eq!(life.claim_condition("n", "Registered"), "True Registered", "and used nevertheless");
}

#[test]
fn hooks_keep_pods_away_from_a_node_that_is_the_claims_already() {
    let mut life = Life::new();
    life.sky.hooks = vec!["PlacementGroupPartition"];
    life.has(&claim("n", &json!({ "metadata": { "labels": { "team": "a" } } })));
    life.pass(1);
    let fresh = json!({
        "metadata": { "finalizers": [], "labels": { "karpenter.sh/registered": null, "karpenter.sh/initialized": null } },
        "spec": { "taints": [taint("karpenter.sh/unregistered", "NoExecute")] },
    });
    life.has(&node("n", &fresh));
    life.pass(60);
    assert_eq!(life.claim_condition("n", "Registered"), "Unknown RegistrationHookPending");
    let node = life.get("Node", "n").unwrap();
    assert_eq!(node["metadata"]["labels"]["team"], "a");
    assert_eq!(node["metadata"]["labels"]["karpenter.sh/registered"], Value::Null);
    assert_eq!(node["spec"]["taints"], json!([taint("karpenter.sh/unregistered", "NoExecute")]));
    assert_eq!(life.done(&["patch Node "]).len(), 1, "once");
    life.sky.hooks.clear();
    life.pass(1);
    assert_eq!(life.claim_condition("n", "Registered"), "True Registered");
    assert_eq!(life.get("Node", "n").unwrap()["spec"]["taints"], json!([]));
}

#[test]
fn a_node_is_usable_once_nothing_is_missing_in_this_order() {
    let mut life = joining(
        &json!({ "spec": {
            "startupTaints": [taint("starting", "NoSchedule")],
            "resources": { "requests": { "cpu": "1", "nvidia.com/gpu": "1", "none.example/zero": "0" } },
        } }),
        &json!({
            "spec": { "taints": [
                taint("karpenter.sh/unregistered", "NoExecute"), taint("node.kubernetes.io/not-ready", "NoSchedule"),
                taint("readiness.k8s.io/network", "NoSchedule"),
            ] },
            "status": { "conditions": [{ "type": "Ready", "status": "False" }] },
        }),
    );
    let mut seen = Vec::new();
    let mut look = |life: &mut Life, change: Value| {
        life.changes("Node", "n", &change);
        life.pass(1);
        seen.push(life.claim_condition("n", "Initialized"));
    };
    look(&mut life, json!({}));
    look(&mut life, json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
    let network = taint("readiness.k8s.io/network", "NoSchedule");
    look(&mut life, json!({ "spec": { "taints": [taint("node.kubernetes.io/not-ready", "NoSchedule"), network] } }));
    look(&mut life, json!({ "spec": { "taints": [network] } }));
    look(&mut life, json!({ "spec": { "taints": [] }, "status": { "allocatable": { "nvidia.com/gpu": "0" } } }));
    look(&mut life, json!({ "status": { "allocatable": { "nvidia.com/gpu": "1" } } }));
    assert_eq!(
        seen,
        [
            "Unknown NodeNotReady",
            "Unknown StartupTaintsExist",
            "Unknown KnownEphemeralTaintsExist",
            "Unknown KnownEphemeralTaintsExist",
            "Unknown ResourceNotRegistered",
            "True Initialized",
        ]
    );
    assert_eq!(life.get("Node", "n").unwrap()["metadata"]["labels"]["karpenter.sh/initialized"], "true");
    assert_eq!(life.claim_condition("n", "Ready"), "True Ready");
}

#[test]
fn a_node_that_is_in_use_stays_usable() {
    let mut life = Life::new();
    life.node("n", &json!({}));
    life.changes("Node", "n", &json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }));
    life.pass(3600);
    assert_eq!(life.claim_condition("n", "Initialized"), "True Initialized");
}
