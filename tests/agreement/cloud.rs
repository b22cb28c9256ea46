//! A small catalogue that the dice made.

use std::collections::BTreeMap;
use std::sync::Arc;

use karpenter_api::labels;
use karpenter_bench::FixedCloud;
use karpenter_core::cloud::{CapacityType, InstanceType, Offering, Price};
use karpenter_core::{Requirement, Requirements, Resources, resources};

use crate::dice::Dice;

pub(crate) const ZONES: [&str; 4] = ["test-1a", "test-1b", "test-1c", "test-1d"];
pub(crate) const CAPACITY_TYPES: [&str; 2] = ["on-demand", "spot"];
pub(crate) const ARCHS: [&str; 2] = ["amd64", "arm64"];
pub(crate) const FAMILIES: [&str; 4] = ["c5", "m6", "r7", "f2"];
pub(crate) const FPGA: &str = "example.com/fpga";
const REGION: &str = "test-1";

pub(crate) fn random(dice: &mut Dice) -> FixedCloud {
    let mut types: BTreeMap<String, Arc<InstanceType>> = BTreeMap::new();
    let zones = dice.within(2, 4) as usize;
    for _ in 0..dice.within(6, 12) {
        let one = random_type(dice, &ZONES[..zones]);
        types.insert(one.name.clone(), Arc::new(one));
    }
    FixedCloud { types: types.into_values().collect() }
}

pub(crate) fn get<'c>(cloud: &'c FixedCloud, name: &str) -> Option<&'c InstanceType> {
    cloud.types.iter().map(AsRef::as_ref).find(|one| one.name == name)
}

fn random_type(dice: &mut Dice, zones: &[&str]) -> InstanceType {
    let (family, arch) = (*dice.pick(&FAMILIES), *dice.pick(&ARCHS));
    let cpu = 1_i64 << dice.within(1, 4);
    let gib = cpu * i64::from(*dice.pick(&[2_u32, 4, 8]));
    let generation = &family[1..];
    let name = format!("{family}-{arch}.{cpu}x{gib}");
    let mut capacity: Resources = [
        (resources::CPU, cpu * 1000),
        (resources::MEMORY, gib << 30),
        (resources::EPHEMERAL_STORAGE, 40 << 30),
        (resources::PODS, i64::from(*dice.pick(&[6_u32, 20, 58, 110]))),
    ]
    .into_iter()
    .collect();
    if family == "f2" || dice.chance(15) {
        capacity.set(FPGA, i64::from(dice.within(1, 4)));
    }
    let mut allocatable = capacity.clone();
    allocatable.subtract(
        &[(resources::CPU, 80), (resources::MEMORY, 300 << 20), (resources::EPHEMERAL_STORAGE, 5 << 30)]
            .into_iter()
            .collect(),
    );
    let offerings = offerings(dice, zones, cpu, gib);
    let mut all = Requirements::default();
    let mut one = |key: &str, values: Vec<String>| all.add(key, Requirement::one_of(values));
    one(labels::INSTANCE_TYPE, vec![name.clone()]);
    one(labels::ARCH, vec![arch.to_owned()]);
    one(labels::OS, vec!["linux".to_owned()]);
    one(labels::REGION, vec![REGION.to_owned()]);
    one(labels::INSTANCE_FAMILY, vec![family.to_owned()]);
    one(labels::INSTANCE_GENERATION, vec![generation.to_owned()]);
    one(labels::INSTANCE_CPU, vec![cpu.to_string()]);
    one(labels::INSTANCE_MEMORY, vec![(gib << 10).to_string()]);
    one(labels::ZONE, offerings.iter().map(|offering| offering.zone.clone()).collect());
    one(labels::ZONE_ID, offerings.iter().map(|offering| offering.zone_id.clone()).collect());
    one(labels::CAPACITY_TYPE, offerings.iter().map(|o| o.capacity_type.as_str().to_owned()).collect());
    all.add(labels::INSTANCE_GPU_COUNT, Requirement::does_not_exist());
    InstanceType { name, requirements: all.into(), capacity, allocatable, offerings }
}

fn offerings(dice: &mut Dice, zones: &[&str], cpu: i64, gib: i64) -> Vec<Offering> {
    let full = Price::try_from(cpu * 30_000 + gib * 4_000).unwrap_or_default();
    let sure = dice.below(zones.len());
    let mut all = Vec::new();
    for (at, zone) in zones.iter().enumerate() {
        for capacity_type in [CapacityType::OnDemand, CapacityType::Spot] {
            let spot = capacity_type == CapacityType::Spot;
            let certain = at == sure && !spot;
            if certain || dice.chance(75) {
                all.push(Offering {
                    capacity_type,
                    zone: (*zone).to_owned(),
                    zone_id: zone_id(zone),
                    price: if spot { full * u64::from(dice.within(25, 80)) / 100 } else { full },
                    available: certain || dice.chance(85),
                    labels: BTreeMap::new(),
                    reservation: None,
                });
            }
        }
    }
    all
}

pub(crate) fn zone_id(zone: &str) -> String {
    format!("{zone}-id")
}

/// The labels that a node of this type has however it is bought.
pub(crate) fn fixed_labels(of: &InstanceType) -> BTreeMap<String, String> {
    let bought = [labels::ZONE, labels::ZONE_ID, labels::CAPACITY_TYPE];
    let settled = of.requirements.0.iter().filter(|(key, _)| !bought.contains(&key.as_str()));
    let mut all: BTreeMap<String, String> =
        settled.filter_map(|(key, one)| Some((key.clone(), one.values.first()?.clone()))).collect();
    // Kubelets still set it.
    all.extend(all.get(labels::ARCH).map(|arch| ("beta.kubernetes.io/arch".to_owned(), arch.clone())));
    all
}

/// The labels that an offering settles.
pub(crate) fn bought_labels(offering: &Offering) -> [(&'static str, String); 4] {
    [
        (labels::ZONE, offering.zone.clone()),
        // Cloud controllers still set it.
        ("failure-domain.beta.kubernetes.io/zone", offering.zone.clone()),
        (labels::ZONE_ID, offering.zone_id.clone()),
        (labels::CAPACITY_TYPE, offering.capacity_type.as_str().to_owned()),
    ]
}
