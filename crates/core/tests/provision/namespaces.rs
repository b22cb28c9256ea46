//! Pod affinity across namespaces that are selected by their labels.

use serde_json::{Value, json};

use crate::cluster::{Cluster, node, pod};

fn namespace(name: &str, team: &str) -> Value {
    json!({ "kind": "Namespace", "metadata": { "name": name, "labels": { "team": team } } })
}

/// A term about pods of the app `db` in the namespaces of a team, on one zone.
fn near_db(kind: &str) -> Value {
    json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "topology.kubernetes.io/zone",
        "labelSelector": { "matchLabels": { "app": "db" } },
        "namespaceSelector": { "matchLabels": { "team": "data" } },
    }] } } })
}

/// A pod `db` in zone b, in the namespace `store`.
fn with_db() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "b"));
    cluster.has(pod("db", "store", &json!({ "nodeName": "n" })));
    cluster
}

#[test]
fn a_pod_goes_to_pods_in_namespaces_that_are_selected() {
    let mut cluster = with_db();
    cluster.has(namespace("store", "data"));
    cluster.waits("app", &near_db("podAffinity"));
    assert_eq!(cluster.round().node("app"), Some("n"));
}

#[test]
fn pods_in_other_namespaces_are_not_meant() {
    let mut cluster = with_db();
    cluster.has(namespace("store", "web"));
    cluster.has(namespace("default", "data"));
    cluster.waits("app", &near_db("podAffinity"));
    assert!(cluster.round().refusal("app").contains("no domain of \"topology.kubernetes.io/zone\" is open"));
}

/// Of a namespace that was never seen nothing is known: no label of it is selected.
#[test]
fn an_unknown_namespace_is_not_selected() {
    let mut cluster = with_db();
    cluster.waits("app", &near_db("podAffinity"));
    cluster.round().refusal("app");
}

#[test]
fn anti_affinity_keeps_away_from_namespaces_that_are_selected() {
    let mut cluster = with_db();
    cluster.has(namespace("store", "data"));
    cluster.waits("app", &near_db("podAntiAffinity"));
    let answer = cluster.round();
    assert_eq!(answer.node("app"), None);
    assert!(!answer.zones("app").contains(&"b".to_owned()), "{answer:#?}");
}

/// The other way round: what runs refuses pods of the namespaces it selects.
#[test]
fn pods_that_run_refuse_namespaces_that_they_select() {
    let refuses = |labels: &str| {
        let mut cluster = Cluster::new();
        cluster.has(node("n", "b"));
        cluster.has(namespace("default", labels));
        let mut spec = near_db("podAntiAffinity");
        spec["nodeName"] = json!("n");
        cluster.has(pod("shy", "store", &spec));
        cluster.waits("db", &json!({}));
        cluster.round().node("db").is_none()
    };
    assert!(refuses("data"));
    assert!(!refuses("web"));
}

#[test]
fn a_label_of_a_namespace_rouses_pods_that_wait() {
    let mut cluster = with_db();
    cluster.has(namespace("store", "web"));
    cluster.waits("app", &near_db("podAffinity"));
    cluster.round().refusal("app");
    cluster.has(namespace("store", "web"));
    assert!(!cluster.is_roused(), "nothing changed");
    cluster.has(namespace("store", "data"));
    assert!(cluster.is_roused());
    assert_eq!(cluster.round().node("app"), Some("n"));
    cluster.lost(namespace("store", "data"));
    assert!(cluster.world.namespaces.is_empty());
}
