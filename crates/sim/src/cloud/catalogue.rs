//! What this world's EC2 sells: a few sizes of three families in three zones.

use std::collections::BTreeMap;

use karpenter_aws::report::{Image, InstanceTypeInfo, NetworkCard, NetworkInfo, SecurityGroup, Subnet};

pub(crate) const REGION: &str = "us-west-2";
pub(crate) const ZONES: [&str; 3] = ["us-west-2a", "us-west-2b", "us-west-2c"];
const GIB: i64 = 1 << 30;

/// Family, GiB per vCPU, dollars per vCPU and hour.
const FAMILIES: [(&str, i64, f64); 3] = [("c5", 2, 0.0425), ("m5", 4, 0.048), ("r5", 8, 0.063)];
/// Size, vCPUs, network interfaces, addresses of each.
const SIZES: [(&str, i64, i64, i64); 4] =
    [("large", 2, 3, 10), ("xlarge", 4, 4, 15), ("2xlarge", 8, 4, 15), ("4xlarge", 16, 8, 30)];

pub(crate) fn types() -> Vec<InstanceTypeInfo> {
    let mut all = Vec::new();
    for (family, memory, _) in FAMILIES {
        for (size, vcpus, interfaces, addresses) in SIZES {
            all.push(InstanceTypeInfo {
                name: format!("{family}.{size}"),
                architectures: vec!["x86_64".to_owned()],
                usage_classes: vec!["on-demand".to_owned(), "spot".to_owned()],
                hypervisor: "nitro".to_owned(),
                vcpus,
                memory_mib: vcpus * memory * 1024,
                cpu_manufacturer: "Intel".to_owned(),
                network: NetworkInfo {
                    maximum_interfaces: interfaces,
                    ipv4_per_interface: addresses,
                    default_card: 0,
                    cards: vec![NetworkCard { index: 0, maximum_interfaces: interfaces }],
                    ena: true,
                    efa_maximum_interfaces: None,
                },
                zones: ZONES.iter().map(|zone| (*zone).to_owned()).collect(),
                ..InstanceTypeInfo::default()
            });
        }
    }
    all
}

pub(crate) fn on_demand() -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for (family, _, price) in FAMILIES {
        for (size, vcpus, ..) in SIZES {
            let vcpus = u32::try_from(vcpus).unwrap_or(1);
            all.insert(format!("{family}.{size}"), price * f64::from(vcpus));
        }
    }
    all
}

pub(crate) fn subnets() -> Vec<Subnet> {
    let subnet = |(at, zone): (usize, &&str)| Subnet {
        id: format!("subnet-{at}"),
        zone: (*zone).to_owned(),
        zone_id: format!("usw2-az{}", at + 1),
        available_addresses: 8_000,
        tags: BTreeMap::new(),
    };
    ZONES.iter().enumerate().map(subnet).collect()
}

pub(crate) fn groups() -> Vec<SecurityGroup> {
    vec![SecurityGroup { id: "sg-1".to_owned(), name: "nodes".to_owned(), tags: BTreeMap::new() }]
}

pub(crate) fn image(id: &str, architecture: &str) -> Image {
    Image {
        id: id.to_owned(),
        name: format!("amazon-eks-node-{architecture}"),
        architecture: architecture.to_owned(),
        owner: "602401143452".to_owned(),
        ..Image::default()
    }
}

/// A machine as its kubelet finds it: a little more memory than the catalogue promises.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) vcpus: i64,
    pub(crate) memory: i64,
    pub(crate) pods: i64,
}

pub(crate) fn shape(instance_type: &str) -> Option<Shape> {
    let (family, size) = instance_type.split_once('.')?;
    let (_, memory, _) = FAMILIES.iter().find(|(name, ..)| *name == family)?;
    let (_, vcpus, interfaces, addresses) = SIZES.iter().find(|(name, ..)| *name == size)?;
    let pods = interfaces * (addresses - 1) + 2;
    Some(Shape { vcpus: *vcpus, memory: vcpus * memory * GIB * 95 / 100, pods })
}

impl Shape {
    /// What pods can use.
    pub(crate) fn allocatable(self) -> (i64, i64) {
        (self.vcpus * 1000 - 60 - self.vcpus * 5, self.memory - (255 + 11 * self.pods + 100) * (1 << 20))
    }
}
