//! A claim is launched once, and given up if it does not become a node in time.

use serde_json::json;

use crate::life::{Life, claim, node};

#[test]
fn a_claim_is_launched_once_and_learns_everything_in_one_write() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "own" } } })));
    life.pass(60);
    assert_eq!(life.done(&["launch"]), ["launch n"]);
    let claim = life.get("NodeClaim", "n").unwrap();
    assert_eq!(claim["status"]["providerID"], "id/n");
    assert_eq!(claim["status"]["capacity"]["cpu"], "4");
    assert_eq!(claim["metadata"]["labels"]["topology.kubernetes.io/zone"], "own", "its own labels win");
    assert_eq!(life.claim_condition("n", "Launched"), "True Launched");
    assert_eq!(life.claim_condition("n", "Registered"), "Unknown NodeNotFound");
    assert_eq!(life.claim_condition("n", "Ready"), "Unknown ReconcilingDependents");
}

#[test]
fn the_finalizer_is_there_before_the_instance() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({ "metadata": { "finalizers": ["mine"] } })));
    life.pass(1);
    assert_eq!(life.done(&[""])[0], "patch NodeClaim n");
    assert_eq!(life.done(&["launch"]).len(), 1);
    assert_eq!(
        life.get("NodeClaim", "n").unwrap()["metadata"]["finalizers"],
        json!(["mine", "karpenter.sh/termination"])
    );
}

#[test]
fn a_launch_that_fails_is_given_up_after_five_minutes() {
    let mut life = Life::new();
    life.launches = false;
    life.has(&claim("n", &json!({})));
    life.pass(299);
    assert_eq!(life.claim_condition("n", "Launched"), "Unknown Throttled");
    assert_eq!(life.done(&["delete"]), [""; 0]);
    life.pass(2);
    assert_eq!(life.done(&["delete", "gone"]), ["delete NodeClaim n", "gone NodeClaim n"]);
}

#[test]
fn a_node_that_never_registers_is_given_up_after_fifteen_minutes_and_its_instance_ends() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({})));
    life.pass(899);
    assert_eq!(life.done(&["delete"]), [""; 0]);
    life.pass(3);
    assert_eq!(
        life.done(&["delete", "terminate", "gone"]),
        ["delete NodeClaim n", "terminate id/n", "gone NodeClaim n"]
    );
}

#[test]
fn two_nodes_of_one_instance_are_a_fault_that_ends_after_fifteen_minutes() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({})));
    life.pass(1);
    for name in ["a", "b"] {
        life.has(&node(
            name,
            &json!({ "metadata": { "labels": { "karpenter.sh/registered": null } }, "spec": { "providerID": "id/n" } }),
        ));
    }
    life.pass(60);
    assert_eq!(life.claim_condition("n", "Registered"), "False MultipleNodesFound");
    assert_eq!(life.claim_condition("n", "Ready"), "False UnhealthyDependents");
    life.pass(900);
    assert_eq!(life.done(&["delete NodeClaim"]), ["delete NodeClaim n"]);
}

#[test]
fn a_node_that_never_initialises_stays() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({})));
    life.pass(1);
    let broken = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] }, "metadata": { "labels": { "karpenter.sh/initialized": null } } });
    life.has(&node("n", &broken));
    life.pass(86_400);
    assert_eq!(life.claim_condition("n", "Initialized"), "Unknown NodeNotReady");
    assert_eq!(life.done(&["delete"]), [""; 0]);
}

#[test]
fn a_claim_of_another_clouds_class_is_left_alone() {
    for class in [json!({ "group": "karpenter.azure.com" }), json!({ "kind": "OtherNodeClass" })] {
        let mut life = Life::new();
        let of_other =
            json!({ "metadata": { "finalizers": [] }, "spec": { "nodeClassRef": class, "expireAfter": "1m" } });
        life.has(&claim("n", &of_other));
        life.lists_instances();
        life.pass(3600);
        assert_eq!(life.journal, [""; 0]);
    }
}

/// No NodePool stands behind it: it lives and ends like any other.
#[test]
fn a_claim_without_a_pool_lives_and_ends() {
    let mut life = Life::new();
    life.has(&claim("n", &json!({ "metadata": { "labels": { "karpenter.sh/nodepool": null } } })));
    life.pass(1);
    life.has(&node(
        "n",
        &json!({ "metadata": { "labels": {
        "karpenter.sh/nodepool": null, "karpenter.sh/registered": null, "karpenter.sh/initialized": null,
    } } }),
    ));
    life.lists_instances();
    life.pass(60);
    assert_eq!(life.claim_condition("n", "Ready"), "True Ready");
    life.deletes("NodeClaim", "n");
    life.pass(10);
    assert_eq!(life.done(&["launch", "gone"]), ["launch n", "gone Node n", "gone NodeClaim n"]);
}
