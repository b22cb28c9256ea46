//! AWS as reports tell it: every instance type that moto ships, and classes that are ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use karpenter_api::NodePool;
use karpenter_aws::report::{Accelerator, Gpu, InstanceTypeInfo, NetworkCard, NetworkInfo, Report, Subnet};
use karpenter_aws::{Aws, AwsSettings};
use karpenter_core::cloud::{CapacityType, InstanceType, Offering};
use karpenter_core::{Cloud, Observation, Timestamp, World};
use serde_json::{Value, json};

pub(crate) const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];

/// A file of this crate's own data: its rows without the head, each with as many cells.
pub(crate) fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).skip(1).map(|line| line.split('\t').collect()).collect()
}

/// Types that tests speak of: to look at all takes a second.
const FEW: [&str; 17] = [
    "a1.large",
    "inf1.xlarge",
    "m4.large",
    "m5.large",
    "m5.metal",
    "m5.xlarge",
    "m5d.large",
    "m6g.large",
    "m7i-flex.large",
    "p4d.24xlarge",
    "t3.large",
    "trn1.2xlarge",
    "trn1.32xlarge",
    "u-6tb1.56xlarge",
    "u7in-16tb.224xlarge",
    "c5.large",
    "r5.large",
];

/// Every instance type of moto's that Karpenter asks EC2 for.
pub(crate) fn every_type() -> Vec<InstanceTypeInfo> {
    table(include_str!("../data/instance-types.tsv")).iter().map(|cells| read(cells)).collect()
}

fn read(cells: &[&str]) -> InstanceTypeInfo {
    let [
        name,
        architectures,
        usage,
        hypervisor,
        metal,
        vcpus,
        mib,
        maker,
        ghz,
        encrypted,
        enclaves,
        ebs,
        storage,
        nvme,
        ena,
        cards,
        addresses,
        efa,
        groups,
        gpus,
        neuron,
        inference,
    ] = cells
    else {
        panic!("22 cells expected: {cells:?}");
    };
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let number = |text: &str| text.parse::<i64>().ok();
    let lists = |text: &str| -> Vec<Vec<String>> {
        let some = text.split(';').filter(|part| !part.is_empty());
        some.map(|part| part.split('/').map(str::to_owned).collect()).collect()
    };
    let card = |(index, text): (usize, &str)| NetworkCard {
        index: i64::try_from(index).unwrap(),
        maximum_interfaces: text.trim_start_matches('#').parse().unwrap(),
    };
    let default_card = cards.split(',').position(|card| card.starts_with('#')).unwrap();
    let network = NetworkInfo {
        maximum_interfaces: cards.split(',').enumerate().map(|one| card(one).maximum_interfaces).sum(),
        ipv4_per_interface: addresses.parse().unwrap(),
        default_card: i64::try_from(default_card).unwrap(),
        cards: cards.split(',').enumerate().map(card).collect(),
        ena: *ena != "unsupported",
        efa_maximum_interfaces: number(efa),
    };
    let gpu = |cells: &Vec<String>| Gpu {
        manufacturer: cells[0].clone(),
        name: cells[1].clone(),
        count: cells[2].parse().unwrap(),
        memory_mib: cells[3].parse().unwrap(),
    };
    let device = |cells: &Vec<String>| Accelerator {
        name: cells[0].clone(),
        manufacturer: "aws".to_owned(),
        count: cells[1].parse().unwrap(),
        cores: cells[2].parse().unwrap(),
    };
    let accelerator = |cells: &Vec<String>| Accelerator {
        manufacturer: cells[0].clone(),
        name: cells[1].clone(),
        count: cells[2].parse().unwrap(),
        cores: 0,
    };
    InstanceTypeInfo {
        name: (*name).to_owned(),
        architectures: words(architectures),
        usage_classes: words(usage),
        bare_metal: *metal == "yes",
        hypervisor: (*hypervisor).to_owned(),
        vcpus: vcpus.parse().unwrap(),
        memory_mib: mib.parse().unwrap(),
        cpu_manufacturer: (*maker).to_owned(),
        sustained_clock_ghz: ghz.parse().ok(),
        encryption_in_transit: *encrypted == "yes",
        enclaves: *enclaves == "yes",
        nested_virtualization: false,
        group_strategies: words(groups),
        ebs_optimized_default: !ebs.is_empty(),
        ebs_maximum_bandwidth_mbps: number(ebs),
        instance_storage_gb: number(storage),
        nvme: (*nvme).to_owned(),
        network,
        gpus: lists(gpus).iter().map(gpu).collect(),
        neuron: lists(neuron).iter().map(device).collect(),
        inference: lists(inference).iter().map(accelerator).collect(),
        zones: ZONES.map(str::to_owned).to_vec(),
    }
}

/// AWS, a World and a clock that a test moves.
pub(crate) struct Market {
    pub(crate) aws: Aws,
    pub(crate) world: World,
    pub(crate) now: Timestamp,
}

impl Market {
    /// A few types are sold in three zones, and nothing but the bundled prices is known.
    pub(crate) fn open(settings: AwsSettings) -> Self {
        Self::with_types(settings, every_type().into_iter().filter(|info| FEW.contains(&info.name.as_str())).collect())
    }

    /// With every type.
    pub(crate) fn full(settings: AwsSettings) -> Self {
        Self::with_types(settings, every_type())
    }

    fn with_types(settings: AwsSettings, types: Vec<InstanceTypeInfo>) -> Self {
        let settings = AwsSettings { region: "us-east-1".into(), cluster_name: "dev".into(), ..settings };
        let mut market =
            Self { aws: Aws::new(settings), world: World::default(), now: "2026-01-01T00:00:00Z".parse().unwrap() };
        market.hear(Report::InstanceTypes { result: Ok(types) });
        market
    }

    /// With one class of this spec.
    pub(crate) fn selling(settings: AwsSettings, spec: &Value) -> Self {
        Self::open(settings).with_class(spec)
    }

    /// With one class of this spec, named `default`.
    pub(crate) fn with_class(mut self, spec: &Value) -> Self {
        self.class("default", spec);
        self.tick();
        self
    }

    /// A class that is ready and has subnets in all zones.
    pub(crate) fn class(&mut self, name: &str, spec: &Value) {
        let mut all = json!({
            "instanceProfile": "nodes", "amiSelectorTerms": [{ "alias": "al2023@latest" }],
            "subnetSelectorTerms": [{ "id": "subnet-1" }], "securityGroupSelectorTerms": [{ "id": "sg-1" }],
        });
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        let object = serde_json::from_value(json!({
            "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
            "metadata": { "name": name, "uid": name, "generation": 1 },
            "spec": all,
            "status": {
                "amis": [{ "id": "ami-1", "requirements": [] }],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            },
        }));
        self.aws.node_class_applied(object.unwrap(), self.now);
        self.subnets(name, &ZONES);
    }

    pub(crate) fn subnets(&mut self, class: &str, zones: &[&str]) {
        let subnet = |zone: &&str| Subnet {
            id: format!("subnet-{zone}"),
            zone: (*zone).to_owned(),
            zone_id: zone_id(zone).to_owned(),
            available_addresses: 100,
            ..Subnet::default()
        };
        let subnets = zones.iter().map(subnet).collect();
        self.hear(Report::Subnets { class: class.to_owned(), generation: 1, result: Ok(subnets) });
    }

    pub(crate) fn hear(&mut self, report: Report) {
        for observation in self.aws.apply(report, self.now) {
            self.world.apply(observation, self.now);
        }
    }

    /// Whether the catalogue is another now.
    pub(crate) fn tick(&mut self) -> bool {
        let told = self.aws.tick(&self.world, self.now);
        told.iter().any(|one| matches!(one, Observation::CatalogueChanged))
    }

    pub(crate) fn after(&mut self, seconds: i64) -> bool {
        self.now += jiff::SignedDuration::from_secs(seconds);
        self.tick()
    }

    pub(crate) fn rows(&self, class: &str) -> Arc<[Arc<InstanceType>]> {
        let pool: NodePool = serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "general" },
            "spec": { "template": { "spec": {
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": class },
                "requirements": [],
            } } },
        }))
        .unwrap();
        self.aws.catalogue(&pool).unwrap()
    }

    /// The row of a type of the class `default`.
    pub(crate) fn row(&self, name: &str) -> Arc<InstanceType> {
        self.find(name).unwrap_or_else(|| panic!("{name} is not sold"))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<InstanceType>> {
        self.rows("default").iter().find(|row| row.name == name).cloned()
    }

    pub(crate) fn offering(&self, name: &str, capacity_type: CapacityType, zone: &str) -> Option<Offering> {
        let row = self.find(name)?;
        row.offerings.iter().find(|one| one.capacity_type == capacity_type && one.zone == zone).cloned()
    }

    /// Whether anything of the type can be had.
    pub(crate) fn sells(&self, name: &str) -> bool {
        self.find(name).is_some_and(|row| row.offerings.iter().any(|offering| offering.available))
    }
}

/// The one value of a label, if nodes of the type have it.
pub(crate) fn label<'a>(row: &'a InstanceType, key: &str) -> Option<&'a str> {
    let requirement = row.requirements.get(key)?;
    assert!(requirement.values.len() <= 1, "{} {key}: {requirement:?}", row.name);
    requirement.values.first().map(String::as_str)
}

pub(crate) fn spot(prices: &[(&str, &str, f64)]) -> Report {
    let all: BTreeMap<(String, String), f64> =
        prices.iter().map(|(name, zone, usd)| (((*name).to_owned(), (*zone).to_owned()), *usd)).collect();
    Report::SpotPrices { result: Ok(all) }
}

pub(crate) fn zone_id(zone: &str) -> &'static str {
    match zone {
        "us-east-1a" => "use1-az4",
        "us-east-1b" => "use1-az6",
        _ => "use1-az1",
    }
}
