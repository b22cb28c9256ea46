//! Where a pod may go, by rules that kube-scheduler knows: what the agreement test found once.

use karpenter_api::labels;
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, waiting};

/// A round of these pods, called p0, p1 and so on, on nodes of these names.
fn round(requirements: &Value, nodes: &[&str], pods: &[Value]) -> Answer {
    let mut cluster = Cluster::bare();
    cluster.pool("pool", &json!({ "template": { "spec": { "requirements": requirements } } }));
    for name in nodes {
        cluster.node(name, &json!({}));
    }
    for (at, pod) in pods.iter().enumerate() {
        cluster.pod(&waiting(&format!("p{at}"), "100m", pod));
    }
    cluster.round()
}

/// The node of each pod that has a place.
fn places(of: &Answer) -> Vec<(&str, &str)> {
    let nominated = of.nominated.iter().map(|(pod, node)| (pod.name.as_str(), node.as_str()));
    let bought = of.claims.values().flatten().map(|pod| (pod.name.as_str(), "bought"));
    let mut all: Vec<_> = nominated.chain(bought).collect();
    all.sort_unstable();
    all
}

fn by_affinity(term: &Value) -> Value {
    let required = json!({ "nodeSelectorTerms": [term] });
    json!({ "spec": { "affinity": {
        "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required },
    }}})
}

#[test]
fn match_fields_name_a_node() {
    let named = |operator: &str, name: &str| {
        by_affinity(&json!({ "matchFields": [{ "key": "metadata.name", "operator": operator, "values": [name] }] }))
    };
    let planned = round(&json!([]), &["a", "b"], &[named("In", "b"), named("NotIn", "a"), named("In", "c")]);
    assert_eq!(places(&planned), [("p0", "b"), ("p1", "b")], "c is not there, and nobody can buy it");
    let planned = round(&json!([]), &["a"], &[named("NotIn", "a")]);
    assert_eq!(places(&planned), [("p0", "bought")]);
}

#[test]
fn a_selector_that_contradicts_the_affinity_allows_no_node() {
    let mut pod = by_affinity(&json!({ "matchExpressions": [{ "key": "team", "operator": "In", "values": ["x"] }] }));
    pod["spec"]["nodeSelector"] = json!({ "team": "y" });
    assert_eq!(places(&round(&json!([]), &["a"], &[pod])), []);
}

#[test]
fn one_pod_must_be_meant_by_all_terms_of_an_affinity() {
    let term = |key: &str, value: &str| json!({ "topologyKey": labels::ZONE, "labelSelector": { "matchLabels": { key: value } } });
    let follower = json!({ "spec": { "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("app", "x"), term("tier", "y")],
    }}}});
    let one = |own: Value| json!({ "metadata": { "labels": own } });
    let apart = [follower.clone(), one(json!({ "app": "x" })), one(json!({ "tier": "y" }))];
    assert_eq!(places(&round(&json!([]), &["a"], &apart)), [("p1", "a"), ("p2", "a")]);
    let both = [follower, one(json!({ "app": "x", "tier": "y" }))];
    assert_eq!(places(&round(&json!([]), &["a"], &both)), [("p0", "a"), ("p1", "a")]);
}

#[test]
fn a_label_that_must_exist_has_a_value_that_pool_and_pods_allow() {
    let exists = json!([{ "key": "rack", "operator": "Exists" }]);
    let value = |operator: &str, values: Value| {
        let asked = json!({ "matchExpressions": [{ "key": "rack", "operator": operator, "values": values }] });
        round(&exists, &[], &[by_affinity(&asked)]).label("p0", "rack").expect("a rack")
    };
    assert_eq!(value("Gt", json!(["7"])), "8");
    assert_eq!(value("Lt", json!(["7"])), "6");
    assert_eq!(value("In", json!(["7"])), "7");
    assert_ne!(value("NotIn", json!(["0"])), "0");
    assert!(!value("Exists", json!(null)).is_empty());
}
