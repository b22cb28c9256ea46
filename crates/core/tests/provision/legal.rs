//! Where a pod may go, by rules that kube-scheduler knows: what the agreement test found once.

use karpenter_api::labels;
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, merge, running, waiting};

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

/// A pod that is labelled `app: x` and bound to this node, and on its way out.
fn ending(name: &str, node: &str) -> Value {
    let metadata = json!({ "labels": { "app": "x" }, "deletionTimestamp": "1970-01-01T00:30:00Z" });
    running(name, "100m", node, &json!({ "metadata": metadata }))
}

fn of_app_x(spec: &Value) -> Value {
    json!({ "metadata": { "labels": { "app": "x" } }, "spec": spec })
}

fn app_x(more: &Value) -> Value {
    let mut all = json!({ "labelSelector": { "matchLabels": { "app": "x" } } });
    merge(&mut all, more);
    all
}

fn spreads(keys: &[&str]) -> Value {
    let one = |key: &&str| app_x(&json!({ "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule" }));
    json!({ "topologySpreadConstraints": keys.iter().map(one).collect::<Vec<_>>() })
}

fn affinity(kind: &str, keys: &[&str]) -> Value {
    let terms: Vec<Value> = keys.iter().map(|key| app_x(&json!({ "topologyKey": key }))).collect();
    json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
}

/// Node `plain` in zone a, node `rack` in zone b in rack r.
fn racks() -> Cluster {
    let mut cluster = Cluster::bare();
    cluster.node("plain", &json!({}));
    cluster.node("rack", &json!({ "metadata": { "labels": { labels::ZONE: "b", "rack": "r" } } }));
    cluster
}

#[test]
fn a_node_without_the_key_of_one_spread_does_not_count_for_the_others() {
    let mut cluster = racks();
    cluster.pod(&running("there", "100m", "rack", &of_app_x(&json!({}))));
    cluster.pod(&waiting("p0", "100m", &of_app_x(&spreads(&[labels::ZONE, "rack"]))));
    assert_eq!(places(&cluster.round()), [("p0", "rack")], "zone a, which is empty, is out of the count");
}

#[test]
fn the_first_pod_of_an_affinity_is_the_first_for_all_its_terms() {
    let first = || waiting("p0", "100m", &of_app_x(&affinity("podAffinity", &[labels::ZONE, "rack"])));
    let mut cluster = racks();
    cluster.pod(&first());
    assert_eq!(places(&cluster.round()), [("p0", "rack")]);
    let mut cluster = racks();
    cluster.node("near", &json!({ "metadata": { "labels": { "rack": "r" } } }));
    cluster.pod(&running("there", "100m", "plain", &of_app_x(&json!({}))));
    cluster.pod(&first());
    assert_eq!(places(&cluster.round()), [], "one is in zone a already, and in no rack");
}

#[test]
fn pods_on_their_way_out_count_for_affinities_until_they_are_gone() {
    let mut cluster = racks();
    cluster.pod(&ending("there", "plain"));
    cluster.pod(&waiting("p0", "100m", &of_app_x(&affinity("podAntiAffinity", &[labels::HOSTNAME]))));
    cluster.pod(&waiting("p1", "100m", &of_app_x(&affinity("podAntiAffinity", &[labels::HOSTNAME]))));
    assert_eq!(places(&cluster.round()), [("p0", "rack")]);
    let mut refusing = ending("there", "plain");
    merge(&mut refusing, &json!({ "spec": affinity("podAntiAffinity", &[labels::HOSTNAME]) }));
    let mut cluster = racks();
    cluster.pod(&refusing);
    cluster.pod(&waiting("p0", "100m", &of_app_x(&json!({}))));
    assert_eq!(places(&cluster.round()), [("p0", "rack")]);
}

#[test]
fn pods_on_their_way_out_do_not_count_for_spreads() {
    let mut cluster = racks();
    for name in ["there", "there-too"] {
        cluster.pod(&ending(name, "plain"));
    }
    for name in ["p0", "p1"] {
        cluster.pod(&waiting(name, "100m", &of_app_x(&spreads(&[labels::ZONE]))));
    }
    let planned = cluster.round();
    assert_ne!(planned.node("p0"), planned.node("p1"), "one in each zone: {planned:?}");
}

/// What takes its place has to be bought first.
#[test]
fn a_pod_that_goes_with_its_node_does_not_count() {
    let mut cluster = Cluster::bare();
    cluster.pool("pool", &json!({}));
    cluster.node("plain", &json!({ "metadata": { "deletionTimestamp": "1970-01-01T00:30:00Z" } }));
    cluster.pod(&ending("there", "plain"));
    let mut spec = affinity("podAntiAffinity", &[labels::ZONE]);
    spec["nodeSelector"] = json!({ labels::ZONE: "a" });
    cluster.pod(&waiting("p0", "100m", &of_app_x(&spec)));
    assert_eq!(places(&cluster.round()), [("p0", "bought")]);
}

#[test]
fn a_spread_with_an_empty_selector_counts_nobody() {
    let mut cluster = racks();
    cluster.pod(&running("there", "100m", "plain", &of_app_x(&json!({}))));
    let mut spec = spreads(&[labels::HOSTNAME]);
    spec["topologySpreadConstraints"][0]["labelSelector"] = json!({});
    spec["nodeSelector"] = json!({ labels::HOSTNAME: "plain" });
    cluster.pod(&waiting("p0", "100m", &of_app_x(&spec)));
    assert_eq!(places(&cluster.round()), [("p0", "plain")]);
}

/// Nodes that a spread's policies leave out count for nothing, those that are being deleted as well.
#[test]
fn pods_on_a_leaving_node_that_a_spread_leaves_out_do_not_count() {
    let spread = |pools: &str| {
        let mut spec = spreads(&[labels::ZONE]);
        spec["nodeSelector"] = json!({ "disk": pools });
        of_app_x(&spec)
    };
    let places_where_the_leaving_node_is = |disk: &str| {
        let mut cluster = Cluster::bare();
        cluster.pool("pool", &json!({ "template": { "metadata": { "labels": { "disk": "fast" } } } }));
        cluster.node(
            "leaving",
            &json!({ "metadata": {
            "deletionTimestamp": "1970-01-01T00:30:00Z", "labels": { "disk": disk },
        } }),
        );
        for name in ["there", "there-too"] {
            let stays = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
            let mut pod = of_app_x(&json!({}));
            merge(&mut pod, &stays);
            cluster.pod(&running(name, "100m", "leaving", &pod));
        }
        for name in ["p0", "p1"] {
            cluster.pod(&waiting(name, "100m", &spread("fast")));
        }
        let planned = cluster.round();
        ["p0", "p1"].map(|pod| planned.zones(pod).concat())
    };
    let mut apart = places_where_the_leaving_node_is("slow");
    apart.sort();
    assert_eq!(apart, ["a", "b"], "nobody of theirs is anywhere yet");
    assert_eq!(places_where_the_leaving_node_is("fast"), ["b", "b"], "two are in zone a");
}

/// Of the numbers within bounds some are excluded by name: others are left.
#[test]
fn numbers_beyond_those_that_are_excluded_are_left() {
    let not = |values: &[&str]| {
        by_affinity(
            &json!({ "matchExpressions": [{ "key": "example.com/generation", "operator": "NotIn", "values": values }] }),
        )
    };
    let bound = |operator: &str, value: &str| json!({ "key": "example.com/generation", "operator": operator, "values": [value] });
    let cases = [
        (json!([bound("Gt", "3")]), not(&["4", "5"]), 1),
        (json!([bound("Gte", "4")]), not(&["4"]), 1),
        (json!([bound("Lt", "5")]), not(&["4", "3"]), 1),
        (json!([bound("Lte", "4"), bound("Gte", "3")]), not(&["4"]), 1),
        (json!([bound("Lte", "4"), bound("Gte", "3")]), not(&["4", "3"]), 0),
        (json!([bound("Lte", "4"), bound("Gte", "5")]), not(&["7"]), 0),
    ];
    for (requirements, pod, placed) in cases {
        assert_eq!(places(&round(&requirements, &[], &[pod])).len(), placed, "{requirements}");
    }
}
