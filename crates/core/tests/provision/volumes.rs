//! Where volumes let a pod go, and how many a node takes.

use karpenter_core::{Kind, Observation};
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, ZONES, node, pod};

/// A pod with these claims.
fn with(claims: &[&str]) -> Value {
    let volumes = claims.iter().map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
    json!({ "volumes": volumes.collect::<Vec<_>>() })
}

fn claim(name: &str, spec: &Value) -> Value {
    json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

/// A claim that is bound to the volume of its name.
fn bound(name: &str) -> Value {
    let mut claim = claim(name, &json!({ "volumeName": name, "storageClassName": "gp3" }));
    claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    claim
}

/// A volume on EBS that can be attached where one of these terms holds: lists of (key, values).
fn volume(name: &str, terms: &[&[(&str, &[&str])]]) -> Value {
    let expression = |(key, values): &(&str, &[&str])| json!({ "key": key, "operator": "In", "values": values });
    let term = |one: &&[(&str, &[&str])]| json!({ "matchExpressions": one.iter().map(expression).collect::<Vec<_>>() });
    let terms: Vec<Value> = terms.iter().map(term).collect();
    let required = if terms.is_empty() { Value::Null } else { json!({ "nodeSelectorTerms": terms }) };
    json!({
        "kind": "PersistentVolume", "metadata": { "name": name },
        "spec": {
            "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": name }, "nodeAffinity": { "required": required },
        },
    })
}

fn class(name: &str, mode: &str, topologies: &[&[&str]]) -> Value {
    let expression = |zones: &&[&str]| json!([{ "key": "topology.ebs.csi.aws.com/zone", "values": zones }]);
    let terms = topologies.iter().map(|zones| json!({ "matchLabelExpressions": expression(zones) }));
    json!({
        "kind": "StorageClass", "metadata": { "name": name }, "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": mode, "allowedTopologies": terms.collect::<Vec<_>>(),
    })
}

const ZONE: &str = "topology.kubernetes.io/zone";
const WAITS: &str = "WaitForFirstConsumer";

/// Where one pod with these claims goes.
fn placed(objects: Vec<Value>, claims: &[&str]) -> Answer {
    let mut cluster = Cluster::new();
    for object in objects {
        cluster.has(object);
    }
    cluster.waits("app", &with(claims));
    cluster.round()
}

#[test]
fn a_pod_goes_where_its_volume_is() {
    let answer = placed(vec![volume("data", &[&[(ZONE, &["b"])]]), bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), ["b"]);
    let answer =
        placed(vec![volume("data", &[&[("topology.ebs.csi.aws.com/zone", &["c"])]]), bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), ["c"], "the driver has a key of its own for zones");
}

#[test]
fn a_volume_without_affinity_has_no_say() {
    let answer = placed(vec![volume("data", &[]), bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), [""; 0]);
}

#[test]
fn the_zone_label_of_an_old_volume_counts() {
    let mut old = volume("data", &[]);
    old["metadata"]["labels"] = json!({ "failure-domain.beta.kubernetes.io/zone": "b__c" });
    let answer = placed(vec![old, bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), ["b", "c"]);
}

/// Any term of the node affinity will do: the first that has a node.
#[test]
fn the_terms_of_a_volume_are_alternatives() {
    let data = volume("data", &[&[(ZONE, &["nowhere"])], &[(ZONE, &["c"])]]);
    let answer = placed(vec![data, bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), ["c"]);
}

#[test]
fn a_claim_that_waits_goes_where_its_class_may_make_volumes() {
    let spec = json!({ "storageClassName": "gp3" });
    let answer = placed(vec![class("gp3", WAITS, &[&["b", "c"]]), claim("data", &spec)], &["data"]);
    assert_eq!(answer.zones("app"), ["b", "c"]);
    let answer = placed(vec![class("gp3", WAITS, &[]), claim("data", &spec)], &["data"]);
    assert_eq!(answer.zones("app"), [""; 0], "everywhere");
}

/// Of two terms each, the one pair that is possible.
#[test]
fn several_volumes_are_where_all_of_them_can_be() {
    let left = volume("left", &[&[(ZONE, &["a"])], &[(ZONE, &["b"])]]);
    let right = volume("right", &[&[(ZONE, &["b"])], &[(ZONE, &["c"])]]);
    let answer = placed(vec![left, right, bound("left"), bound("right")], &["left", "right"]);
    assert_eq!(answer.zones("app"), ["b"]);
}

#[test]
fn volumes_that_are_nowhere_together_are_the_reason() {
    let volumes = vec![volume("left", &[&[(ZONE, &["a"])]]), volume("right", &[&[(ZONE, &["b"])]])];
    let answer = placed([volumes, vec![bound("left"), bound("right")]].concat(), &["left", "right"]);
    assert!(answer.refusal("app").contains("its volumes allow no \"topology.kubernetes.io/zone\""));
}

/// The disk of a node that is gone cannot keep its pod from moving; a network volume's node can.
#[test]
fn the_node_of_a_local_volume_is_not_asked_for() {
    let term: &[(&str, &[&str])] = &[("kubernetes.io/hostname", &["gone"])];
    let mut local = volume("data", &[term]);
    local["spec"]["csi"] = Value::Null;
    local["spec"]["local"] = json!({ "path": "/disk" });
    let answer = placed(vec![local, bound("data")], &["data"]);
    assert_eq!(answer.zones("app"), [""; 0]);
    let answer = placed(vec![volume("data", &[term]), bound("data")], &["data"]);
    assert!(answer.refusal("app").contains("its volumes allow no \"kubernetes.io/hostname\""), "no new node has it");
}

#[test]
fn an_ephemeral_volume_has_the_claim_of_its_pod() {
    let mut cluster = Cluster::new();
    cluster.has(class("gp3", WAITS, &[&["b"]]));
    cluster.has(claim("app-scratch", &json!({ "storageClassName": "gp3" })));
    cluster.waits("app", &json!({ "volumes": [{ "name": "scratch", "ephemeral": {} }] }));
    assert_eq!(cluster.round().zones("app"), ["b"]);
}

/// What is wrong with a claim is told with its name, what was found and what is expected.
#[test]
fn a_claim_that_is_not_in_order_is_told() {
    let refused = |objects: Vec<Value>| placed(objects, &["data"]).refusal("app");
    let patched = |mut object: Value, pointer: &str, key: &str, value: Value| {
        object.pointer_mut(pointer).expect("there")[key] = value;
        object
    };
    let deleted = json!("2026-01-01T00:00:00Z");
    let everywhere = || volume("data", &[]);
    let unbound = || claim("data", &json!({ "storageClassName": "gp3" }));
    let cases = [
        (vec![], "none of that name"),
        (
            vec![everywhere(), patched(bound("data"), "/metadata", "deletionTimestamp", deleted.clone())],
            "deletionTimestamp",
        ),
        (vec![everywhere(), patched(bound("data"), "", "status", json!({ "phase": "Lost" }))], "\"Lost\""),
        (vec![bound("data")], "spec.volumeName \"data\", which does not exist"),
        (vec![patched(everywhere(), "/metadata", "deletionTimestamp", deleted), bound("data")], "is being deleted"),
        (vec![everywhere(), claim("data", &json!({ "volumeName": "data" }))], "pv.kubernetes.io/bind-completed"),
        (vec![claim("data", &json!({}))], "a bound claim or a StorageClass"),
        (vec![claim("data", &json!({ "storageClassName": "" }))], "a bound claim or a StorageClass"),
        (vec![unbound()], "spec.storageClassName \"gp3\", which does not exist"),
        (vec![class("gp3", "Immediate", &[]), unbound()], "Immediate"),
    ];
    for (objects, words) in cases {
        let said = refused(objects);
        assert!(said.contains("persistentVolumeClaim \"default/data\": found "), "{said}");
        assert!(said.contains(words) && said.contains(", expected "), "{words}: {said}");
    }
}

/// Pods that wait are looked at again as soon as what kept them is there.
#[test]
fn a_claim_that_comes_late_rouses_its_pod() {
    let mut cluster = Cluster::new();
    cluster.waits("app", &with(&["data"]));
    assert!(cluster.round().refusal("app").contains("none of that name"));
    assert!(!cluster.is_roused());
    cluster.has(volume("data", &[&[(ZONE, &["b"])]]));
    assert!(cluster.is_roused());
    cluster.has(bound("data"));
    assert_eq!(cluster.round().zones("app"), ["b"]);
}

/// What is deleted is gone, and so is what a complete list does not name.
#[test]
fn what_is_gone_is_forgotten() {
    let objects = || [bound("data"), volume("data", &[]), class("gp3", WAITS, &[]), takes("n", "driver", 1)];
    let kinds = [Kind::PersistentVolumeClaim, Kind::PersistentVolume, Kind::StorageClass, Kind::CsiNode];
    for (at, kind) in kinds.into_iter().enumerate() {
        let known = |change: &dyn Fn(&mut Cluster)| {
            let mut cluster = Cluster::new();
            for object in objects() {
                cluster.has(object);
            }
            change(&mut cluster);
            let storage = &cluster.world.storage;
            [storage.claims.len(), storage.volumes.len(), storage.classes.len(), storage.limits.len()]
        };
        let mut but_one = [1; 4];
        but_one[at] = 0;
        assert_eq!(known(&|cluster| cluster.lost(objects()[at].clone())), but_one);
        assert_eq!(known(&|cluster| cluster.learns(Observation::Listed { kind, names: Vec::new() })), but_one);
        let names = ["default/data", "data", "gp3", "n"].map(str::to_owned).to_vec();
        assert_eq!(known(&|cluster| cluster.learns(Observation::Listed { kind, names: names.clone() })), [1; 4]);
    }
}

/// Over zones, of all pods.
fn spread_over_zones() -> Value {
    json!([{
        "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchExpressions": [{ "key": "app", "operator": "Exists" }] },
    }])
}

fn main(cpu: &str) -> Value {
    json!({ "name": "main", "resources": { "requests": { "cpu": cpu } } })
}

/// Volumes narrow the node alone: a spread over zones counts every zone, and the pod cannot go to the emptiest.
#[test]
fn the_zones_of_a_spread_are_not_narrowed_by_volumes() {
    let mut cluster = Cluster::new();
    cluster.has(volume("data", &[&[(ZONE, &["b"])]]));
    cluster.has(bound("data"));
    cluster.has(node("n", "b"));
    cluster.has(pod("there", "default", &json!({ "nodeName": "n" })));
    let mut spec = with(&["data"]);
    spec["topologySpreadConstraints"] = spread_over_zones();
    cluster.waits("app", &spec);
    assert!(cluster.round().refusal("app").contains("no domain of \"topology.kubernetes.io/zone\" is open"));
}

/// Any term will do, and so it is the one that the spread leaves open.
#[test]
fn a_spread_chooses_among_the_terms_of_a_volume() {
    let mut cluster = Cluster::new();
    cluster.has(volume("data", &[&[(ZONE, &["a"])], &[(ZONE, &["b"])]]));
    cluster.has(bound("data"));
    cluster.has(node("n", "a"));
    cluster.has(pod("there", "default", &json!({ "nodeName": "n", "containers": [main("16")] })));
    let mut spec = with(&["data"]);
    spec["topologySpreadConstraints"] = spread_over_zones();
    cluster.waits("app", &spec);
    assert_eq!(cluster.round().zones("app"), ["b"]);
}

/// Each zone is a term of its own. A small node for each pod is half as dear as a large one for all of a zone.
#[test]
fn the_plan_buys_in_every_zone_that_a_spread_divides_volumes_over() {
    let mut cluster = Cluster::new();
    cluster.has(class("gp3", WAITS, &[&["a"], &["b"], &["c"]]));
    for n in 0..12 {
        let name = format!("data-{n}");
        cluster.has(claim(&name, &json!({ "storageClassName": "gp3" })));
        let mut spec = with(&[&name]);
        spec["topologySpreadConstraints"] = spread_over_zones();
        spec["containers"] = json!([main("1500m")]);
        cluster.waits(&format!("app-{n}"), &spec);
    }
    let answer = cluster.round();
    assert_eq!(answer.buys(), 12, "{answer:#?}");
    for zone in ZONES {
        let here = (0..12).filter(|n| answer.zones(&format!("app-{n}")) == [zone]);
        assert_eq!(here.count(), 4, "in zone {zone}");
    }
}

// ── attach limits ──

/// A node that takes `count` volumes of EBS.
fn takes(node: &str, driver: &str, count: u32) -> Value {
    let drivers = json!([{ "name": driver, "nodeID": node, "allocatable": { "count": count } }]);
    json!({ "kind": "CSINode", "metadata": { "name": node }, "spec": { "drivers": drivers } })
}

/// A node `n` with two pods on it that share the volume `held`, and the volumes `one` and `two`.
fn limited(count: u32) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "a"));
    cluster.has(takes("n", "ebs.csi.aws.com", count));
    for name in ["held", "one", "two"] {
        cluster.has(volume(name, &[]));
        cluster.has(bound(name));
    }
    let mut there = with(&["held"]);
    there["nodeName"] = json!("n");
    for name in ["there", "there-too"] {
        cluster.has(pod(name, "default", &there));
    }
    cluster
}

#[test]
fn a_node_takes_no_more_volumes_than_its_driver_says() {
    let mut cluster = limited(2);
    cluster.waits("first", &with(&["one"]));
    cluster.waits("second", &with(&["two"]));
    let answer = cluster.round();
    let on_node = ["first", "second"].map(|pod| answer.node(pod).is_some());
    assert_eq!((on_node.iter().filter(|there| **there).count(), answer.buys()), (1, 1), "{answer:#?}");
}

#[test]
fn a_volume_that_is_attached_already_counts_once() {
    let mut cluster = limited(1);
    cluster.waits("shares", &with(&["held"]));
    cluster.waits("other", &with(&["one"]));
    let answer = cluster.round();
    assert_eq!(answer.node("shares"), Some("n"));
    assert_eq!(answer.node("other"), None);
}

#[test]
fn a_pod_that_is_expected_holds_its_volumes() {
    let mut cluster = limited(2);
    cluster.waits("first", &with(&["one"]));
    assert_eq!(cluster.round().node("first"), Some("n"));
    cluster.waits("second", &with(&["two"]));
    let answer = cluster.round();
    assert_eq!((answer.node("second"), answer.buys()), (None, 1), "{answer:#?}");
}

/// A pod that was expected in vain is looked at anew, and does not stand in its own way.
#[test]
fn a_pod_that_is_planned_anew_leaves_its_old_place_first() {
    let mut cluster = limited(2);
    cluster.waits("first", &with(&["one"]));
    assert_eq!(cluster.round().node("first"), Some("n"));
    assert_eq!(cluster.round_after(30).node("first"), Some("n"));
}

#[test]
fn new_nodes_and_nodes_without_a_limit_take_any_number() {
    let mut cluster = limited(1);
    cluster.has(json!({ "kind": "CSINode", "metadata": { "name": "n" }, "spec": { "drivers": [
        { "name": "ebs.csi.aws.com", "nodeID": "n" },
    ] } }));
    cluster.waits("both", &with(&["one", "two"]));
    assert_eq!(cluster.round().node("both"), Some("n"));
}

/// The plugin within Kubernetes and the class' provisioner stand for the driver that attaches.
#[test]
fn volumes_of_the_old_plugin_and_volumes_to_come_count_for_the_same_driver() {
    let mut cluster = limited(1);
    cluster.has(json!({
        "kind": "PersistentVolume", "metadata": { "name": "one" },
        "spec": { "awsElasticBlockStore": { "volumeID": "one" } },
    }));
    let mut old_class = class("gp2", WAITS, &[]);
    old_class["provisioner"] = json!("kubernetes.io/aws-ebs");
    cluster.has(old_class);
    cluster.has(claim("two", &json!({ "storageClassName": "gp2" })));
    cluster.waits("old", &with(&["one"]));
    cluster.waits("coming", &with(&["two"]));
    let answer = cluster.round();
    assert_eq!([answer.node("old"), answer.node("coming")], [None, None]);
}

#[test]
fn what_cannot_be_found_does_not_count() {
    let mut cluster = limited(2);
    cluster.has(pod("lost", "default", &{
        let mut spec = with(&["missing"]);
        spec["nodeName"] = json!("n");
        spec
    }));
    cluster.waits("first", &with(&["one"]));
    assert_eq!(cluster.round().node("first"), Some("n"));
}
