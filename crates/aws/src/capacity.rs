//! Capacity arithmetic: what a node of a type has, and what of it pods can use.
//!
//! allocatable = capacity − kube-reserved − system-reserved − hard eviction thresholds.
//! Sources: EKS' kube-reserved formula (the AMI's bootstrap), AWS' ENI limits, Karpenter's docs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use karpenter_api::ec2nodeclass::{AmiFamily, Ec2NodeClassSpec, InstanceStorePolicy, InterfaceType};
use karpenter_core::Resources;
use karpenter_core::resources::{self, CPU, EPHEMERAL_STORAGE, MEMORY, PODS};
use serde_json::Value;

use crate::memory::Seen;
use crate::report::InstanceTypeInfo;
use crate::{AwsSettings, expression};

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
/// Memory that arm64 machines hide from the operating system.
const ARM64_HIDDEN: i64 = 64 * MIB;
/// The kubelet's default `memory.available` threshold on EKS images.
const EVICTION_MEMORY: i64 = 100 * MIB;

/// What a class says about its nodes' capacity.
#[derive(Clone, Debug)]
pub(crate) struct Sizing<'a> {
    pub(crate) family: AmiFamily,
    pub(crate) spec: &'a Ec2NodeClassSpec,
    pub(crate) settings: &'a AwsSettings,
    /// What nodes of the class's images were seen to have.
    pub(crate) seen: Seen<'a>,
}

impl<'a> Sizing<'a> {
    /// As the settings say, before any node was seen.
    pub(crate) fn new(family: AmiFamily, spec: &'a Ec2NodeClassSpec, settings: &'a AwsSettings) -> Self {
        Self { family, spec, settings, seen: Seen::default() }
    }
}

impl Sizing<'_> {
    /// (capacity, allocatable) of a type.
    pub(crate) fn of(&self, info: &InstanceTypeInfo) -> (Resources, Resources) {
        if let Some(kubelet) = expression::resolved(self, info) {
            // What cannot be computed makes the class not ready; until then the rest of its settings counts.
            let own = || self.spec.kubelet.as_ref().map(expression::without_expressions).unwrap_or_default();
            let spec = Ec2NodeClassSpec { kubelet: Some(kubelet.unwrap_or_else(|_| own())), ..self.spec.clone() };
            return Sizing { spec: &spec, ..self.clone() }.of(info);
        }
        let capacity = self.capacity(info);
        let mut allocatable = capacity.clone();
        allocatable.subtract(&self.kube_reserved(info, &capacity));
        allocatable.subtract(&self.reserved("systemReserved"));
        allocatable.subtract(&self.eviction(&capacity));
        for amount in allocatable.0.values_mut() {
            *amount = (*amount).max(0);
        }
        (capacity, allocatable)
    }

    fn capacity(&self, info: &InstanceTypeInfo) -> Resources {
        let mut capacity: Resources = [
            (CPU, info.vcpus * 1000),
            (MEMORY, self.memory(info)),
            (PODS, self.max_pods(info)),
            (EPHEMERAL_STORAGE, self.storage(info)),
        ]
        .into_iter()
        .collect();
        let mut extended = |name: &str, amount: i64| {
            if amount > 0 {
                capacity.set(name, amount);
            }
        };
        let gpus = |maker: &str| {
            info.gpus.iter().filter(|g| g.manufacturer.eq_ignore_ascii_case(maker)).map(|g| g.count).sum::<i64>()
        };
        extended("nvidia.com/gpu", gpus("nvidia"));
        extended("amd.com/gpu", gpus("amd"));
        extended("habana.ai/gaudi", gpus("habana"));
        extended("aws.amazon.com/neuron", info.neuron.iter().map(|n| n.count).sum());
        extended("aws.amazon.com/neuroncore", info.neuron.iter().map(|n| n.count * n.cores).sum());
        extended("vpc.amazonaws.com/efa", self.efa(info));
        if is_windows(self.family) {
            extended("vpc.amazonaws.com/PrivateIPv4Address", info.network.ipv4_per_interface - 1);
        } else {
            extended("vpc.amazonaws.com/pod-eni", BRANCH_INTERFACES.get(info.name.as_str()).copied().unwrap_or(0));
        }
        capacity
    }

    /// The class's interfaces replace what the type could have.
    fn efa(&self, info: &InstanceTypeInfo) -> i64 {
        match &self.spec.network_interfaces {
            Some(all) => count(all.iter().filter(|each| each.interface_type == InterfaceType::EfaOnly)),
            None => info.network.efa_maximum_interfaces.unwrap_or(0),
        }
    }

    /// What memory a node of the type has: what one was seen to have, else the estimate.
    pub(crate) fn memory(&self, info: &InstanceTypeInfo) -> i64 {
        self.seen.memory(&info.name).unwrap_or_else(|| self.estimate(info))
    }

    /// Advertised memory less what the hypervisor and the firmware keep, unknown before a node has
    /// joined: a fraction by setting.
    fn estimate(&self, info: &InstanceTypeInfo) -> i64 {
        let mut bytes = info.memory_mib * MIB;
        if info.architectures.first().is_some_and(|first| first == "arm64") {
            bytes -= ARM64_HIDDEN;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "memory sizes are far below 2^52"
        )]
        let overhead = ((bytes / MIB) as f64 * self.settings.vm_memory_overhead).ceil() as i64;
        (bytes - overhead * MIB).max(0)
    }

    /// Addresses that the VPC CNI can give to pods, and two for pods on the host's network.
    fn eni_pods(&self, info: &InstanceTypeInfo, reserved: i64) -> i64 {
        let cards = &info.network.cards;
        let interfaces = cards
            .iter()
            .find(|card| card.index == info.network.default_card)
            .map_or(info.network.maximum_interfaces, |card| card.maximum_interfaces);
        // One that carries EFA alone takes an interface of the card, and gives no address.
        let own = self.spec.network_interfaces.iter().flatten();
        let mute =
            count(own.filter(|each| each.network_card_index == 0 && each.interface_type == InterfaceType::EfaOnly));
        let usable = (interfaces - reserved - mute).max(0);
        if usable == 0 { 0 } else { usable * (info.network.ipv4_per_interface - 1) + 2 }
    }

    pub(crate) fn max_pods(&self, info: &InstanceTypeInfo) -> i64 {
        let kubelet = self.spec.kubelet.as_ref();
        let figure = |name: &str| kubelet.and_then(|kubelet| kubelet.get(name)).and_then(Value::as_i64);
        let most = figure("maxPods").unwrap_or_else(|| {
            if is_windows(self.family) { 110 } else { self.eni_pods(info, self.settings.reserved_enis) }
        });
        match figure("podsPerCore").filter(|per_core| *per_core > 0) {
            Some(per_core) if self.family != AmiFamily::Bottlerocket => most.min(per_core * info.vcpus),
            _ => most,
        }
    }

    fn storage(&self, info: &InstanceTypeInfo) -> i64 {
        if self.spec.instance_store_policy == Some(InstanceStorePolicy::Raid0)
            && let Some(gigabytes) =
                info.instance_storage_gb.filter(|_| !info.nvme.is_empty() && info.nvme != "unsupported")
        {
            return gigabytes * 1_000_000_000;
        }
        let mappings = self.spec.block_device_mappings.as_deref().unwrap_or_default();
        let device = crate::ami::ephemeral_device(self.family);
        let size = |mapping: &karpenter_api::ec2nodeclass::BlockDeviceMapping| {
            let text = mapping.ebs.as_ref()?.volume_size.as_deref()?;
            karpenter_api::quantity::units(text).ok()
        };
        let root = mappings.iter().find(|mapping| mapping.root_volume == Some(true)).and_then(size);
        // Nobody knows which device an image of the user's own starts from: the last is taken for its data.
        let own = || match self.family {
            AmiFamily::Custom => mappings.last(),
            _ => mappings.iter().find(|mapping| mapping.device_name.as_deref() == Some(device)),
        };
        let default = if is_windows(self.family) { 50 * GIB } else { 20 * GIB };
        root.or_else(|| own().and_then(size)).unwrap_or(default)
    }

    /// CPU in tiers per core, memory per pod; what the class sets replaces the formula by name.
    fn kube_reserved(&self, info: &InstanceTypeInfo, capacity: &Resources) -> Resources {
        let pods = match self.family {
            AmiFamily::Al2 | AmiFamily::Al2023 | AmiFamily::Custom => self.eni_pods(info, 0),
            _ => capacity.get(PODS),
        };
        let mut reserved: Resources =
            [(CPU, reserved_cpu(info.vcpus)), (MEMORY, (11 * pods + 255) * MIB), (EPHEMERAL_STORAGE, GIB)]
                .into_iter()
                .collect();
        reserved.0.extend(self.reserved("kubeReserved").0);
        reserved
    }

    /// A map of quantities in the kubelet's settings.
    fn reserved(&self, field: &str) -> Resources {
        let map = self.spec.kubelet.as_ref().and_then(|kubelet| kubelet.get(field)).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(name, amount)| Some((name.clone(), resources::amount(name, &text(amount))?)))
            .collect()
    }

    fn eviction(&self, capacity: &Resources) -> Resources {
        let hard =
            self.spec.kubelet.as_ref().and_then(|kubelet| kubelet.get("evictionHard")).and_then(Value::as_object);
        let threshold = |signal: &str, resource: &str, default: i64| {
            let Some(value) = hard.and_then(|hard| hard.get(signal)).map(text) else {
                return default;
            };
            match value.strip_suffix('%') {
                // All of it: the signal is off (Kubernetes, "Node-pressure eviction").
                Some(percent) => percent.parse().map_or(default, |percent: f64| {
                    if percent >= 100.0 { 0 } else { share(capacity.get(resource), percent) }
                }),
                None => resources::amount(resource, &value).unwrap_or(default),
            }
        };
        [
            (MEMORY, threshold("memory.available", MEMORY, EVICTION_MEMORY)),
            (
                EPHEMERAL_STORAGE,
                threshold("nodefs.available", EPHEMERAL_STORAGE, share(capacity.get(EPHEMERAL_STORAGE), 10.0)),
            ),
        ]
        .into_iter()
        .collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn share(amount: i64, percent: f64) -> i64 {
    (amount as f64 * percent / 100.0).ceil() as i64
}

/// 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest.
fn reserved_cpu(vcpus: i64) -> i64 {
    let tier = |from: i64, to: i64, per_ten_thousand: i64| (vcpus.min(to) - from).max(0) * per_ten_thousand;
    let total = tier(0, 1, 600) + tier(1, 2, 100) + tier(2, 4, 50) + tier(4, i64::MAX, 25);
    total / 10
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn is_windows(family: AmiFamily) -> bool {
    matches!(family, AmiFamily::Windows2019 | AmiFamily::Windows2022 | AmiFamily::Windows2025)
}

fn count<T>(of: impl Iterator<Item = T>) -> i64 {
    i64::try_from(of.count()).unwrap_or(i64::MAX)
}

/// Branch interfaces by type, from the VPC resource controller's limits.
static BRANCH_INTERFACES: LazyLock<BTreeMap<&'static str, i64>> = LazyLock::new(|| {
    include_str!("../data/eni-limits.tsv")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let [name, _, _, "true", branches, ..] = cells.as_slice() else { return None };
            Some((*name, branches.parse().ok()?))
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{NetworkCard, NetworkInfo};

    fn m5_large() -> InstanceTypeInfo {
        InstanceTypeInfo {
            name: "m5.large".into(),
            architectures: vec!["x86_64".into()],
            vcpus: 2,
            memory_mib: 8192,
            network: NetworkInfo {
                maximum_interfaces: 3,
                ipv4_per_interface: 10,
                default_card: 0,
                cards: vec![NetworkCard { index: 0, maximum_interfaces: 3 }],
                ena: true,
                efa_maximum_interfaces: None,
            },
            ..InstanceTypeInfo::default()
        }
    }

    #[test]
    fn cpu_is_reserved_in_tiers() {
        for (vcpus, milli) in [(1, 60), (2, 70), (4, 80), (8, 90), (96, 310)] {
            assert_eq!(reserved_cpu(vcpus), milli, "{vcpus} cores");
        }
    }

    #[test]
    fn m5_large_with_al2023() {
        let settings = AwsSettings { vm_memory_overhead: 0.075, ..AwsSettings::default() };
        let spec = Ec2NodeClassSpec::default();
        let sizing = Sizing { family: AmiFamily::Al2023, spec: &spec, settings: &settings, seen: Seen::default() };
        let (capacity, allocatable) = sizing.of(&m5_large());
        assert_eq!(capacity.get(PODS), 29);
        assert_eq!(capacity.get(MEMORY), (8192 - 615) * MIB);
        assert_eq!(capacity.get("vpc.amazonaws.com/pod-eni"), 9);
        assert_eq!(allocatable.get(CPU), 1930);
        assert_eq!(allocatable.get(MEMORY), (8192 - 615 - (11 * 29 + 255) - 100) * MIB);
        assert_eq!(allocatable.get(EPHEMERAL_STORAGE), 20 * GIB - GIB - 2 * GIB);
    }

    #[test]
    fn the_kubelets_settings_replace_the_formula_by_name() {
        let kubelet = serde_json::json!({
            "maxPods": 20, "podsPerCore": 5,
            "kubeReserved": { "cpu": "500m" }, "systemReserved": { "memory": "1Gi" },
            "evictionHard": { "memory.available": "5%", "nodefs.available": "100%" },
        });
        let spec = Ec2NodeClassSpec { kubelet: kubelet.as_object().cloned(), ..Ec2NodeClassSpec::default() };
        let settings = AwsSettings { vm_memory_overhead: 0.0, ..AwsSettings::default() };
        let sizing = Sizing { family: AmiFamily::Al2023, spec: &spec, settings: &settings, seen: Seen::default() };
        let (capacity, allocatable) = sizing.of(&m5_large());
        assert_eq!(capacity.get(PODS), 10, "podsPerCore x vCPU is less than maxPods");
        assert_eq!(allocatable.get(CPU), 1500);
        let eviction = (8192 * MIB * 5 + 99) / 100;
        assert_eq!(allocatable.get(MEMORY), 8192 * MIB - (11 * 29 + 255) * MIB - GIB - eviction);
        assert_eq!(allocatable.get(EPHEMERAL_STORAGE), 19 * GIB);
    }
}
