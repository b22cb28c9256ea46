//! Random clusters: nodes that are there and what runs on them, NodePools, DaemonSets. The pods that wait are in `pods`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::labels;
use karpenter_bench::FixedCloud;
use serde_json::{Value, json};

use crate::cloud::{self, ARCHS, CAPACITY_TYPES, ZONES, bought_labels, fixed_labels};
use crate::dice::Dice;
use crate::plan::node_object;
use crate::pods::{self, DAEMON_PORT};
use crate::storage;

/// Namespaces of all workloads, with a label each.
pub(crate) const NAMESPACES: [(&str, &str); 2] = [("red", "warm"), ("blue", "cold")];
/// A RuntimeClass whose pods have an overhead.
pub(crate) const RUNTIME: &str = "heavy";
/// A label that some pools give their nodes, and its values.
pub(crate) const TEAM: &str = "example.com/team";
pub(crate) const TEAMS: [&str; 3] = ["ants", "bees", "cats"];
/// As [`TEAM`], with numbers.
pub(crate) const RACK: &str = "example.com/rack";

/// The taint of a node that is cordoned.
pub(crate) const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Taints of pools and nodes: key, value, effect.
pub(crate) const TAINTS: [(&str, &str, &str); 4] = [
    ("dedicated", "batch", "NoSchedule"),
    ("dedicated", "gpu", "NoSchedule"),
    ("risky", "", "NoExecute"),
    ("slow", "1", "PreferNoSchedule"),
];

/// Everything a round depends on, as manifests.
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) cloud: FixedCloud,
    pub(crate) pools: Vec<Value>,
    pub(crate) nodes: Vec<Value>,
    /// How many volumes some of the nodes take.
    pub(crate) limits: Vec<Value>,
    pub(crate) daemons: Vec<Value>,
    /// Pods that are bound to nodes from the start.
    pub(crate) running: Vec<Value>,
    pub(crate) pending: Vec<Value>,
}

impl Workload {
    pub(crate) fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let cloud = cloud::random(&mut dice);
        let pools = pools(&mut dice);
        let daemons = (0..dice.within(0, 2)).map(|at| daemon(&mut dice, at)).collect();
        let nodes: Vec<Value> = (0..dice.within(0, 6)).map(|at| node(&mut dice, &cloud, at)).collect();
        let limited: Vec<&Value> = nodes.iter().filter(|_| dice.chance(50)).collect();
        let limits = limited.into_iter().map(|node| storage::limit(&mut dice, node)).collect();
        let apps = dice.below(6) + 3;
        let running = nodes.iter().flat_map(|node| pods::running(&mut dice, node, apps)).collect();
        let pending = (0..apps).flat_map(|at| pods::app(&mut dice, at, apps)).collect();
        Self { seed, cloud, pools, nodes, limits, daemons, running, pending }
    }

    /// All objects, in the order in which they can be created.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Value> {
        let first = self.limits.iter().chain(&self.nodes).chain(&self.pools).chain(&self.daemons);
        first.chain(&self.running).chain(&self.pending)
    }
}

/// The first pool takes anything, so that few pods are left over; the others are choosy and tried before it.
fn pools(dice: &mut Dice) -> Vec<Value> {
    let mut all = vec![pool("open", &json!({}), &[], &[], 0)];
    for at in 0..dice.within(0, 3) {
        let mut requirements = Vec::new();
        let mut own = json!({});
        match dice.within(0, 9) {
            0..=3 => own[TEAM] = json!(dice.pick(&TEAMS)),
            4..=6 => requirements.push(json!({ "key": TEAM, "operator": "In", "values": dice.some(&TEAMS) })),
            7 => requirements.push(json!({ "key": TEAM, "operator": "Exists" })),
            _ => {}
        }
        if dice.chance(25) {
            requirements.push(json!({ "key": RACK, "operator": "In", "values": dice.some(&["1", "2", "3", "10"]) }));
        }
        if dice.chance(30) {
            requirements.push(json!({ "key": labels::ARCH, "operator": "In", "values": dice.some(&ARCHS) }));
        }
        if dice.chance(30) {
            let values = dice.some(&CAPACITY_TYPES);
            requirements.push(json!({ "key": labels::CAPACITY_TYPE, "operator": "In", "values": values }));
        }
        if dice.chance(30) {
            let operator = dice.pick(&["In", "NotIn"]);
            let values = dice.some(&ZONES[..2]);
            requirements.push(json!({ "key": labels::ZONE, "operator": operator, "values": values }));
        }
        if dice.chance(30) {
            let (operator, bound) = *dice.pick(&[("Gt", "2"), ("Lt", "9"), ("Gte", "4"), ("Lte", "8")]);
            requirements.push(json!({ "key": labels::INSTANCE_CPU, "operator": operator, "values": [bound] }));
        }
        let taints: Vec<Value> = if dice.chance(60) { vec![taint(dice)] } else { Vec::new() };
        let weight = dice.within(1, 100);
        let mut one = pool(&format!("pool-{at}"), &own, &requirements, &taints, weight);
        if dice.chance(30) {
            one["spec"]["limits"] = json!({ "cpu": dice.within(8, 48).to_string() });
        }
        if dice.chance(20) {
            one["spec"]["template"]["spec"]["startupTaints"] = json!([{ "key": "booting", "effect": "NoSchedule" }]);
        }
        all.push(one);
    }
    all
}

fn pool(name: &str, own: &Value, requirements: &[Value], taints: &[Value], weight: u32) -> Value {
    let class = json!({ "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" });
    let mut object = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": name },
        "spec": { "template": {
            "metadata": { "labels": own },
            "spec": { "nodeClassRef": class, "requirements": requirements, "taints": taints },
        }},
    });
    if weight > 0 {
        object["spec"]["weight"] = json!(weight);
    }
    object
}

fn taint(dice: &mut Dice) -> Value {
    let (key, value, effect) = *dice.pick(&TAINTS);
    let mut taint = json!({ "key": key, "effect": effect });
    if !value.is_empty() {
        taint["value"] = json!(value);
    }
    taint
}

/// A node that is there before anything is planned: of a pool, or nobody's.
fn node(dice: &mut Dice, cloud: &FixedCloud, at: u32) -> Value {
    let kind = dice.pick(&cloud.types).clone();
    let offering = dice.pick(&kind.offerings).clone();
    let mut all = fixed_labels(&kind);
    let bought = bought_labels(&offering).map(|(key, value)| (key.to_owned(), value));
    // A node that nobody bought may lack any label of the cloud's; its zone under neither name or both.
    let in_zone = dice.chance(88);
    let has = |(key, _): &(String, String)| if key.ends_with("/zone") { in_zone } else { dice.chance(80) };
    all.extend(bought.into_iter().filter(has));
    if dice.chance(50) {
        all.insert(TEAM.to_owned(), (*dice.pick(&TEAMS)).to_owned());
    }
    if dice.chance(50) {
        let own = [(labels::NODEPOOL, "open"), (labels::REGISTERED, "true"), (labels::INITIALIZED, "true")];
        all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let mut taints: Vec<Taint> =
        if dice.chance(25) { serde_json::from_value(taint(dice)).into_iter().collect() } else { vec![] };
    let cordoned = dice.chance(10);
    if cordoned {
        taints.push(Taint { key: CORDONED.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    }
    let mut object = node_object(&format!("old-{at}"), all, &taints, &kind);
    object["spec"]["unschedulable"] = json!(cordoned);
    object
}

fn daemon(dice: &mut Dice, at: u32) -> Value {
    let name = format!("agent-{at}");
    let mut spec = json!({ "containers": [{
        "name": "main", "image": "pause",
        "resources": { "requests": {
            "cpu": format!("{}m", dice.within(5, 30) * 10), "memory": format!("{}Mi", dice.within(5, 40) * 10),
        }},
    }]});
    if dice.chance(50) {
        spec["tolerations"] = json!([{ "operator": "Exists" }]);
    }
    if dice.chance(30) {
        spec["nodeSelector"] = json!({ labels::ARCH: dice.pick(&ARCHS) });
    }
    if at == 0 && dice.chance(50) {
        spec["containers"][0]["ports"] = json!([{ "containerPort": DAEMON_PORT, "hostPort": DAEMON_PORT }]);
    }
    let own = json!({ "daemon": name });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name, "namespace": NAMESPACES[0].0 },
        "spec": { "selector": { "matchLabels": own }, "template": { "metadata": { "labels": own }, "spec": spec } },
    })
}

/// Text of a label, empty if it is not there.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}

/// How often each kind of constraint occurs among pods.
pub(crate) fn kinds<'a>(pods: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for kind in pods.flat_map(|kinds| kinds.split(", ")) {
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts
}
