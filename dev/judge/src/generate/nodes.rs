//! Nodes with their claims, claims whose node is still to come, and DaemonSets.

use std::collections::BTreeMap;

use karpenter_api::{NodeClaim, labels as keys};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{RACK, TEAM, ZONES, chance, kind_at, one_of, sometimes};
use crate::{Cluster, claims};

#[derive(Clone, Debug)]
pub(super) struct DrawnNode {
    kind: usize,
    zone: usize,
    spot: bool,
    stage: Stage,
    label: Option<(&'static str, &'static str)>,
    taint: Option<(&'static str, &'static str)>,
    cordoned: bool,
    pool: usize,
    bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nobody's node.
    Foreign,
    Initialized,
    Registered,
    /// Its Node is there, its claim's labels are not on it yet, but the kubelet has it.
    Joined,
    /// Launched; no Node yet.
    Launched,
}

pub(super) fn node() -> impl Strategy<Value = DrawnNode> {
    let stage = prop_oneof![
        2 => Just(Stage::Foreign), 5 => Just(Stage::Initialized), 1 => Just(Stage::Registered),
        1 => Just(Stage::Joined), 1 => Just(Stage::Launched),
    ];
    (
        any::<prop::sample::Index>(),
        0..ZONES.len(),
        any::<bool>(),
        stage,
        sometimes(30, prop_oneof![Just((TEAM, "red")), Just((RACK, "r1")), Just((RACK, "5"))]),
        sometimes(15, (one_of(&["dedicated", "special"]), one_of(&["NoSchedule", "NoExecute", "PreferNoSchedule"]))),
        chance(8),
        any::<prop::sample::Index>(),
        chance(5),
    )
        .prop_map(|(kind, zone, spot, stage, label, taint, cordoned, pool, bare)| DrawnNode {
            kind: kind.index(64),
            zone,
            spot,
            stage,
            label,
            taint,
            cordoned,
            pool: pool.index(64),
            bare,
        })
}

pub(super) fn build(cluster: &mut Cluster, at: usize, drawn: &DrawnNode) {
    let Some(kind) = kind_at(&cluster.kinds, drawn.kind).cloned() else { return };
    let name = format!("n{at}");
    let mut labels = kind.labels.clone();
    labels.insert(keys::INSTANCE_TYPE.to_owned(), kind.name.clone());
    labels.insert(keys::ZONE.to_owned(), ZONES[drawn.zone].to_owned());
    labels.insert(keys::CAPACITY_TYPE.to_owned(), if drawn.spot { "spot" } else { "on-demand" }.to_owned());
    let mut taints: Vec<Value> =
        drawn.taint.iter().map(|(key, effect)| json!({ "key": key, "value": "yes", "effect": effect })).collect();
    if drawn.cordoned {
        taints.push(json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }));
    }
    let allocatable = quantities(&kind.allocatable);
    let mut on_node = allocatable.clone();
    if drawn.stage != Stage::Foreign {
        let pool = cluster.pools[drawn.pool % cluster.pools.len()].clone();
        labels.extend(claims::labels_of(&pool));
        labels.extend(drawn.label.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let of_pool = &pool.spec.template.spec;
        let startup = of_pool.startup_taints.clone().unwrap_or_default();
        let has_node = drawn.stage != Stage::Launched;
        let claim: NodeClaim = super::read(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": format!("c{at}"), "uid": format!("claim-{at}"), "labels": labels },
            "spec": {
                "requirements": [], "nodeClassRef": of_pool.node_class_ref,
                "taints": of_pool.taints, "startupTaints": of_pool.startup_taints,
            },
            "status": {
                "providerID": format!("aws:///z/i-{at}"), "nodeName": has_node.then_some(&name),
                "capacity": quantities(&kind.capacity), "allocatable": allocatable,
            },
        }));
        taints.extend(of_pool.taints.iter().flatten().map(|taint| json!(taint)));
        if drawn.stage == Stage::Initialized {
            labels.insert(keys::INITIALIZED.to_owned(), "true".to_owned());
        } else {
            // It starts: not all of it is reported, and everything keeps off it for a while.
            on_node.remove("pods");
            on_node.insert("memory".to_owned(), "0".into());
            taints.extend(startup.iter().map(|taint| json!(taint)));
            taints.push(json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }));
        }
        match drawn.stage {
            Stage::Joined => taints.push(json!({ "key": "karpenter.sh/unregistered", "effect": "NoExecute" })),
            _ => drop(labels.insert(keys::REGISTERED.to_owned(), "true".to_owned())),
        }
        cluster.claims.push(claim);
        if !has_node {
            return;
        }
    } else if drawn.bare {
        labels.clear();
    }
    labels.insert(keys::HOSTNAME.to_owned(), format!("host-{at}"));
    let id = (drawn.stage != Stage::Foreign).then(|| format!("aws:///z/i-{at}"));
    cluster.nodes.push(super::read(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": format!("node-{at}"), "labels": labels },
        "spec": { "providerID": id, "taints": taints, "unschedulable": drawn.cordoned.then_some(true) },
        "status": {
            "allocatable": on_node, "capacity": on_node,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })));
}

fn quantities(of: &BTreeMap<String, i64>) -> BTreeMap<String, String> {
    let text = |name: &str, amount: i64| if name == "cpu" { format!("{amount}m") } else { amount.to_string() };
    of.iter().map(|(name, amount)| (name.clone(), text(name, *amount))).collect()
}

#[derive(Clone, Debug)]
pub(super) struct DrawnDaemon {
    cpu: &'static str,
    memory: &'static str,
    selector: Option<(&'static str, &'static str)>,
    tolerates: bool,
    port: Option<i32>,
    limits_only: bool,
    /// Nodes that have its pod already.
    there: Vec<bool>,
}

pub(super) fn daemon() -> impl Strategy<Value = DrawnDaemon> {
    let selector = prop_oneof![
        Just((keys::ARCH, "amd64")),
        Just((keys::ZONE, "z-a")),
        Just((TEAM, "red")),
        Just((keys::CAPACITY_TYPE, "spot")),
    ];
    (
        one_of(&["50m", "300m", "1"]),
        one_of(&["64Mi", "1Gi"]),
        sometimes(40, selector),
        chance(60),
        sometimes(20, 8080..=8081),
        chance(20),
        vec(any::<bool>(), 6),
    )
        .prop_map(|(cpu, memory, selector, tolerates, port, limits_only, there)| DrawnDaemon {
            cpu,
            memory,
            selector,
            tolerates,
            port,
            limits_only,
            there,
        })
}

pub(super) fn build_daemon(cluster: &mut Cluster, at: usize, drawn: &DrawnDaemon) {
    let amounts = json!({ "cpu": drawn.cpu, "memory": drawn.memory });
    let mut container = json!({ "name": "d", "resources": { "requests": amounts } });
    if drawn.limits_only {
        container["resources"] = json!({ "limits": amounts });
    }
    if let Some(port) = drawn.port {
        container["ports"] = json!([{ "containerPort": port, "hostPort": port }]);
    }
    let mut spec = json!({ "containers": [container] });
    if let Some((key, value)) = drawn.selector {
        spec["nodeSelector"] = json!({ key: value });
    }
    if drawn.tolerates {
        spec["tolerations"] = json!([{ "operator": "Exists" }]);
    }
    let (name, uid) = (format!("d{at}"), format!("daemon-{at}"));
    cluster.daemons.push(super::read(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": name, "namespace": "default", "uid": uid },
        "spec": {
            "selector": { "matchLabels": { "daemon": name } },
            "template": { "metadata": { "labels": { "daemon": name } }, "spec": spec },
        },
    })));
    spec["containers"][0]["resources"] = json!({ "requests": amounts });
    for (node, there) in cluster.nodes.clone().iter().zip(&drawn.there) {
        let node = node.metadata.name.clone().unwrap_or_default();
        if !there {
            continue;
        }
        spec["nodeName"] = json!(node);
        cluster.pods.push(super::read(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-{node}"), "namespace": "default", "uid": format!("{uid}-{node}"),
                "labels": { "daemon": name },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "uid": uid }],
            },
            "spec": spec, "status": { "phase": "Running" },
        })));
    }
}
