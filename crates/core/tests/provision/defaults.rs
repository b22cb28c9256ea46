//! Default spread constraints: whom they bind, and whom they count.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use karpenter_core::{Kind, Object, Observation, Selecting, Settings, World};
use serde_json::{Value, json};

use crate::cluster::{Cluster, bought, kind, merge, waiting};

/// No two pods of a kind on one node.
fn settings() -> Settings {
    let spread = TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "DoNotSchedule".to_owned(),
        ..TopologySpreadConstraint::default()
    };
    Settings { default_spreads: vec![spread], ..Settings::default() }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::selling(vec![kind("m.8", 8, 32, &[])], settings());
    cluster.pool("general", &json!({}));
    cluster
}

fn selecting(kind: Kind, name: &str, selector: &Value) -> Object {
    let selector: Option<LabelSelector> = serde_json::from_value(selector.clone()).unwrap();
    Object::Selecting(Box::new(Selecting { kind, namespace: "default".to_owned(), name: name.to_owned(), selector }))
}

fn labelled(name: &str, labels: &Value, owner: Option<(&str, &str)>) -> Value {
    let mut pod = waiting(name, "1", &json!({ "metadata": { "labels": labels } }));
    if let Some((api_version, kind)) = owner {
        let owner = json!([{
            "apiVersion": api_version, "kind": kind, "name": "owner", "uid": "owner", "controller": true,
        }]);
        merge(&mut pod, &json!({ "metadata": { "ownerReferences": owner } }));
    }
    pod
}

/// How many nodes three pods with these labels are spread over.
fn nodes(selecting: &[Object], labels: &Value, owner: Option<(&str, &str)>) -> usize {
    let mut cluster = cluster();
    for object in selecting {
        cluster.see(object.clone());
    }
    for n in 0..3 {
        cluster.pod(&labelled(&format!("p{n}"), labels, owner));
    }
    bought(&cluster.round()).len()
}

#[test]
fn pods_that_a_service_or_their_controller_selects_are_spread() {
    let web = json!({ "app": "web" });
    let of_web = json!({ "matchLabels": { "app": "web" } });
    let others = json!({ "matchLabels": { "app": "other" } });
    let (set, stateful, old) = (("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("v1", "ReplicationController"));
    for (what, objects, owner, expected) in [
        ("nothing selects them", vec![], None, 1),
        ("a Service", vec![selecting(Kind::Service, "s", &of_web)], None, 3),
        ("a Service of others", vec![selecting(Kind::Service, "s", &others)], None, 1),
        ("a Service without selector", vec![selecting(Kind::Service, "s", &Value::Null)], None, 1),
        ("a Service with an empty selector", vec![selecting(Kind::Service, "s", &json!({}))], None, 1),
        ("a ReplicaSet that is not theirs", vec![selecting(Kind::ReplicaSet, "owner", &of_web)], None, 1),
        ("their ReplicaSet", vec![selecting(Kind::ReplicaSet, "owner", &of_web)], Some(set), 3),
        ("their StatefulSet", vec![selecting(Kind::StatefulSet, "owner", &of_web)], Some(stateful), 3),
        ("their ReplicationController", vec![selecting(Kind::ReplicationController, "owner", &of_web)], Some(old), 3),
        ("an owner that is not known", vec![], Some(set), 1),
        ("an owner of another kind", vec![selecting(Kind::ReplicaSet, "owner", &of_web)], Some(("batch/v1", "Job")), 1),
    ] {
        assert_eq!(nodes(&objects, &web, owner), expected, "{what}");
    }
}

/// Pods of both versions count for a Service; for their ReplicaSets only those of one.
#[test]
fn service_and_replica_set_must_both_select_the_pods_that_count() {
    let service = selecting(Kind::Service, "s", &json!({ "matchLabels": { "app": "web" } }));
    let set = selecting(Kind::ReplicaSet, "owner", &json!({ "matchLabels": { "app": "web", "version": "2" } }));
    let mut cluster = cluster();
    cluster.see(service);
    cluster.see(set);
    cluster.pod(&labelled("1-old", &json!({ "app": "web", "version": "1" }), None));
    cluster.pod(&labelled("2-new", &json!({ "app": "web", "version": "2" }), Some(("apps/v1", "ReplicaSet"))));
    // The new one counts new ones alone, and so may join the old one.
    let round = cluster.round();
    assert_eq!(bought(&round).len(), 1, "{round:?}");

    // With the Service alone, each counts the other.
    let mut cluster = self::cluster();
    cluster.see(selecting(Kind::Service, "s", &json!({ "matchLabels": { "app": "web" } })));
    cluster.pod(&labelled("1-old", &json!({ "app": "web", "version": "1" }), None));
    cluster.pod(&labelled("2-new", &json!({ "app": "web", "version": "2" }), Some(("apps/v1", "ReplicaSet"))));
    assert_eq!(bought(&cluster.round()).len(), 2);
}

#[test]
fn a_pod_with_a_constraint_of_its_own_has_no_other() {
    let mut cluster = cluster();
    cluster.see(selecting(Kind::Service, "s", &json!({ "matchLabels": { "app": "web" } })));
    let own = json!({ "spec": { "topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }] } });
    for n in 0..3 {
        let mut pod = labelled(&format!("p{n}"), &json!({ "app": "web" }), None);
        merge(&mut pod, &own);
        cluster.pod(&pod);
    }
    assert_eq!(bought(&cluster.round()).len(), 1);
}

#[test]
fn services_of_other_namespaces_say_nothing() {
    let selector = serde_json::from_value(json!({ "matchLabels": { "app": "web" } })).unwrap();
    let other = |namespace: &str| {
        Object::Selecting(Box::new(Selecting {
            kind: Kind::Service,
            namespace: namespace.to_owned(),
            name: "s".to_owned(),
            selector: Some(LabelSelector::clone(&selector)),
        }))
    };
    assert_eq!(nodes(&[other("a"), other("z")], &json!({ "app": "web" }), None), 1);
    assert_eq!(nodes(&[other("a"), other("default")], &json!({ "app": "web" }), None), 3);
}

/// What selects pods is only watched, and awaited, if someone needs it.
#[test]
fn selecting_kinds_are_awaited_only_if_there_are_defaults() {
    let listed = |settings: &Settings, kinds: &[Kind]| {
        let mut world = World::new(settings);
        for kind in kinds {
            world.apply(Observation::Listed { kind: *kind, names: Vec::new() }, Timestamp::UNIX_EPOCH);
        }
        world.unlisted()
    };
    assert_eq!(listed(&Settings::default(), &Kind::ALL), []);
    assert_eq!(listed(&settings(), &Kind::ALL), Kind::SELECTING);
    assert_eq!(listed(&settings(), &[&Kind::ALL[..], &Kind::SELECTING].concat()), []);
}

#[test]
fn what_is_not_listed_any_longer_selects_nothing() {
    let mut cluster = cluster();
    cluster.see(selecting(Kind::Service, "s", &json!({ "matchLabels": { "app": "web" } })));
    cluster.see(selecting(Kind::ReplicaSet, "s", &json!({ "matchLabels": { "app": "web" } })));
    cluster
        .world
        .apply(Observation::Listed { kind: Kind::Service, names: vec!["default/other".to_owned()] }, cluster.now);
    assert_eq!(cluster.world.selectors.len(), 1);
    cluster.gone(selecting(Kind::ReplicaSet, "s", &Value::Null));
    assert_eq!(cluster.world.selectors.len(), 0);
}
