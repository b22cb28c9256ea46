//! The input file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use karpenter_api::NodePool;
use karpenter_core::cloud::{CapacityType, InstanceType, Offering};
use karpenter_core::{Requirement, Requirements, Resources, Settings, resources};
use serde::{Deserialize, Serialize};

/// A cluster without nodes, what can be bought, and the pods that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    /// `Respect` or `Ignore`.
    pub preference_policy: String,
    /// `Strict` or `BestEffort`.
    pub min_values_policy: String,
    pub instance_types: Vec<TypeRow>,
    pub node_pools: Vec<NodePool>,
    pub daemonsets: Vec<DaemonSet>,
    pub pods: Vec<PodGroup>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeRow {
    pub name: String,
    /// Label values a node of the type can have; an empty list: a node does not have the label.
    pub requirements: BTreeMap<String, Vec<String>>,
    pub capacity: BTreeMap<String, Quantity>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub offerings: Vec<OfferingRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferingRow {
    pub zone: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone_id: String,
    pub capacity_type: String,
    /// USD per hour, in whole micro-dollars.
    pub price: f64,
    pub available: bool,
}

/// Pods that differ by name, UID and nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodGroup {
    pub template: Pod,
    pub count: usize,
}

impl Input {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        serde_json::from_reader(BufReader::new(file)).with_context(|| path.display().to_string())
    }

    pub fn pod_count(&self) -> usize {
        self.pods.iter().map(|group| group.count).sum()
    }

    /// The pods of all groups. Names and UIDs are the same on both sides: both schedulers order equal pods by UID.
    pub fn pods(&self) -> impl Iterator<Item = Pod> {
        // 2026-01-01T00:00:00Z
        let created = Timestamp::from_second(1_767_225_600).ok().map(Time);
        let templates = self.pods.iter().flat_map(|group| std::iter::repeat_n(&group.template, group.count));
        templates.zip(0_u64..).map(move |(template, index)| {
            let mut pod = template.clone();
            pod.metadata.name = Some(format!("pod-{index:05}"));
            pod.metadata.uid = Some(pod_uid(index));
            pod.metadata.creation_timestamp.clone_from(&created);
            pod
        })
    }

    pub fn settings(&self) -> anyhow::Result<Settings> {
        let preference_policy =
            self.preference_policy.parse().map_err(|wrong: String| anyhow!("preference_policy: {wrong}"))?;
        let min_values_policy =
            self.min_values_policy.parse().map_err(|wrong: String| anyhow!("min_values_policy: {wrong}"))?;
        Ok(Settings { preference_policy, min_values_policy, ..Settings::default() })
    }
}

/// Two steps of SplitMix64 in the form of a UUID, so that pods that are alike do not come in the file's order.
fn pod_uid(index: u64) -> String {
    let (high, low) = (split_mix(2 * index + 1), split_mix(2 * index + 2));
    let (node, part) = (low & 0xffff_ffff_ffff, low >> 48);
    format!("{:08x}-{:04x}-{:04x}-{part:04x}-{node:012x}", high >> 32, high >> 16 & 0xffff, high & 0xffff)
}

/// The `step`-th number of SplitMix64 from the seed 0.
pub const fn split_mix(step: u64) -> u64 {
    let mut z = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl TypeRow {
    pub fn of(row: &InstanceType) -> Self {
        let quantities = |amounts: &Resources| {
            let text = |name: &str, amount: i64| Quantity(resources::quantity(name, amount).to_string());
            amounts.0.iter().map(|(name, amount)| (name.clone(), text(name, *amount))).collect()
        };
        let values = |requirement: &Requirement| requirement.values.iter().cloned().collect();
        Self {
            name: row.name.clone(),
            requirements: row.requirements.0.iter().map(|(key, one)| (key.clone(), values(one))).collect(),
            capacity: quantities(&row.capacity),
            allocatable: quantities(&row.allocatable),
            offerings: row.offerings.iter().map(OfferingRow::of).collect(),
        }
    }

    pub fn instance_type(&self) -> anyhow::Result<InstanceType> {
        let one = |(key, values): (&String, &Vec<String>)| (key.clone(), Requirement::one_of(values.iter().cloned()));
        Ok(InstanceType {
            name: self.name.clone(),
            requirements: Requirements(self.requirements.iter().map(one).collect()).into(),
            capacity: Resources::from_quantities(&self.capacity),
            allocatable: Resources::from_quantities(&self.allocatable),
            offerings: self
                .offerings
                .iter()
                .map(OfferingRow::offering)
                .collect::<anyhow::Result<_>>()
                .with_context(|| self.name.clone())?,
        })
    }
}

impl OfferingRow {
    #[expect(clippy::cast_precision_loss, reason = "prices are far below 2^52 micro-dollars")]
    fn of(offering: &Offering) -> Self {
        Self {
            zone: offering.zone.clone(),
            zone_id: offering.zone_id.clone(),
            capacity_type: offering.capacity_type.as_str().to_owned(),
            price: offering.price as f64 / 1e6,
            available: offering.available,
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "prices are small and positive")]
    fn offering(&self) -> anyhow::Result<Offering> {
        let Some(capacity_type) = CapacityType::parse(&self.capacity_type) else {
            bail!("capacity_type: found {:?}, expected reserved, spot or on-demand", self.capacity_type);
        };
        Ok(Offering {
            capacity_type,
            zone: self.zone.clone(),
            zone_id: self.zone_id.clone(),
            price: (self.price * 1e6).round() as u64,
            available: self.available,
            reservation: None,
            labels: BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_expand_to_pods_with_names_and_uids_of_their_own() {
        let group = |namespace: &str, count| {
            let template = serde_json::json!({"metadata": {"namespace": namespace}});
            PodGroup { template: serde_json::from_value(template).unwrap(), count }
        };
        let input = Input {
            name: String::new(),
            preference_policy: "Respect".to_owned(),
            min_values_policy: "Strict".to_owned(),
            instance_types: Vec::new(),
            node_pools: Vec::new(),
            daemonsets: Vec::new(),
            pods: vec![group("a", 1), group("b", 2)],
        };
        let pods: Vec<(String, String, String)> = input
            .pods()
            .map(|pod| (pod.metadata.namespace.unwrap(), pod.metadata.name.unwrap(), pod.metadata.uid.unwrap()))
            .collect();
        // The UIDs that the Go side gives the same pods.
        let expected = [
            ("a", "pod-00000", "e220a839-7b1d-cdaf-6e78-9e6aa1b965f4"),
            ("b", "pod-00001", "06c45d18-8009-454f-f88b-b8a8724c81ec"),
            ("b", "pod-00002", "1b39896a-51a8-749b-53cb-9f0c747ea2ea"),
        ];
        assert_eq!(pods, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    }
}
