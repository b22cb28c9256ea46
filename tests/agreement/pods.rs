//! Random pods: every kind of constraint that kube-scheduler knows, several at a time.

use karpenter_api::labels;
use serde_json::{Map, Value, json};

use crate::cloud::{ARCHS, CAPACITY_TYPES, FAMILIES, FPGA, ZONES};
use crate::dice::Dice;
use crate::storage::DISKS;
use crate::workload::{NAMESPACES, RACK, RUNTIME, TAINTS, TEAM, TEAMS, label};

/// The port of daemons. Pods that run from the start leave it alone: a daemon may come later than they.
pub(crate) const DAEMON_PORT: u16 = 9090;
const PORTS: [u16; 3] = [8080, 8081, DAEMON_PORT];

/// On a pod: the kinds of constraints it has.
pub(crate) const KINDS: &str = "agreement.karpenter-rs.dev/kinds";

/// What every run must have placed at least one pod with.
pub(crate) const ALL_KINDS: [&str; 43] = [
    "plain requests",
    "init container",
    "sidecar",
    "overhead",
    "pod-level resources",
    "extended resource",
    "ephemeral storage",
    "node selector",
    "affinity In",
    "affinity NotIn",
    "affinity Exists",
    "affinity DoesNotExist",
    "affinity Gt",
    "affinity Lt",
    "affinity terms",
    "matchFields",
    "preferred node affinity",
    "toleration Equal",
    "toleration Exists",
    "toleration of everything",
    "zone spread",
    "hostname spread",
    "other spread",
    "soft spread",
    "minDomains",
    "nodeAffinityPolicy",
    "nodeTaintsPolicy",
    "matchLabelKeys",
    "empty selector",
    "pod affinity zone",
    "pod affinity hostname",
    "pod affinity terms",
    "pod anti-affinity zone",
    "pod anti-affinity hostname",
    "namespaces",
    "namespaceSelector",
    "namespaceSelector by labels",
    "preferred pod affinity",
    "preferred pod anti-affinity",
    "host port",
    "sidecar host port",
    "volume",
    "several volumes",
];

/// In the metadata of a pod that is being deleted: how many seconds it has. (The API server ignores it in a new pod.)
pub(crate) const ENDS_IN: &str = "deletionGracePeriodSeconds";

const GATE: &str = "agreement.karpenter-rs.dev/planned";
const TIERS: [&str; 3] = ["web", "db", "cache"];

struct Pod {
    namespace: &'static str,
    labels: Map<String, Value>,
    spec: Value,
    kinds: Vec<&'static str>,
}

impl Pod {
    fn is(&mut self, kind: &'static str) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }

    /// Adds to a list in the spec.
    fn push(&mut self, pointer: &[&str], value: Value) {
        let list = pointer.iter().fold(&mut self.spec, |at, key| &mut at[*key]);
        match list.as_array_mut() {
            Some(list) => list.push(value),
            None => *list = json!([value]),
        }
    }

    fn object(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": self.namespace, "labels": self.labels,
                "annotations": { KINDS: self.kinds.join(", ") },
            },
            "spec": self.spec,
        })
    }
}

/// Replicas of one of `apps` apps.
pub(crate) fn app(dice: &mut Dice, at: usize, apps: usize) -> Vec<Value> {
    let namespace = if dice.chance(75) { NAMESPACES[0].0 } else { NAMESPACES[1].0 };
    let own = json!({ "app": format!("a{at}"), "tier": dice.pick(&TIERS) });
    let mut pod = Pod {
        namespace,
        labels: own.as_object().cloned().unwrap_or_default(),
        spec: json!({ "schedulingGates": [{ "name": GATE }], "terminationGracePeriodSeconds": 0 }),
        kinds: Vec::new(),
    };
    requests(dice, &mut pod);
    for _ in 0..dice.within(0, 3) {
        let add = *dice.pick(&CONSTRAINTS);
        add(dice, &mut pod, at, apps);
    }
    // Where pools and nodes are tainted, few pods without tolerations would ever meet them.
    if dice.chance(25) {
        tolerations(dice, &mut pod, at, apps);
    }
    let versions = dice.within(1, 2);
    let replicas = dice.within(1, 7);
    let mut all = Vec::new();
    for number in 0..replicas {
        pod.labels.insert("version".to_owned(), json!(format!("v{}", number % versions)));
        all.push(pod.object(&format!("a{at}-{number}")));
    }
    all
}

/// Small pods on a node that is there; some keep others away.
pub(crate) fn running(dice: &mut Dice, node: &Value, apps: usize) -> Vec<Value> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let mut all = Vec::new();
    for number in 0..dice.within(0, 4) {
        let app = dice.below(apps);
        let mut pod = Pod {
            namespace: dice.pick(&NAMESPACES).0,
            labels: json!({ "app": format!("a{app}"), "tier": dice.pick(&TIERS), "version": "v0" })
                .as_object()
                .cloned()
                .unwrap_or_default(),
            spec: json!({
                "nodeName": name, "terminationGracePeriodSeconds": 0, "tolerations": [{ "operator": "Exists" }],
                "containers": [{
                    "name": "main", "image": "pause",
                    "resources": { "requests": amounts(dice, 8) },
                }],
            }),
            kinds: Vec::new(),
        };
        if dice.chance(40) {
            let key =
                if label(node, labels::ZONE).is_empty() || dice.chance(60) { labels::HOSTNAME } else { labels::ZONE };
            let term = term(dice, &mut pod, key, app, apps);
            pod.push(&["affinity", "podAntiAffinity", REQUIRED], term);
        }
        if number == 0 && dice.chance(30) {
            pod.spec["containers"][0]["ports"] = json!([port(dice, &PORTS[..2])]);
        }
        if dice.chance(15) {
            volumes(dice, &mut pod, 0, 0);
        }
        let mut object = pod.object(&format!("{name}-{number}"));
        match dice.within(0, 9) {
            0 => object["status"] = json!({ "phase": dice.pick(&["Succeeded", "Failed"]) }),
            1 => object["metadata"][ENDS_IN] = json!(600),
            _ => {}
        }
        all.push(object);
    }
    all
}

type Constraint = fn(&mut Dice, &mut Pod, usize, usize);

/// The same one may be drawn twice: lists grow.
const CONSTRAINTS: [Constraint; 14] = [
    node_selector,
    node_affinity,
    node_affinity,
    preferred_node_affinity,
    tolerations,
    spread,
    spread,
    spread,
    pod_affinity,
    pod_anti_affinity,
    pod_anti_affinity,
    preferred_pods,
    host_ports,
    volumes,
];

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

// ── resources ──

fn amounts(dice: &mut Dice, most: u32) -> Value {
    json!({
        "cpu": format!("{}m", dice.within(1, most) * 50),
        "memory": format!("{}Mi", dice.within(1, most) * 64),
    })
}

fn requests(dice: &mut Dice, pod: &mut Pod) {
    let most = *dice.pick(&[6, 20, 60]);
    let container =
        |requests: Value| json!({ "name": "main", "image": "pause", "resources": { "requests": requests } });
    pod.spec["containers"] = json!([container(amounts(dice, most))]);
    match dice.within(0, 11) {
        0 | 1 => {
            pod.is("init container");
            let mut one = container(amounts(dice, most * 2));
            one["name"] = json!("init");
            pod.push(&["initContainers"], one);
        }
        2 | 3 => {
            pod.is("sidecar");
            for name in ["side-a", "init", "side-b"].iter().take(dice.below(3) + 1) {
                let mut one = container(amounts(dice, most));
                one["name"] = json!(name);
                if *name != "init" {
                    one["restartPolicy"] = json!("Always");
                }
                if *name == "side-a" && dice.chance(30) {
                    pod.is("sidecar host port");
                    one["ports"] = json!([port(dice, &PORTS)]);
                }
                pod.push(&["initContainers"], one);
            }
        }
        4 => {
            pod.is("overhead");
            pod.spec["runtimeClassName"] = json!(RUNTIME);
        }
        5 => {
            pod.is("pod-level resources");
            pod.spec["resources"] = json!({ "requests": amounts(dice, most) });
            pod.spec["containers"] = json!([{ "name": "main", "image": "pause" }]);
            if dice.chance(50) {
                pod.spec["containers"][0]["resources"] = json!({ "requests": { "cpu": "10m" } });
                pod.spec["resources"]["requests"]["cpu"] = json!("900m");
            }
        }
        6 => {
            pod.is("extended resource");
            let count = json!({ FPGA: dice.within(1, 2).to_string() });
            pod.spec["containers"][0]["resources"]["limits"] = count;
        }
        7 => {
            pod.is("ephemeral storage");
            let amount = format!("{}Gi", dice.within(1, 15));
            pod.spec["containers"][0]["resources"]["requests"]["ephemeral-storage"] = json!(amount);
        }
        _ => pod.is("plain requests"),
    }
}

// ── nodes ──

fn node_selector(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    pod.is("node selector");
    let (key, value) = match dice.within(0, 5) {
        0 => (labels::ARCH, *dice.pick(&ARCHS)),
        5 => ("beta.kubernetes.io/arch", *dice.pick(&ARCHS)),
        1 => (labels::ZONE, *dice.pick(&ZONES[..2])),
        2 => (labels::CAPACITY_TYPE, *dice.pick(&CAPACITY_TYPES)),
        3 => (labels::INSTANCE_FAMILY, *dice.pick(&FAMILIES)),
        _ => (TEAM, *dice.pick(&TEAMS)),
    };
    pod.spec["nodeSelector"][key] = json!(value);
}

fn expression(dice: &mut Dice, pod: &mut Pod) -> Value {
    let of = |key: &str, operator: &str, values: Vec<&str>| match values.as_slice() {
        [] => json!({ "key": key, "operator": operator }),
        _ => json!({ "key": key, "operator": operator, "values": values }),
    };
    let set = *dice.pick(&["In", "NotIn"]);
    let is_set = if set == "In" { "affinity In" } else { "affinity NotIn" };
    match dice.within(0, 9) {
        0 | 1 => {
            pod.is(is_set);
            of(labels::ZONE, set, dice.some(&ZONES[..3]))
        }
        2 => {
            pod.is(is_set);
            of(TEAM, set, dice.some(&TEAMS))
        }
        3 => {
            pod.is(is_set);
            let (key, values) = if dice.chance(50) {
                (labels::CAPACITY_TYPE, dice.some(&CAPACITY_TYPES))
            } else {
                (labels::INSTANCE_FAMILY, dice.some(&FAMILIES))
            };
            of(key, set, values)
        }
        4 => {
            pod.is("affinity Exists");
            let key = *dice.pick(&[TEAM, RACK, labels::ZONE_ID, labels::INSTANCE_MEMORY]);
            of(key, "Exists", Vec::new())
        }
        5 => {
            pod.is("affinity DoesNotExist");
            let key = *dice.pick(&[TEAM, RACK, labels::INSTANCE_GPU_COUNT, "nobody/has"]);
            of(key, "DoesNotExist", Vec::new())
        }
        6 => {
            pod.is("affinity Gt");
            let (key, bound) = *dice.pick(&[(labels::INSTANCE_CPU, "2"), (labels::INSTANCE_CPU, "7"), (RACK, "1")]);
            of(key, "Gt", vec![bound])
        }
        7 => {
            pod.is("affinity Lt");
            let (key, bound) =
                *dice.pick(&[(labels::INSTANCE_CPU, "9"), (labels::INSTANCE_GENERATION, "7"), (RACK, "10")]);
            of(key, "Lt", vec![bound])
        }
        8 => {
            pod.is("affinity NotIn");
            of("nobody/has", "NotIn", vec!["any"])
        }
        _ => {
            pod.is(is_set);
            of(labels::ARCH, set, vec![*dice.pick(&ARCHS)])
        }
    }
}

fn node_term(dice: &mut Dice, pod: &mut Pod) -> Value {
    let all: Vec<Value> = (0..dice.within(1, 2)).map(|_| expression(dice, pod)).collect();
    let mut term = json!({ "matchExpressions": all });
    if dice.chance(6) {
        pod.is("matchFields");
        let operator = *dice.pick(&["In", "NotIn"]);
        term["matchFields"] = json!([{ "key": "metadata.name", "operator": operator, "values": ["old-0"] }]);
        if dice.chance(50) {
            term["matchExpressions"] = json!(null);
        }
    }
    term
}

fn node_affinity(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    if dice.chance(40) {
        pod.is("affinity terms");
        let one = node_term(dice, pod);
        pod.push(&["affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"], one);
    }
    let one = node_term(dice, pod);
    pod.push(&["affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"], one);
}

fn preferred_node_affinity(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    pod.is("preferred node affinity");
    let known = pod.kinds.len();
    let preference = node_term(dice, pod);
    pod.kinds.truncate(known);
    let weighted = json!({ "weight": dice.within(1, 100), "preference": preference });
    pod.push(&["affinity", "nodeAffinity", PREFERRED], weighted);
}

fn tolerations(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    let (key, value, effect) = *dice.pick(&TAINTS);
    let one = match dice.within(0, 5) {
        0 | 1 => {
            pod.is("toleration Equal");
            json!({ "key": key, "operator": "Equal", "value": value, "effect": effect })
        }
        2 => {
            pod.is("toleration Equal");
            json!({ "key": key, "value": value })
        }
        3 => {
            pod.is("toleration Exists");
            json!({ "key": key, "operator": "Exists" })
        }
        4 => {
            pod.is("toleration Exists");
            json!({ "key": key, "operator": "Exists", "effect": effect })
        }
        _ => {
            pod.is("toleration of everything");
            json!({ "operator": "Exists" })
        }
    };
    pod.push(&["tolerations"], one);
}

// ── other pods ──

/// Pods of the own app, of another or of a tier.
fn selector(dice: &mut Dice, own: &str, at: usize, apps: usize, tier: &Value) -> Value {
    let other = format!("a{}", dice.below(apps));
    match dice.within(0, 9) {
        0..=5 => json!({ "matchLabels": { "app": own } }),
        6 => json!({ "matchLabels": { "app": other } }),
        7 => json!({ "matchLabels": { "tier": tier } }),
        8 => json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": [format!("a{at}"), other] }] }),
        _ => json!({ "matchExpressions": [
            { "key": "tier", "operator": "NotIn", "values": [dice.pick(&TIERS)] },
            { "key": "app", "operator": "Exists" },
        ]}),
    }
}

fn spread(dice: &mut Dice, pod: &mut Pod, at: usize, apps: usize) {
    let key = match dice.within(0, 9) {
        0..=3 => {
            pod.is("zone spread");
            labels::ZONE
        }
        4 => {
            pod.is("zone spread");
            "failure-domain.beta.kubernetes.io/zone"
        }
        5..=7 => {
            pod.is("hostname spread");
            labels::HOSTNAME
        }
        _ => {
            pod.is("other spread");
            *dice.pick(&[labels::CAPACITY_TYPE, labels::ARCH, TEAM])
        }
    };
    let hard = dice.chance(80);
    let when = if hard { "DoNotSchedule" } else { "ScheduleAnyway" };
    let taken = pod.spec["topologySpreadConstraints"].as_array();
    if taken.into_iter().flatten().any(|one| one["topologyKey"] == key && one["whenUnsatisfiable"] == when) {
        return;
    }
    let tier = pod.labels["tier"].clone();
    let mut one = json!({
        "topologyKey": key, "maxSkew": dice.pick(&[1, 1, 2, 3]), "whenUnsatisfiable": when,
        "labelSelector": selector(dice, &format!("a{at}"), at, apps, &tier),
    });
    if hard {
        if dice.chance(35) {
            pod.is("minDomains");
            one["minDomains"] = json!(dice.within(1, 4));
        }
    } else {
        pod.is("soft spread");
    }
    if dice.chance(35) {
        pod.is("nodeAffinityPolicy");
        one["nodeAffinityPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    if dice.chance(35) {
        pod.is("nodeTaintsPolicy");
        one["nodeTaintsPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    if dice.chance(25) {
        pod.is("matchLabelKeys");
        one["matchLabelKeys"] = json!(["version"]);
    }
    if dice.chance(5) {
        pod.is("empty selector");
        one["labelSelector"] = json!({});
    }
    pod.push(&["topologySpreadConstraints"], one);
}

fn term(dice: &mut Dice, pod: &mut Pod, key: &str, at: usize, apps: usize) -> Value {
    let tier = pod.labels["tier"].clone();
    let mut one = json!({ "topologyKey": key, "labelSelector": selector(dice, &format!("a{at}"), at, apps, &tier) });
    match dice.within(0, 9) {
        0 | 1 => {
            pod.is("namespaces");
            one["namespaces"] = json!(dice.some(&NAMESPACES.map(|(name, _)| name)));
        }
        2 => {
            pod.is("namespaceSelector");
            one["namespaceSelector"] = json!({});
        }
        3 => {
            pod.is("namespaceSelector by labels");
            one["namespaceSelector"] = json!({ "matchLabels": { "climate": dice.pick(&NAMESPACES).1 } });
        }
        4 => {
            pod.is("matchLabelKeys");
            one["matchLabelKeys"] = json!(["version"]);
        }
        _ => {}
    }
    one
}

fn pod_affinity(dice: &mut Dice, pod: &mut Pod, at: usize, apps: usize) {
    let (key, kind) = *dice.pick(&[(labels::ZONE, "pod affinity zone"), (labels::HOSTNAME, "pod affinity hostname")]);
    pod.is(kind);
    let one = term(dice, pod, key, at, apps);
    pod.push(&["affinity", "podAffinity", REQUIRED], one);
    if dice.chance(25) {
        pod.is("pod affinity terms");
        let key = *dice.pick(&[labels::ZONE, labels::HOSTNAME, TEAM]);
        let another = term(dice, pod, key, at, apps);
        pod.push(&["affinity", "podAffinity", REQUIRED], another);
    }
}

fn pod_anti_affinity(dice: &mut Dice, pod: &mut Pod, at: usize, apps: usize) {
    let (key, kind) = *dice.pick(&[
        (labels::ZONE, "pod anti-affinity zone"),
        (labels::HOSTNAME, "pod anti-affinity hostname"),
        (labels::HOSTNAME, "pod anti-affinity hostname"),
    ]);
    pod.is(kind);
    let one = term(dice, pod, key, at, apps);
    pod.push(&["affinity", "podAntiAffinity", REQUIRED], one);
}

fn preferred_pods(dice: &mut Dice, pod: &mut Pod, at: usize, apps: usize) {
    let (which, kind) =
        *dice.pick(&[("podAffinity", "preferred pod affinity"), ("podAntiAffinity", "preferred pod anti-affinity")]);
    pod.is(kind);
    let key = *dice.pick(&[labels::ZONE, labels::HOSTNAME]);
    let one = term(dice, pod, key, at, apps);
    let weighted = json!({ "weight": dice.within(1, 100), "podAffinityTerm": one });
    pod.push(&["affinity", which, PREFERRED], weighted);
}

fn port(dice: &mut Dice, of: &[u16]) -> Value {
    let number = *dice.pick(of);
    let mut one = json!({ "containerPort": number, "hostPort": number, "protocol": dice.pick(&["TCP", "TCP", "UDP"]) });
    if dice.chance(40) {
        one["hostIP"] = json!(dice.pick(&["127.0.0.1", "10.0.0.1", "0.0.0.0"]));
    }
    one
}

fn host_ports(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    pod.is("host port");
    pod.spec["containers"][0]["ports"] = json!([port(dice, &PORTS)]);
}

fn volumes(dice: &mut Dice, pod: &mut Pod, _: usize, _: usize) {
    let volume = |dice: &mut Dice, pod: &mut Pod| {
        let (disk, _) = *dice.pick(&DISKS);
        let taken = pod.spec["volumes"].as_array();
        if taken.into_iter().flatten().any(|volume| volume["name"] == disk) {
            return;
        }
        let is_first = taken.is_none();
        pod.is(if is_first { "volume" } else { "several volumes" });
        pod.push(&["volumes"], json!({ "name": disk, "persistentVolumeClaim": { "claimName": disk } }));
    };
    volume(dice, pod);
    if dice.chance(30) {
        volume(dice, pod);
    }
}
