//! Inputs from life: the pods of a public trace, over what EC2 sells in us-east-1, sized by our own arithmetic.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use jiff::Timestamp;
use karpenter_api::NodePool;
use karpenter_aws::report::{Gpu, InstanceTypeInfo, NetworkCard, NetworkInfo, Report, Subnet};
use karpenter_aws::{Aws, AwsSettings};
use karpenter_bench::{Input, PodGroup, TypeRow, split_mix};
use karpenter_core::{Cloud, World};
use serde_json::{Value, json};

use super::Case;

const REGION: &str = "us-east-1";
const ZONES: [char; 6] = ['a', 'b', 'c', 'd', 'e', 'f'];
/// Share of a machine's memory that its hypervisor keeps: the default of the setting.
const VM_MEMORY_OVERHEAD: f64 = 0.075;

pub(super) fn cases(root: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for daemons in [false, true] {
        for cpu_only in [false, true] {
            let data = root.join("benches/data");
            let pods = if cpu_only { "cpu" } else { "whole" };
            let name = format!("trace-{pods}{}", if daemons { "-daemonsets" } else { "" });
            cases.push(Case {
                name,
                heavy: false,
                bounded: true,
                make: Box::new(move |name| input(name, &data, cpu_only, daemons)),
            });
        }
    }
    let data = root.join("benches/data");
    cases.push(Case {
        name: format!("sizes-{SIZES}"),
        heavy: false,
        bounded: true,
        make: Box::new(move |name| Ok(Input { pods: sizes()?, ..input(name, &data, true, false)? })),
    });
    cases
}

/// Pods of so many different sizes, five of each.
const SIZES: u32 = 1_000;

/// Up to 8 cores, most of them small, with 1 to 8 GiB a core.
fn sizes() -> anyhow::Result<Vec<PodGroup>> {
    let drawn = |size: u32, salt: u64, below: u64| split_mix(u64::from(size) * 8 + salt) % below;
    let group = |size: u32| {
        let octave = 1_u64 << drawn(size, 1, 6);
        let cpu = u32::try_from(125 * octave + drawn(size, 2, 125 * octave))?;
        let memory = cpu * u32::try_from(1_024 + drawn(size, 3, 7 * 1_024))? / 1_000;
        let template = serde_json::from_value(pod(json!({ "app": "sizes" }), cpu, memory, 0))?;
        Ok(PodGroup { template, count: 5 })
    };
    (0..SIZES).map(group).collect()
}

fn input(name: &str, data: &Path, cpu_only: bool, daemons: bool) -> anyhow::Result<Input> {
    let types = instance_types(&data.join("ec2-us-east-1.tsv"))?;
    let types = types.into_iter().filter(|info| !cpu_only || info.gpus.is_empty());
    let pool = pool()?;
    Ok(Input {
        name: name.to_owned(),
        preference_policy: "Respect".to_owned(),
        min_values_policy: "Strict".to_owned(),
        instance_types: catalogue(types.collect(), &pool)?,
        node_pools: vec![pool],
        daemonsets: if daemons { vec![daemon()?] } else { Vec::new() },
        pods: pods(&data.join("alibaba-gpu-2023-classes.tsv"), cpu_only)?,
    })
}

/// A pod that kube-scheduler found no place for.
pub(super) fn pod(labels: Value, cpu_milli: u32, memory_mib: u32, gpus: u32) -> Value {
    let mut resources = json!({ "requests": { "cpu": format!("{cpu_milli}m"), "memory": format!("{memory_mib}Mi") } });
    if gpus > 0 {
        let gpus = Value::from(gpus.to_string());
        resources["requests"]["nvidia.com/gpu"] = gpus.clone();
        resources["limits"] = json!({ "nvidia.com/gpu": gpus });
    }
    json!({
        "metadata": { "namespace": "default", "labels": labels },
        "spec": { "containers": [{ "name": "app", "image": "app", "resources": resources }] },
        "status": {
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }],
        },
    })
}

/// The condition of a NodePool that may be used.
pub(super) fn ready() -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn pods(path: &Path, cpu_only: bool) -> anyhow::Result<Vec<PodGroup>> {
    let mut groups = Vec::new();
    for row in Rows::read(path)?.all {
        let (cpu, memory, gpus) = (row.number(0)?, row.number(1)?, row.number(2)?);
        if cpu_only && gpus > 0 {
            continue;
        }
        let template = serde_json::from_value(pod(json!({ "app": "trace" }), cpu, memory, gpus))?;
        groups.push(PodGroup { template, count: row.number(3)? });
    }
    Ok(groups)
}

fn pool() -> anyhow::Result<NodePool> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "default", "uid": "7a1e6f0c-0000-4000-8000-000000000002" },
        "spec": { "template": { "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
            "requirements": [
                { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
                { "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] },
                { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
            ],
        } } },
        "status": { "conditions": [ready()] },
    }))?)
}

/// What every node runs besides the pods.
fn daemon() -> anyhow::Result<k8s_openapi::api::apps::v1::DaemonSet> {
    let labels = json!({ "app": "node-agent" });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "node-agent", "namespace": "kube-system", "uid": "7a1e6f0c-0000-4000-8000-000000000003" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "agent", "image": "agent",
                    "resources": { "requests": { "cpu": "250m", "memory": "400Mi" } },
                }] },
            },
        },
    }))?)
}

/// The types as the controller would see them through an EC2NodeClass with AL2023 and no further settings.
fn catalogue(types: Vec<InstanceTypeInfo>, pool: &NodePool) -> anyhow::Result<Vec<TypeRow>> {
    let now = Timestamp::UNIX_EPOCH;
    let settings =
        AwsSettings { region: REGION.to_owned(), vm_memory_overhead: VM_MEMORY_OVERHEAD, ..AwsSettings::default() };
    let mut aws = Aws::new(settings);
    let class = serde_json::from_value(json!({
        "metadata": { "name": "default", "uid": "7a1e6f0c-0000-4000-8000-000000000004", "generation": 1 },
        "spec": {
            "role": "node",
            "amiSelectorTerms": [{ "alias": "al2023@latest" }],
            "subnetSelectorTerms": [{ "tags": { "for": "nodes" } }],
            "securityGroupSelectorTerms": [{ "tags": { "for": "nodes" } }],
        },
        "status": { "conditions": [ready()] },
    }))?;
    aws.node_class_applied(class, now);
    let subnets = ZONES.iter().zip(1..).map(|(letter, number)| Subnet {
        id: format!("subnet-{letter}"),
        zone: format!("{REGION}{letter}"),
        zone_id: format!("use1-az{number}"),
        available_addresses: 65_000,
        ..Subnet::default()
    });
    aws.apply(Report::Subnets { class: "default".to_owned(), generation: 1, result: Ok(subnets.collect()) }, now);
    let listed = types.len();
    aws.apply(Report::InstanceTypes { result: Ok(types) }, now);
    aws.tick(&World::default(), now);
    let rows: Vec<TypeRow> = aws.catalogue(pool)?.iter().map(|row| TypeRow::of(row)).collect();
    let sold = rows.iter().filter(|row| row.offerings.iter().all(|o| o.available)).count();
    if sold != listed {
        bail!("instance types: found a price for {sold}, expected all {listed} to have one");
    }
    Ok(rows)
}

fn instance_types(path: &Path) -> anyhow::Result<Vec<InstanceTypeInfo>> {
    Rows::read(path)?.all.iter().map(instance_type).collect()
}

fn instance_type(row: &Row) -> anyhow::Result<InstanceTypeInfo> {
    let interfaces = row.number(3)?;
    let mut info = InstanceTypeInfo {
        name: row.cell(0).to_owned(),
        architectures: vec!["x86_64".to_owned()],
        usage_classes: vec!["on-demand".to_owned()],
        hypervisor: "nitro".to_owned(),
        vcpus: row.number(1)?,
        memory_mib: row.number(2)?,
        cpu_manufacturer: row.cell(6).to_owned(),
        sustained_clock_ghz: row.optional(7)?,
        encryption_in_transit: row.cell(10) == "yes",
        ebs_optimized_default: !row.cell(8).is_empty(),
        ebs_maximum_bandwidth_mbps: row.optional(8)?,
        instance_storage_gb: row.optional(9)?,
        nvme: if row.cell(9).is_empty() { "" } else { "required" }.to_owned(),
        network: NetworkInfo {
            ena: true,
            maximum_interfaces: interfaces,
            ipv4_per_interface: row.number(4)?,
            default_card: 0,
            cards: vec![NetworkCard { index: 0, maximum_interfaces: interfaces }],
            efa_maximum_interfaces: row.optional(5)?,
        },
        zones: row.cell(11).chars().map(|letter| format!("{REGION}{letter}")).collect(),
        ..InstanceTypeInfo::default()
    };
    if !row.cell(12).is_empty() {
        info.gpus.push(gpu(row.cell(12)).with_context(|| row.at(12))?);
    }
    Ok(info)
}

fn gpu(text: &str) -> anyhow::Result<Gpu> {
    let [maker, name, count, mib] = text.split(':').collect::<Vec<_>>()[..] else {
        bail!("found {text:?}, expected maker:name:count:MiB");
    };
    Ok(Gpu {
        name: name.to_owned(),
        manufacturer: maker.to_owned(),
        count: count.parse().context("count")?,
        memory_mib: mib.parse().context("MiB")?,
    })
}

/// A table of ours: `#` comments, one line of headings, tabs.
struct Rows {
    all: Vec<Row>,
}

struct Row {
    file: PathBuf,
    line: usize,
    cells: Vec<String>,
}

impl Rows {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.starts_with('#')).skip(1);
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
        Ok(Self { all: lines.map(|(text, line)| Row { file: path.to_owned(), line, cells: cells(text) }).collect() })
    }
}

impl Row {
    /// Empty cells at the end of a line are not written.
    fn cell(&self, index: usize) -> &str {
        self.cells.get(index).map_or("", String::as_str)
    }

    fn at(&self, index: usize) -> String {
        format!("{}:{}, column {}", self.file.display(), self.line, index + 1)
    }

    fn number<T: FromStr>(&self, index: usize) -> anyhow::Result<T> {
        let cell = self.cell(index);
        cell.parse().ok().with_context(|| format!("{}: found {cell:?}, expected a number", self.at(index)))
    }

    fn optional<T: FromStr>(&self, index: usize) -> anyhow::Result<Option<T>> {
        if self.cell(index).is_empty() { Ok(None) } else { self.number(index).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> PathBuf {
        karpenter_harness::root().join("benches/data")
    }

    #[test]
    fn the_trace_and_the_catalogue_are_complete() {
        let whole = input("trace", &data(), false, false).unwrap();
        assert_eq!((whole.pod_count(), whole.instance_types.len()), (8_152, 679));
        let cpu = input("trace-cpu", &data(), true, true).unwrap();
        assert_eq!((cpu.pod_count(), cpu.instance_types.len(), cpu.daemonsets.len()), (1_088, 625, 1));
        assert!(cpu.instance_types.iter().all(|row| !row.capacity.contains_key("nvidia.com/gpu")));
    }

    #[test]
    fn a_type_is_sized_and_priced_as_the_controller_would() {
        let whole = input("trace", &data(), false, false).unwrap();
        let row = whole.instance_types.iter().find(|row| row.name == "g4dn.xlarge").unwrap();
        let amounts = ["cpu", "memory", "pods", "nvidia.com/gpu"].map(|name| row.allocatable[name].0.as_str());
        // 16 GiB less 7.5 %, 11 MiB for each of 29 pods, 255 MiB and 100 MiB.
        assert_eq!(amounts, ["3920m", "14481Mi", "29", "1"]);
        assert!(row.offerings.iter().all(|o| o.capacity_type == "on-demand" && (o.price - 0.526).abs() < 1e-9));
    }
}
