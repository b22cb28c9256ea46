//! The label values that nodes of an instance type have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use karpenter_api::ec2nodeclass::AmiFamily;
use karpenter_api::labels as keys;
use karpenter_core::cloud::Offering;
use karpenter_core::{Requirement, Requirements};

use crate::ami;
use crate::capacity::is_windows;
use crate::report::{InstanceTypeInfo, PlacementGroup};

/// Every well-known label of the type; what it lacks is `DoesNotExist`.
pub(crate) fn requirements(
    info: &InstanceTypeInfo,
    family: AmiFamily,
    region: &str,
    group: Option<&PlacementGroup>,
    offerings: &[Offering],
) -> Requirements {
    let mut all = Requirements::default();
    let mut one = |key: &str, value: String| {
        all.0.insert(key.to_owned(), Requirement::one_of([value]));
    };
    let (name_family, size) = info.name.split_once('.').unwrap_or((info.name.as_str(), ""));
    let (category, generation) = kind(name_family);
    one(keys::INSTANCE_TYPE, info.name.clone());
    one(keys::REGION, region.to_owned());
    one(keys::INSTANCE_FAMILY, name_family.to_owned());
    one(keys::INSTANCE_SIZE, size.to_owned());
    one(keys::INSTANCE_CATEGORY, category.to_owned());
    one(keys::INSTANCE_CAPABILITY_FLEX, name_family.contains("-flex").to_string());
    one(keys::INSTANCE_CPU, info.vcpus.to_string());
    one(keys::INSTANCE_MEMORY, info.memory_mib.to_string());
    one(keys::INSTANCE_HYPERVISOR, info.hypervisor.clone());
    one(keys::INSTANCE_ENCRYPTION_IN_TRANSIT, info.encryption_in_transit.to_string());
    one(keys::NITRO_SANDBOX, info.enclaves.to_string());
    let mut optional = |key: &str, value: Option<String>| {
        all.0.insert(key.to_owned(), value.map_or_else(Requirement::does_not_exist, |v| Requirement::one_of([v])));
    };
    optional(keys::INSTANCE_GENERATION, (!generation.is_empty()).then(|| generation.to_owned()));
    optional(keys::WINDOWS_BUILD, ami::windows_release(family).map(|(_, build)| build.to_owned()));
    let manufacturer = info.cpu_manufacturer.to_ascii_lowercase();
    optional(keys::INSTANCE_CPU_MANUFACTURER, (!manufacturer.is_empty()).then_some(manufacturer));
    #[expect(clippy::cast_possible_truncation, reason = "a clock speed in MHz")]
    optional(keys::INSTANCE_CPU_CLOCK, info.sustained_clock_ghz.map(|ghz| ((ghz * 1000.0).round() as i64).to_string()));
    let ebs = info.ebs_maximum_bandwidth_mbps.filter(|_| info.ebs_optimized_default);
    optional(keys::INSTANCE_EBS_BANDWIDTH, ebs.map(|mbps| mbps.to_string()));
    optional(keys::INSTANCE_NETWORK_BANDWIDTH, BANDWIDTH.get(info.name.as_str()).map(|mbps| (*mbps).to_owned()));
    let nvme = info.instance_storage_gb.filter(|_| !matches!(info.nvme.as_str(), "" | "unsupported"));
    optional(keys::INSTANCE_LOCAL_NVME, nvme.map(|gb| gb.to_string()));
    let gpu = only(&info.gpus);
    optional(keys::INSTANCE_GPU_NAME, gpu.map(|gpu| kebab(&gpu.name)));
    optional(keys::INSTANCE_GPU_MANUFACTURER, gpu.map(|gpu| kebab(&gpu.manufacturer)));
    optional(keys::INSTANCE_GPU_COUNT, gpu.map(|gpu| gpu.count.to_string()));
    optional(keys::INSTANCE_GPU_MEMORY, gpu.map(|gpu| gpu.memory_mib.to_string()));
    let accelerator = if info.neuron.is_empty() { only(&info.inference) } else { only(&info.neuron) };
    optional(keys::INSTANCE_ACCELERATOR_NAME, accelerator.map(|a| kebab(&a.name)));
    optional(keys::INSTANCE_ACCELERATOR_MANUFACTURER, accelerator.map(|a| kebab(&a.manufacturer)));
    optional(keys::INSTANCE_ACCELERATOR_COUNT, accelerator.map(|a| a.count.to_string()));
    let mut many = |key: &str, values: Vec<String>| {
        let some = !values.is_empty();
        let values = if some { Requirement::one_of(values) } else { Requirement::does_not_exist() };
        all.0.insert(key.to_owned(), values);
    };
    let arch = info.architectures.iter().find_map(|arch| architecture(arch));
    many(keys::ARCH, arch.map(str::to_owned).into_iter().collect());
    // Windows is made for amd64 alone.
    let os = if is_windows(family) { (arch == Some("amd64")).then_some("windows") } else { Some("linux") };
    many(keys::OS, os.map(str::to_owned).into_iter().collect());
    many(keys::ZONE, offerings.iter().map(|o| o.zone.clone()).collect());
    many(keys::ZONE_ID, offerings.iter().map(|o| o.zone_id.clone()).filter(|id| !id.is_empty()).collect());
    many(keys::CAPACITY_TYPE, offerings.iter().map(|o| o.capacity_type.as_str().to_owned()).collect());
    many(keys::INSTANCE_TENANCY, vec!["default".to_owned(), "dedicated".to_owned()]);
    many(keys::PLACEMENT_GROUP_ID, group.map(|group| group.id.clone()).into_iter().collect());
    many(keys::PLACEMENT_GROUP_PARTITION, group.map(partitions).unwrap_or_default());
    reserved(&mut all, offerings);
    all
}

/// The numbers of a group's partitions; none unless its instances are spread by them.
pub(crate) fn partitions(group: &PlacementGroup) -> Vec<String> {
    let count = group.partitions.filter(|_| group.strategy == "partition").unwrap_or(0);
    (1..=count).map(|number| number.to_string()).collect()
}

/// What a node in a reservation is labelled with. A type that is sold otherwise too has nodes without these labels.
fn reserved(all: &mut Requirements, offerings: &[Offering]) {
    let must_exist = offerings.iter().all(|offering| offering.reservation.is_some());
    let mut some = |key: &str, values: BTreeSet<String>| {
        all.0.insert(
            key.to_owned(),
            Requirement { must_exist: must_exist && !values.is_empty(), values, ..Requirement::default() },
        );
    };
    let label = |key: &str| offerings.iter().filter_map(|offering| offering.labels.get(key).cloned()).collect();
    let ids = offerings.iter().filter_map(|offering| Some(offering.reservation.as_ref()?.id.clone()));
    some(keys::CAPACITY_RESERVATION_ID, ids.collect());
    some(keys::CAPACITY_RESERVATION_TYPE, label(keys::CAPACITY_RESERVATION_TYPE));
    some(keys::CAPACITY_RESERVATION_INTERRUPTIBLE, label(keys::CAPACITY_RESERVATION_INTERRUPTIBLE));
}

/// The labels of one node of the type: those that leave no choice, and what its launch chose.
pub(crate) fn of_node(requirements: &Requirements, chosen: &[(&str, String)]) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = requirements
        .0
        .iter()
        .filter(|(_, requirement)| requirement.must_exist && !requirement.complement && requirement.values.len() == 1)
        .filter_map(|(key, requirement)| Some((key.clone(), requirement.values.first()?.clone())))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    labels.extend(chosen.iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| ((*k).to_owned(), v.clone())));
    labels
}

/// Category and generation of a family: `c` and `7` of `c7gn`; what a `u-6tb1` has is the generation 1.
fn kind(family: &str) -> (&str, &str) {
    let end = |text: &str, what: fn(&char) -> bool| text.find(|c| !what(&c)).unwrap_or(text.len());
    let (category, rest) = family.split_at(end(family, char::is_ascii_alphabetic));
    let terabytes = rest.strip_prefix('-').and_then(|rest| rest.split_once("tb")).map(|(_, rest)| rest);
    let rest = terabytes.unwrap_or(rest);
    (category, &rest[..end(rest, char::is_ascii_digit)])
}

/// The one of its kind: labels have no room for two.
fn only<T>(all: &[T]) -> Option<&T> {
    match all {
        [one] => Some(one),
        _ => None,
    }
}

/// EC2's word for an architecture in Kubernetes' words.
pub(crate) fn architecture(ec2: &str) -> Option<&'static str> {
    match ec2 {
        "x86_64" => Some("amd64"),
        "arm64" => Some("arm64"),
        _ => None,
    }
}

fn kebab(name: &str) -> String {
    name.to_ascii_lowercase().replace(' ', "-")
}

/// Baseline bandwidth in Mbit/s by type, from EC2's documentation.
static BANDWIDTH: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    include_str!("../data/network-bandwidth.tsv").lines().skip(1).filter_map(|line| line.split_once('\t')).collect()
});
