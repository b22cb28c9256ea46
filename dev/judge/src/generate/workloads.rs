//! Pods that wait and pods that run, in workloads of a few that are alike.

use k8s_openapi::api::core::v1::Pod;
use karpenter_api::labels as keys;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{GPU, LANE, NOBODY, RACK, Scope, TEAM, chance, one_of, sometimes};
use crate::{Cluster, pods};

/// A JSON value drawn as such: a term, a toleration, a constraint.
type Drawn = Value;

#[derive(Clone, Debug)]
pub(super) struct DrawnWorkload {
    namespace: &'static str,
    labels: (&'static str, &'static str, &'static str),
    waiting: usize,
    /// Numbers of the nodes that its running pods are on.
    running: Vec<usize>,
    spec: Drawn,
    priority: Option<i32>,
    fate: Fate,
}

/// What else is true of its pods.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Usual,
    /// Running ones are being deleted.
    Ending,
    /// Running ones have ended.
    Ended,
    /// kube-scheduler has not looked at those that wait.
    Unseen,
}

pub(super) fn workload(scope: Scope) -> impl Strategy<Value = DrawnWorkload> {
    let fate = prop_oneof![
        12 => Just(Fate::Usual), 1 => Just(Fate::Ending), 1 => Just(Fate::Ended), 1 => Just(Fate::Unseen)
    ];
    (
        prop_oneof![4 => Just("default"), 1 => Just("other")],
        (one_of(&["a", "b", "c"]), one_of(&["front", "back"]), one_of(&["h1", "h2"])),
        1_usize..=6,
        prop_oneof![3 => Just(Vec::new()), 2 => vec(0_usize..6, 1..=3)],
        spec(scope),
        sometimes(25, prop_oneof![Just(-5), Just(7), Just(100)]),
        fate,
    )
        .prop_map(|(namespace, labels, waiting, running, spec, priority, fate)| DrawnWorkload {
            namespace,
            labels,
            waiting,
            running,
            spec,
            priority,
            fate,
        })
}

fn spec(scope: Scope) -> impl Strategy<Value = Drawn> {
    let place = (
        sometimes(20, node_selector()),
        sometimes(20, vec(node_term(scope), 1..=3)),
        sometimes(15, vec(node_term(scope), 1..=2)),
        vec(toleration(), 0..=2),
    );
    let others = (
        prop_oneof![5 => Just(Vec::new()), 2 => vec(spread(), 1..=1), 1 => vec(spread(), 2..=2)],
        sometimes(12, vec(pod_term(scope), 1..=2)),
        sometimes(15, vec(pod_term(scope), 1..=2)),
        sometimes(10, vec(pod_term(scope), 1..=2)),
        sometimes(10, vec(pod_term(scope), 1..=2)),
    );
    (containers(scope), place, others).prop_map(|(mut spec, place, others)| {
        let (selector, required, preferred, tolerations) = place;
        let (spreads, together, apart, near, far) = others;
        let weighted = |terms: Option<Vec<Drawn>>, field: &str| {
            let terms = terms.unwrap_or_default().into_iter().enumerate();
            terms.map(|(at, term)| json!({ "weight": 10 + at, field: term })).collect::<Vec<_>>()
        };
        if let Some((key, value)) = selector {
            spec["nodeSelector"] = json!({ key: value });
        }
        let mut affinity = json!({});
        if let Some(terms) = required {
            let required = json!({ "nodeSelectorTerms": terms });
            affinity["nodeAffinity"] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
        }
        let preferred = weighted(preferred, "preference");
        if !preferred.is_empty() {
            affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = preferred.into();
        }
        // Where nodes lack the label of one term of several, kube-scheduler's exception for the first pod of a group is
        // not followed: the terms speak of one label.
        let together = together.map(|mut terms| {
            for at in 1..terms.len() {
                terms[at]["topologyKey"] = terms[0]["topologyKey"].clone();
            }
            terms
        });
        for (field, required, preferred) in [("podAffinity", together, near), ("podAntiAffinity", apart, far)] {
            if let Some(terms) = required {
                affinity[field]["requiredDuringSchedulingIgnoredDuringExecution"] = terms.into();
            }
            let preferred = weighted(preferred, "podAffinityTerm");
            if !preferred.is_empty() {
                affinity[field]["preferredDuringSchedulingIgnoredDuringExecution"] = preferred.into();
            }
        }
        if affinity != json!({}) {
            spec["affinity"] = affinity;
        }
        spec["tolerations"] = tolerations.into();
        // Two spreads over one key with one `whenUnsatisfiable` are refused by the API server.
        let mut kept: Vec<Drawn> = Vec::new();
        for one in spreads {
            let same =
                |known: &Drawn| ["topologyKey", "whenUnsatisfiable"].iter().all(|field| known[*field] == one[*field]);
            if !kept.iter().any(same) {
                kept.push(one);
            }
        }
        spec["topologySpreadConstraints"] = kept.into();
        spec
    })
}

fn containers(scope: Scope) -> impl Strategy<Value = Drawn> {
    let amount = if scope.odd {
        one_of(&["100m", "1", "-1", "abc", "1e400", "9223372036854775807", "16Ei", "0.0000000001", "1e-30", ""]).boxed()
    } else {
        one_of(&["0", "100m", "250m", "500m", "1", "1500m", "3", "7", "30"]).boxed()
    };
    (
        amount,
        one_of(&["64Mi", "500Mi", "1Gi", "1.5G", "4Gi", "12Gi"]),
        sometimes(8, one_of(&["1", "2"])),
        sometimes(12, (one_of(&["sidecar", "init", "both"]), one_of(&["200m", "2"]))),
        sometimes(6, one_of(&["150m", "1"])),
        sometimes(6, one_of(&["800m", "2"])),
        sometimes(15, (8080..=8082, one_of(&["", "127.0.0.1", "10.0.0.1"]), one_of(&["TCP", "UDP"]), any::<bool>())),
    )
        .prop_map(|(cpu, memory, gpu, start, overhead, whole, port)| {
            let mut main = json!({ "name": "main", "resources": { "requests": { "cpu": cpu, "memory": memory } } });
            if let Some(gpu) = gpu {
                main["resources"]["requests"][GPU] = gpu.into();
            }
            let mut inits: Vec<Value> = Vec::new();
            if let Some((which, cpu)) = start {
                let one = |name: &str| json!({ "name": name, "resources": { "requests": { "cpu": cpu } } });
                if which != "init" {
                    let mut side = one("side");
                    side["restartPolicy"] = "Always".into();
                    inits.push(side);
                }
                if which != "sidecar" {
                    inits.push(one("init"));
                }
            }
            if let Some((port, ip, protocol, of_sidecar)) = port {
                let ports = json!([{ "containerPort": port, "hostPort": port, "hostIP": ip, "protocol": protocol }]);
                match inits.first_mut() {
                    Some(init) if of_sidecar => init["ports"] = ports,
                    _ => main["ports"] = ports,
                }
            }
            let mut spec = json!({ "containers": [main], "initContainers": inits });
            if let Some(cpu) = overhead {
                spec["overhead"] = json!({ "cpu": cpu });
            }
            if let Some(cpu) = whole {
                spec["resources"] = json!({ "requests": { "cpu": cpu } });
            }
            spec
        })
}

fn node_selector() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        3 => (Just(keys::ZONE), one_of(&["z-a", "z-b", "z-c", "z-nowhere"])),
        2 => (Just(keys::ARCH), one_of(&["amd64", "arm64"])),
        2 => (Just(keys::CAPACITY_TYPE), one_of(&["spot", "on-demand"])),
        2 => (Just(TEAM), one_of(&["red", "blue", "green"])),
        1 => (Just(RACK), one_of(&["r1", "r2", "5"])),
        1 => (Just(keys::HOSTNAME), one_of(&["host-0", "host-1"])),
        1 => (Just(keys::NODEPOOL), one_of(&["p0", "p1"])),
        1 => Just((NOBODY, "x")),
    ]
}

fn node_term(scope: Scope) -> impl Strategy<Value = Drawn> {
    let good = vec(expression(), 1..=2).prop_map(|expressions| json!({ "matchExpressions": expressions }));
    if !scope.odd {
        return good.boxed();
    }
    let bad = |expression: Value| Just(json!({ "matchExpressions": [expression] }));
    prop_oneof![
        6 => good,
        1 => bad(json!({ "key": keys::ZONE, "operator": "Perhaps", "values": ["z-a"] })),
        1 => bad(json!({ "key": keys::INSTANCE_CPU, "operator": "Gt", "values": ["many"] })),
        1 => bad(json!({ "key": keys::INSTANCE_CPU, "operator": "Lt", "values": [] })),
        1 => bad(json!({ "key": keys::ZONE, "operator": "In", "values": [] })),
        1 => Just(json!({})),
        1 => Just(json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n0"] }] })),
        1 => Just(json!({
            "matchExpressions": [{ "key": keys::ZONE, "operator": "Exists" }],
            "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n0"] }],
        })),
    ]
    .boxed()
}

fn expression() -> impl Strategy<Value = Drawn> {
    let of = |key: &'static str, operator: &'static str, values: &'static [&'static str]| {
        Just(json!({ "key": key, "operator": operator, "values": (!values.is_empty()).then_some(values) }))
    };
    prop_oneof![
        of(keys::ZONE, "In", &["z-a", "z-b"]),
        of(keys::ZONE, "NotIn", &["z-a"]),
        of(keys::ARCH, "NotIn", &["arm64"]),
        of(keys::CAPACITY_TYPE, "In", &["spot"]),
        of(TEAM, "In", &["red", "green"]),
        of(TEAM, "NotIn", &["red"]),
        of(TEAM, "Exists", &[]),
        of(LANE, "Exists", &[]),
        of(LANE, "NotIn", &["1"]),
        of(TEAM, "DoesNotExist", &[]),
        of(RACK, "Exists", &[]),
        of(RACK, "Gt", &["2"]),
        of(NOBODY, "DoesNotExist", &[]),
        of(NOBODY, "NotIn", &["x"]),
        of(NOBODY, "Exists", &[]),
        of(keys::INSTANCE_CPU, "Gt", &["2"]),
        of(keys::INSTANCE_CPU, "Lt", &["8"]),
        of(keys::INSTANCE_GPU_NAME, "Exists", &[]),
        of(keys::INSTANCE_GPU_NAME, "DoesNotExist", &[]),
        of(keys::INSTANCE_FAMILY, "NotIn", &["fa", "fb"]),
        of(keys::HOSTNAME, "NotIn", &["host-0"]),
        of(keys::HOSTNAME, "In", &["host-0", "host-1"]),
    ]
}

fn toleration() -> impl Strategy<Value = Drawn> {
    prop_oneof![
        Just(json!({ "operator": "Exists" })),
        Just(json!({ "key": "dedicated", "operator": "Exists" })),
        Just(json!({ "key": "dedicated", "operator": "Equal", "value": "yes", "effect": "NoSchedule" })),
        Just(json!({ "key": "dedicated", "value": "no" })),
        Just(json!({ "key": "special", "operator": "Equal", "value": "yes" })),
        Just(json!({ "key": "special", "operator": "Exists", "effect": "NoExecute" })),
    ]
}

fn topology_key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => Just(keys::ZONE), 4 => Just(keys::HOSTNAME), 1 => Just(keys::CAPACITY_TYPE), 1 => Just(keys::ARCH),
        1 => Just(TEAM), 1 => Just(RACK),
    ]
}

/// Whom a rule means: often the pods of one workload.
fn selector() -> impl Strategy<Value = Drawn> {
    prop_oneof![
        6 => one_of(&["a", "b", "c"]).prop_map(|app| json!({ "matchLabels": { "app": app } })),
        2 => one_of(&["front", "back"]).prop_map(|tier| json!({ "matchLabels": { "tier": tier } })),
        1 => Just(json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["a"] }] })),
        1 => Just(json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["a", "b"] }] })),
        1 => Just(json!({ "matchExpressions": [{ "key": "daemon", "operator": "Exists" }] })),
        1 => Just(json!({})),
    ]
}

fn spread() -> impl Strategy<Value = Drawn> {
    (
        topology_key(),
        1..=2,
        prop_oneof![4 => Just("DoNotSchedule"), 1 => Just("ScheduleAnyway")],
        selector(),
        sometimes(20, 1..=4),
        sometimes(20, one_of(&["Honor", "Ignore"])),
        sometimes(40, one_of(&["Honor", "Honor", "Ignore"])),
        sometimes(25, one_of(&["hash", "hash", "absent"])),
    )
        .prop_map(|(key, skew, when, selector, domains, affinity, taints, keys)| {
            json!({
                "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": when, "labelSelector": selector,
                // The API server takes it with DoNotSchedule alone.
                "minDomains": domains.filter(|_| when == "DoNotSchedule"),
                "nodeAffinityPolicy": affinity, "nodeTaintsPolicy": taints,
                "matchLabelKeys": keys.map(|key| [key]),
            })
        })
}

fn pod_term(scope: Scope) -> impl Strategy<Value = Drawn> {
    let by_labels = if scope.odd { 30 } else { 0 };
    (topology_key(), selector(), sometimes(15, one_of(&["default", "other"])), chance(10), chance(by_labels)).prop_map(
        |(key, selector, namespace, everywhere, by_labels)| {
            let mut term = json!({ "topologyKey": key, "labelSelector": selector });
            if let Some(namespace) = namespace {
                term["namespaces"] = json!([namespace]);
            }
            if by_labels {
                term["namespaceSelector"] = json!({ "matchLabels": { "name": "other" } });
            } else if everywhere {
                term["namespaceSelector"] = json!({});
            }
            term
        },
    )
}

pub(super) fn build(cluster: &mut Cluster, at: usize, drawn: &DrawnWorkload, pods_max: usize) {
    let (app, tier, hash) = drawn.labels;
    let mut pod: Pod = super::read(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": drawn.namespace, "labels": { "app": app, "tier": tier, "hash": hash } },
        "spec": drawn.spec,
    }));
    if let Some(spec) = &mut pod.spec {
        spec.priority = drawn.priority;
    }
    let named = |number: usize| {
        let mut pod = pod.clone();
        pod.metadata.name = Some(format!("w{at}-{number}"));
        pod.metadata.uid = Some(format!("pod-{at}-{number}"));
        pod
    };
    // Labels of namespaces are not watched yet: what running pods refuse by them is not known.
    let by_labels = drawn.spec.to_string().contains(r#""namespaceSelector":{"matchLabels""#);
    for (number, node) in drawn.running.iter().enumerate().filter(|_| !by_labels) {
        let Some(node) = node.checked_rem(cluster.nodes.len()).and_then(|at| cluster.nodes.get(at)) else { continue };
        let mut pod = named(100 + number);
        if let Some(spec) = &mut pod.spec {
            spec.node_name.clone_from(&node.metadata.name);
        }
        let phase = if drawn.fate == Fate::Ended { "Succeeded" } else { "Running" };
        pod.status = Some(super::read(json!({ "phase": phase })));
        if drawn.fate == Fate::Ending {
            pod.metadata.deletion_timestamp = Some(super::read(json!("1970-01-01T00:00:00Z")));
        }
        cluster.pods.push(pod);
    }
    let waiting = cluster.pods.iter().filter(|pod| pods::node_of(pod).is_none()).count();
    for number in 0..drawn.waiting.min(pods_max.saturating_sub(waiting)) {
        let mut pod = named(number);
        let reason = if drawn.fate == Fate::Unseen { "SchedulingGated" } else { "Unschedulable" };
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": reason });
        pod.status = Some(super::read(json!({ "phase": "Pending", "conditions": [condition] })));
        cluster.pods.push(pod);
    }
}
