//! Nodes that exist: who is on them, or on the way there.

use std::collections::BTreeMap;

use karpenter_core::Observation;
use karpenter_core::provision::Round;
use karpenter_core::world::PodKey;
use serde_json::{Value, json};

use crate::cluster::{Cluster, node};

/// A pod that shares its node with no pod of this app.
fn apart_from(app: &str) -> Value {
    json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": app } },
    }] } } })
}

fn by_hostname(operator: &str) -> Value {
    let values = if operator == "Exists" { json!([]) } else { json!(["known"]) };
    let expression = json!({ "key": "kubernetes.io/hostname", "operator": operator, "values": values });
    let terms = json!([{ "matchExpressions": [expression] }]);
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": terms,
    } } } })
}

#[test]
fn a_new_node_has_a_hostname_that_nobody_knew() {
    let mut cluster = Cluster::new();
    cluster.waits("wants", &by_hostname("In"));
    cluster.waits("avoids", &by_hostname("NotIn"));
    cluster.waits("has-one", &by_hostname("Exists"));
    let answer = cluster.round();
    assert!(answer.refusal("wants").contains("kubernetes.io/hostname"), "{}", answer.refusal("wants"));
    assert_eq!(answer.types("avoids"), answer.types("has-one"), "both go to a new node");
}

#[test]
fn a_pod_that_is_planned_anew_does_not_keep_itself_away() {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "a"));
    cluster.waits("alone", &apart_from("alone"));
    assert_eq!(cluster.round().node("alone"), Some("n"));
    assert_eq!(cluster.round_after(30).node("alone"), Some("n"));
}

/// Pods are sent to a claim; its node has another name.
#[test]
fn pods_that_were_sent_to_a_claim_count_on_its_node() {
    let mut cluster = Cluster::new();
    cluster.waits("first", &json!({}));
    let first = PodKey { namespace: "default".into(), name: "first".into() };
    let claims = BTreeMap::from([("general-1".to_owned(), vec![first])]);
    cluster.learns(Observation::Planned(Box::new(Round { at: cluster.now, claims, ..Round::default() })));
    let id = "aws:///a/i-1";
    cluster.has(json!({
        "kind": "NodeClaim",
        "metadata": { "name": "general-1", "uid": "general-1", "labels": { "karpenter.sh/nodepool": "general" } },
        "spec": { "nodeClassRef": { "group": "", "kind": "", "name": "default" }, "requirements": [] },
        "status": { "providerID": id },
    }));
    let mut joined = node("n", "a");
    joined["spec"] = json!({ "providerID": id });
    cluster.has(joined);
    cluster.waits("other", &apart_from("first"));
    cluster.waits("friend", &json!({}));
    let answer = cluster.round();
    assert_eq!(answer.node("friend"), Some("n"), "{answer:#?}");
    assert_eq!(answer.node("other"), None, "{answer:#?}");
}
