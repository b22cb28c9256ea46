//! What random clusters found, each at its smallest: rules that the scheduler once overlooked.

use karpenter_judge::generate::read;
use karpenter_judge::{Cluster, Kind, Offer, Plan, judge};
use serde_json::{Value, json};

fn kind(name: &str, cpu: i64) -> Kind {
    let amounts = [("cpu", 1000 * cpu), ("memory", cpu << 31), ("pods", 10)];
    let amounts: std::collections::BTreeMap<String, i64> = amounts.map(|(name, n)| (name.to_owned(), n)).into();
    let offer =
        |zone: &str| Offer { zone: zone.to_owned(), spot: false, price: 50_000 * cpu.unsigned_abs(), available: true };
    Kind {
        name: name.to_owned(),
        labels: [("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into(),
        capacity: amounts.clone(),
        allocatable: amounts,
        offers: ["z-a", "z-b"].map(offer).into(),
    }
}

fn cluster(requirements: Value) -> Cluster {
    Cluster {
        kinds: vec![kind("fa.small", 2), kind("fa.large", 4)],
        pools: vec![read(json!({
            "metadata": { "name": "p", "uid": "pool" },
            "spec": { "template": { "spec": {
                "requirements": requirements, "nodeClassRef": { "group": "g", "kind": "EC2NodeClass", "name": "default" },
            } } },
            "status": { "conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
            }] },
        }))],
        ..Cluster::default()
    }
}

fn node(cluster: &mut Cluster, name: &str, labels: &[(&str, &str)], taints: Value) {
    let mut all = json!({ "kubernetes.io/hostname": name });
    for (key, value) in labels {
        all[*key] = json!(value);
    }
    cluster.nodes.push(read(json!({
        "metadata": { "name": name, "labels": all }, "spec": { "taints": taints },
        "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "3" } },
    })));
}

fn pod(name: &str, app: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{ "name": "main", "resources": { "requests": { "cpu": "100m" } } }]);
    }
    json!({ "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": app } }, "spec": spec })
}

fn waiting(cluster: &mut Cluster, name: &str, app: &str, spec: Value) {
    let mut pod = pod(name, app, spec);
    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" });
    pod["status"] = json!({ "conditions": [condition] });
    cluster.pods.push(read(pod));
}

fn running(cluster: &mut Cluster, name: &str, app: &str, node: &str) {
    let mut pod = pod(name, app, json!({ "nodeName": node }));
    pod["status"] = json!({ "phase": "Running" });
    cluster.pods.push(read(pod));
}

fn daemon(cluster: &mut Cluster, spec: Value) {
    cluster.daemons.push(read(json!({
        "metadata": { "name": "d", "namespace": "default", "uid": "daemon" },
        "spec": { "selector": {}, "template": { "spec": spec } },
    })));
}

/// The plan, in which nothing may be wrong.
fn plan(cluster: &Cluster) -> Plan {
    let plan = cluster.plan();
    let told: Vec<String> = judge(cluster, &plan).iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}\n\n{plan}\n{cluster:?}", told.join("\n"));
    plan
}

fn placed(cluster: &Cluster) -> usize {
    plan(cluster).places.len()
}

fn port(number: i32) -> Value {
    json!([{ "containerPort": number, "hostPort": number }])
}

fn term(expressions: Value) -> Value {
    let required = json!({ "nodeSelectorTerms": [{ "matchExpressions": expressions }] });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } })
}

fn together(terms: &[(&str, Value)]) -> Value {
    let term = |(key, selector): &(&str, Value)| json!({ "topologyKey": key, "labelSelector": selector });
    let terms: Vec<Value> = terms.iter().map(term).collect();
    json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
}

#[test]
fn a_contradiction_is_not_the_absence_of_a_label() {
    let mut all = cluster(json!([]));
    let blue = json!([{ "key": "team", "operator": "In", "values": ["blue"] }]);
    waiting(&mut all, "w", "a", json!({ "nodeSelector": { "team": "red" }, "affinity": term(blue) }));
    assert_eq!(placed(&all), 0);

    let mut all = cluster(json!([{ "key": "rack", "operator": "Lte", "values": ["4"] }]));
    let above = json!([{ "key": "rack", "operator": "Gt", "values": ["10"] }]);
    waiting(&mut all, "w", "a", json!({ "affinity": term(above) }));
    assert_eq!(placed(&all), 0);
}

#[test]
fn a_new_node_has_the_labels_that_its_pods_and_its_pool_ask_for() {
    for (pool, asked) in [
        (json!({ "key": "team", "operator": "Exists" }), json!({ "key": "team", "operator": "Exists" })),
        (
            json!({ "key": "team", "operator": "NotIn", "values": ["red"] }),
            json!({ "key": "team", "operator": "Exists" }),
        ),
        (
            json!({ "key": "team", "operator": "Gte", "values": ["3"] }),
            json!({ "key": "team", "operator": "Lt", "values": ["9"] }),
        ),
    ] {
        let mut all = cluster(json!([pool]));
        waiting(&mut all, "w", "a", json!({ "affinity": term(json!([asked])) }));
        assert_eq!(placed(&all), 1);
    }
}

#[test]
fn a_new_node_has_a_hostname_of_its_own() {
    let mut all = cluster(json!([]));
    let avoid = json!([{ "key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n"] }]);
    waiting(&mut all, "wants", "a", json!({ "nodeSelector": { "kubernetes.io/hostname": "n" } }));
    waiting(&mut all, "avoids", "a", json!({ "affinity": term(avoid) }));
    assert_eq!(placed(&all), 1);
}

#[test]
fn min_values_count_what_types_name() {
    let mut all = cluster(json!([{ "key": "team", "operator": "In", "values": ["red", "blue"], "minValues": 2 }]));
    waiting(&mut all, "w", "a", json!({}));
    assert_eq!(placed(&all), 0);
}

#[test]
fn min_values_hold_within_limits() {
    let wanted = json!([{ "key": "node.kubernetes.io/instance-type", "operator": "Exists", "minValues": 2 }]);
    let mut all = cluster(wanted);
    all.pools[0].spec.limits = Some([("cpu".to_owned(), "3".into())].into());
    waiting(&mut all, "w", "a", json!({}));
    assert_eq!(placed(&all), 0, "within the limit there is one type");
}

#[test]
fn several_min_values_of_one_key_are_kept_each() {
    let one = |count| json!({ "key": "topology.kubernetes.io/zone", "operator": "Exists", "minValues": count });
    let mut all = cluster(json!([one(1), one(2)]));
    waiting(&mut all, "w", "a", json!({}));
    assert_eq!(placed(&all), 1);
}

#[test]
fn ports_of_daemons_and_sidecars_are_taken() {
    let mut all = cluster(json!([]));
    node(&mut all, "n", &[], json!([]));
    daemon(&mut all, json!({ "containers": [{ "name": "d", "ports": port(80) }] }));
    waiting(&mut all, "w", "a", json!({ "containers": [{ "name": "main", "ports": port(80) }] }));
    assert_eq!(placed(&all), 0);

    let mut all = cluster(json!([]));
    node(&mut all, "n", &[], json!([]));
    let side = json!([{ "name": "side", "restartPolicy": "Always", "ports": port(80) }]);
    for name in ["one", "two"] {
        waiting(&mut all, name, "a", json!({ "initContainers": side }));
    }
    assert_eq!(plan(&all).claims.len(), 1, "the second has no place beside the first");
}

#[test]
fn daemons_come_to_cordoned_nodes_and_are_told_by_their_owner() {
    let cordoned = json!([{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }]);
    let mut all = cluster(json!([]));
    node(&mut all, "n", &[], cordoned);
    daemon(&mut all, json!({ "containers": [{ "name": "d", "resources": { "requests": { "cpu": "1500m" } } }] }));
    let main = json!([{ "name": "main", "resources": { "requests": { "cpu": "1" } } }]);
    waiting(&mut all, "w", "a", json!({ "containers": main, "tolerations": [{ "operator": "Exists" }] }));
    assert_eq!(plan(&all).claims.len(), 1, "the daemon has yet to come");

    let mut all = cluster(json!([]));
    node(&mut all, "n", &[], json!([]));
    daemon(&mut all, json!({ "containers": [{ "name": "d", "resources": { "requests": { "cpu": "1500m" } } }] }));
    let mut other = pod("other", "d", json!({ "nodeName": "n" }));
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "o", "uid": "other" }]);
    other["metadata"]["ownerReferences"] = owner;
    all.pods.push(read(other));
    let main = json!([{ "name": "main", "resources": { "requests": { "cpu": "450m" } } }]);
    waiting(&mut all, "w", "a", json!({ "containers": main }));
    assert_eq!(plan(&all).claims.len(), 1, "the pod that is there is another daemon's");
}

#[test]
fn all_terms_of_pod_affinity_mean_the_same_pod() {
    let mut all = cluster(json!([]));
    for (name, app) in [("n1", "a"), ("n2", "b")] {
        node(&mut all, name, &[("topology.kubernetes.io/zone", "z-a")], json!([]));
        running(&mut all, app, app, name);
    }
    let is = |app: &str| json!({ "matchLabels": { "app": app } });
    let zone = "topology.kubernetes.io/zone";
    waiting(&mut all, "w", "c", json!({ "affinity": together(&[(zone, is("a")), (zone, is("b"))]) }));
    assert_eq!(placed(&all), 0);
}

#[test]
fn a_pod_that_others_count_is_placed_though_they_have_nowhere_to_go() {
    let mut all = cluster(json!([]));
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "a" } },
    }]);
    waiting(&mut all, "lost", "b", json!({ "nodeSelector": { "team": "red" }, "topologySpreadConstraints": spread }));
    waiting(&mut all, "w", "a", json!({}));
    assert_eq!(placed(&all), 1);
}

#[test]
fn running_pods_refuse_others_by_a_label_that_nobody_else_speaks_of() {
    let mut all = cluster(json!([]));
    for name in ["n1", "n2"] {
        node(&mut all, name, &[("rack", "r1")], json!([]));
    }
    let term = json!([{ "topologyKey": "rack", "labelSelector": { "matchLabels": { "app": "b" } } }]);
    let apart = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } });
    let mut refusing = pod("one", "a", json!({ "nodeName": "n1", "affinity": apart }));
    refusing["status"] = json!({ "phase": "Running" });
    all.pods.push(read(refusing));
    waiting(&mut all, "w", "b", json!({}));
    assert_eq!(plan(&all).claims.len(), 1, "n2 is in the same rack");
}

#[test]
fn nodes_without_the_label_of_one_spread_count_for_none() {
    let mut all = cluster(json!([]));
    node(&mut all, "n1", &[("topology.kubernetes.io/zone", "z-a"), ("team", "red")], json!([]));
    node(&mut all, "n2", &[("topology.kubernetes.io/zone", "z-b")], json!([]));
    for (name, node) in [("one", "n1"), ("two", "n2")] {
        running(&mut all, name, "a", node);
    }
    let spread = |key: &str, domains: Option<i32>| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "minDomains": domains,
            "labelSelector": { "matchLabels": { "app": "a" } },
        })
    };
    let spreads = json!([spread("topology.kubernetes.io/zone", Some(2)), spread("team", None)]);
    waiting(&mut all, "w", "a", json!({ "topologySpreadConstraints": spreads }));
    assert_eq!(placed(&all), 0, "z-b has no node that counts");
}

#[test]
fn the_labels_of_launched_claims_are_domains() {
    let mut all = cluster(json!([]));
    all.pools[0].spec.template.metadata = Some(read(json!({ "labels": { "rack": "r1" } })));
    all.claims.push(read(json!({
        "metadata": { "name": "c", "uid": "c", "labels": { "karpenter.sh/nodepool": "p", "rack": "r2" } },
        "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "EC2NodeClass", "name": "default" } },
        "status": { "providerID": "aws:///z/i", "allocatable": { "cpu": "100m", "pods": "1" } },
    })));
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "a" } },
    }]);
    let main = json!([{ "name": "main", "resources": { "requests": { "cpu": "200m" } } }]);
    for name in ["one", "two"] {
        waiting(&mut all, name, "a", json!({ "containers": main, "topologySpreadConstraints": spread }));
    }
    assert_eq!(placed(&all), 1, "the claim's rack stays empty");
}

#[test]
fn what_is_less_than_nothing_makes_no_room() {
    let mut all = cluster(json!([]));
    let main = |cpu: &str| json!([{ "name": "main", "resources": { "requests": { "cpu": cpu } } }]);
    for (name, cpu) in [("one", "-100"), ("two", "-1"), ("three", "5")] {
        waiting(&mut all, name, "a", json!({ "containers": main(cpu) }));
    }
    assert_eq!(placed(&all), 0);
}

#[test]
fn what_cannot_be_followed_ends_in_a_verdict() {
    for bad in [
        json!({ "matchExpressions": [{ "key": "team", "operator": "NotIn" }] }),
        json!({ "matchExpressions": [{ "key": "team", "operator": "DoesNotExist", "values": ["red"] }] }),
    ] {
        let mut all = cluster(json!([]));
        let required = json!({ "nodeSelectorTerms": [bad] });
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
        waiting(&mut all, "w", "a", json!({ "affinity": affinity }));
        let verdicts = plan(&all).verdicts;
        assert!(verdicts[0].1.starts_with("the pod cannot be planned: nodeAffinity"), "{verdicts:?}");
    }
}
