//! Inputs in the shape of Karpenter's own scheduling benchmark, from a generator with a fixed seed.

use std::collections::BTreeMap;

use karpenter_bench::{Input, OfferingRow, PodGroup, TypeRow, split_mix};
use serde_json::{Value, json};

use super::Case;

const TYPES: u32 = 400;
/// Sizes, and from which on the peer needs minutes.
const SIZES: [usize; 9] = [1, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000];
const HEAVY_FROM: usize = 10_000;
const PREFERENCE_PODS: usize = 4_000;
const CPU_MILLI: [u32; 5] = [100, 250, 500, 1_000, 1_500];
const MEMORY_MIB: [u32; 6] = [100, 256, 512, 1_024, 2_048, 4_096];
const LABEL_VALUES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SIZES
        .iter()
        .map(|&count| Case {
            name: format!("diverse-{count}"),
            heavy: count >= HEAVY_FROM,
            bounded: false,
            make: Box::new(move |name| input(name, "Respect", diverse(count))),
        })
        .collect();
    for policy in ["Respect", "Ignore"] {
        cases.push(Case {
            name: format!("preferences-{PREFERENCE_PODS}-{}", policy.to_lowercase()),
            heavy: false,
            bounded: false,
            make: Box::new(move |name| input(name, policy, preferring(PREFERENCE_PODS))),
        });
    }
    cases
}

fn input(name: &str, preferences: &str, pods: Vec<Value>) -> anyhow::Result<Input> {
    Ok(Input {
        name: name.to_owned(),
        preference_policy: preferences.to_owned(),
        min_values_policy: "Strict".to_owned(),
        instance_types: (0..TYPES).map(instance_type).collect(),
        node_pools: vec![pool()?],
        daemonsets: Vec::new(),
        pods: grouped(pods)?,
    })
}

/// Equal pods as one group; the groups in an order that does not depend on chance.
fn grouped(pods: Vec<Value>) -> anyhow::Result<Vec<PodGroup>> {
    let mut counts: BTreeMap<String, (Value, usize)> = BTreeMap::new();
    for pod in pods {
        counts.entry(pod.to_string()).or_insert((pod, 0)).1 += 1;
    }
    let groups = counts.into_values();
    groups.map(|(pod, count)| Ok(PodGroup { template: serde_json::from_value(pod)?, count })).collect()
}

fn pool() -> anyhow::Result<karpenter_api::NodePool> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "default", "uid": "7a1e6f0c-0000-4000-8000-000000000001" },
        "spec": {
            "template": { "spec": {
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
                "requirements": [],
            } },
            "limits": { "cpu": "10000000", "memory": "10000000Gi" },
        },
        "status": { "conditions": [super::real::ready()] },
    }))?)
}

/// Type `i` has `i + 1` cores, 2 GiB and 10 pods each, and costs a tenth of a dollar per core and per 10⁹ bytes.
fn instance_type(index: u32) -> TypeRow {
    let size = index + 1;
    let name = format!("fake-it-{index}");
    let bytes = f64::from(size) * 2.0 * 1024.0 * 1024.0 * 1024.0;
    let micro = ((f64::from(size) * 0.1 + bytes / 1e9 * 0.1) * 1e6).round();
    let sold = [("spot", 1), ("spot", 2), ("on-demand", 1), ("on-demand", 2), ("on-demand", 3)];
    let cores = size.to_string();
    let is_large = size > 4;
    let requirements = [
        ("node.kubernetes.io/instance-type", vec![name.as_str()]),
        ("kubernetes.io/arch", vec!["amd64"]),
        ("kubernetes.io/os", vec!["darwin", "linux", "windows"]),
        (ZONE, vec!["test-zone-1", "test-zone-2", "test-zone-3"]),
        ("karpenter.sh/capacity-type", vec!["on-demand", "spot"]),
        ("size", vec![if is_large { "large" } else { "small" }]),
        ("special", if is_large { vec!["optional"] } else { Vec::new() }),
        ("integer", vec![cores.as_str()]),
    ];
    let words = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    let quantities = |cpu: String, memory: String| {
        let list = [("cpu", cpu), ("memory", memory), ("pods", (size * 10).to_string())];
        list.map(|(key, text)| (key.to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(text))).into()
    };
    TypeRow {
        requirements: requirements.map(|(key, values)| (key.to_owned(), words(values))).into(),
        capacity: quantities(cores.clone(), format!("{}Mi", size * 2048)),
        // 100m and 10 MiB are the kubelet's.
        allocatable: quantities(format!("{}m", size * 1000 - 100), format!("{}Mi", size * 2048 - 10)),
        offerings: sold
            .into_iter()
            .map(|(capacity_type, zone)| OfferingRow {
                zone: format!("test-zone-{zone}"),
                zone_id: String::new(),
                capacity_type: capacity_type.to_owned(),
                price: micro / 1e6,
                available: true,
            })
            .collect(),
        name,
    }
}

/// A fixed sequence of choices.
struct Chance(u64);

impl Chance {
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        self.0 += 1;
        let length = list.len() as u64;
        let index = usize::try_from(split_mix(self.0) % length).unwrap_or_default();
        list[index]
    }

    fn label(&mut self) -> Value {
        json!({ "my-label": self.of(&LABEL_VALUES) })
    }

    fn pod(&mut self, labels: Value) -> Value {
        super::real::pod(labels, self.of(&CPU_MILLI), self.of(&MEMORY_MIB), 0)
    }
}

/// Equal parts: generic, spread over zones, spread over hosts, together in a zone, never together on a host.
fn diverse(count: usize) -> Vec<Value> {
    let mut chance = Chance(1 << 32);
    let part = count / 5;
    let mut pods = Vec::new();
    for _ in 0..count - 4 * part {
        let labels = chance.label();
        pods.push(chance.pod(labels));
    }
    for key in [ZONE, HOSTNAME] {
        for _ in 0..part {
            let labels = chance.label();
            let mut pod = chance.pod(labels);
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": { "matchLabels": chance.label() },
            }]);
            pods.push(pod);
        }
    }
    for _ in 0..part {
        let labels = json!({ "my-affinity": chance.of(&LABEL_VALUES) });
        let mut pod = chance.pod(labels.clone());
        pod["spec"]["affinity"]["podAffinity"] = required(&labels, ZONE);
        pods.push(pod);
    }
    for _ in 0..part {
        let labels = json!({ "app": "nginx" });
        let mut pod = chance.pod(labels.clone());
        pod["spec"]["affinity"]["podAntiAffinity"] = required(&labels, HOSTNAME);
        pods.push(pod);
    }
    pods
}

fn required(labels: &Value, key: &str) -> Value {
    json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": { "matchLabels": labels }, "topologyKey": key,
    }] })
}

/// All alike, with a preference that can be met (a zone), one that cannot (a zone each) and one that can (a host each).
fn preferring(count: usize) -> Vec<Value> {
    let labels = json!({ "app": "nginx" });
    let apart = |weight: u32, key: &str| {
        json!({
            "weight": weight,
            "podAffinityTerm": { "labelSelector": { "matchLabels": labels }, "topologyKey": key },
        })
    };
    let mut pod = Chance(2 << 32).pod(labels.clone());
    pod["spec"]["affinity"] = json!({
        "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 1,
            "preference": { "matchExpressions": [{ "key": ZONE, "operator": "In", "values": ["test-zone-1"] }] },
        }] },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [apart(10, ZONE), apart(1, HOSTNAME)],
        },
    });
    vec![pod; count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_its_pods_in_equal_parts_and_the_same_ones_each_time() {
        for count in [1, 50, 103] {
            let input = input("x", "Respect", diverse(count)).unwrap();
            assert_eq!(input.pod_count(), count);
            let again = super::input("x", "Respect", diverse(count)).unwrap();
            assert_eq!(serde_json::to_value(&input).unwrap(), serde_json::to_value(&again).unwrap());
        }
        let spread = |pod: &&Value| !pod["spec"]["topologySpreadConstraints"].is_null();
        assert_eq!(diverse(103).iter().filter(spread).count(), 40);
    }

    #[test]
    fn the_largest_type_is_priced_by_its_size() {
        let row = instance_type(TYPES - 1);
        assert_eq!(row.capacity["memory"].0, "819200Mi");
        assert_eq!(row.allocatable["cpu"].0, "399900m");
        assert_eq!(row.allocatable["memory"].0, "819190Mi");
        assert!((row.offerings[0].price - 125.899_346).abs() < 1e-9, "{}", row.offerings[0].price);
    }
}
