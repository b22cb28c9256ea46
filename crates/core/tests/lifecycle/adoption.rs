//! What Karpenter 1.x made is taken over as it is.

use karpenter_core::cloud::Drift;
use serde_json::{Value, json};

use crate::life::{Life, merge, pod};

/// A claim as Karpenter 1.14 leaves it, of a node in use.
fn karpenters() -> Value {
    let condition = |name: &str, reason: &str| {
        let message = if name == "Drifted" { reason } else { "" };
        json!({ "type": name, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2029-12-01T00:00:00Z" })
    };
    json!({
        "metadata": {
            "creationTimestamp": "2029-12-01T00:00:00Z",
            "annotations": {
                "karpenter.sh/nodepool-hash": "123", "karpenter.sh/nodepool-hash-version": "v3",
                "karpenter.k8s.aws/ec2nodeclass-hash": "456", "karpenter.k8s.aws/ec2nodeclass-hash-version": "v6",
                "karpenter.k8s.aws/tagged": "true", "karpenter.sh/nodeclaim-min-values-relaxed": "false",
                "compatibility.karpenter.k8s.aws/cluster-name-tagged": "true",
            },
        },
        "spec": { "expireAfter": "1440h" },
        "status": {
            "lastPodEventTime": "2029-12-31T00:00:00Z",
            "conditions": [
                condition("Launched", "Launched"), condition("Registered", "Registered"),
                condition("Initialized", "Initialized"), condition("Ready", "Ready"),
                condition("Consolidatable", "Consolidatable"), condition("ConsistentStateFound", "ConsistentStateFound"),
                condition("Drifted", "NodeClassDrift"),
            ],
        },
    })
}

#[test]
fn a_node_in_use_is_not_touched_at_all() {
    let mut life = Life::new();
    life.pool("general", &json!({ "spec": { "disruption": { "consolidateAfter": "1m" } } }));
    life.pass(6);
    let before = life.journal.len();
    let pool = life.get("NodePool", "general").unwrap();
    let mut claim = karpenters();
    let hash = "karpenter.sh/nodepool-hash";
    claim["metadata"]["annotations"][hash] = pool["metadata"]["annotations"][hash].clone();
    life.node("n", &claim);
    life.sky.drift = Some(Drift::Drifted("NodeClassDrift"));
    let bound = json!({ "status": { "conditions": [
        { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2029-12-31T00:00:00Z" },
    ] } });
    life.unlisted();
    life.has(&pod("p", "n", &bound));
    life.listed();
    life.lists_instances();
    let claim = life.get("NodeClaim", "n").unwrap().clone();
    life.pass(3600);
    assert_eq!(life.get("NodeClaim", "n"), Some(&claim));
    let rest = life.journal[before..].iter().filter(|line| !line.contains("NodePool")).collect::<Vec<_>>();
    assert_eq!(rest, [""; 0], "its conditions, Drifted among them, stay as they are");
}

/// Whatever Karpenter was at when it stopped is brought to its end.
#[test]
fn a_node_that_karpenter_was_draining_is_drained_on() {
    let mut life = Life::new();
    life.node("n", &karpenters());
    life.has(&pod("p", "n", &json!({})));
    let stamp = json!({ "metadata": { "annotations": { "karpenter.sh/nodeclaim-termination-timestamp": "2030-01-01T00:10:00Z" } } });
    life.changes("NodeClaim", "n", &stamp);
    let mut claim = life.get("NodeClaim", "n").unwrap().clone();
    claim["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "Drained", "status": "Unknown", "reason": "Draining", "message": "Draining", "lastTransitionTime": "2029-12-31T23:59:00Z",
    }));
    merge(&mut claim, &json!({ "metadata": { "deletionTimestamp": "2029-12-31T23:59:00Z" } }));
    life.has(&claim);
    life.changes(
        "Node",
        "n",
        &json!({
            "metadata": { "deletionTimestamp": "2029-12-31T23:59:00Z" },
            "spec": { "taints": [{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }] },
        }),
    );
    life.pass(2);
    assert_eq!(
        life.done(&["evict", "terminate", "gone N"]),
        ["evict p", "terminate id/n", "gone Node n", "gone NodeClaim n"]
    );
}

#[test]
fn a_node_that_karpenter_launched_and_that_joins_now_becomes_its_claims() {
    let mut life = Life::new();
    let launched = json!({ "status": { "conditions": [
        { "type": "Launched", "status": "True", "reason": "Launched", "message": "", "lastTransitionTime": "2029-12-31T23:59:00Z" },
        { "type": "Registered", "status": "Unknown", "reason": "NodeNotFound", "message": "Node not registered with cluster",
          "lastTransitionTime": "2029-12-31T23:59:00Z" },
    ], "nodeName": null } });
    let mut claim = crate::life::claim_in_use("n", &json!({}));
    merge(&mut claim, &launched);
    life.has(&claim);
    life.has(&crate::life::node(
        "n",
        &json!({ "metadata": { "finalizers": [], "labels": {
        "karpenter.sh/registered": null, "karpenter.sh/initialized": null,
    } } }),
    ));
    life.instances.insert("id/n".into());
    life.pass(1);
    assert_eq!(life.done(&["launch", "terminate"]), [""; 0]);
    assert_eq!(life.claim_condition("n", "Ready"), "True Ready");
}
