//! What calls came back with, in AWS's own figures: nothing is interpreted by the wire crate.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::call::{Find, Launch};

/// The one answer to each [`crate::call::Call`], in the same order.
#[derive(Clone, Debug)]
pub enum Report {
    Cluster {
        result: Result<Cluster, CallError>,
    },
    InstanceTypes {
        result: Result<Vec<InstanceTypeInfo>, CallError>,
    },
    /// Instance type → USD per hour.
    OnDemandPrices {
        result: Result<BTreeMap<String, f64>, CallError>,
    },
    /// (instance type, zone) → USD per hour.
    SpotPrices {
        result: Result<BTreeMap<(String, String), f64>, CallError>,
    },
    ZonalShifts {
        result: Result<Vec<ZonalShift>, CallError>,
    },
    Subnets {
        class: String,
        generation: i64,
        result: Result<Vec<Subnet>, CallError>,
    },
    SecurityGroups {
        class: String,
        generation: i64,
        result: Result<Vec<SecurityGroup>, CallError>,
    },
    /// Images found, and for each SSM parameter the image id it names (absent: no such parameter).
    Images {
        class: String,
        generation: i64,
        result: Result<Images, CallError>,
    },
    /// The group, or that there is none.
    PlacementGroup {
        class: String,
        generation: i64,
        result: Result<Option<PlacementGroup>, CallError>,
    },
    Reservations {
        class: String,
        generation: i64,
        result: Result<Vec<CapacityReservation>, CallError>,
    },
    /// The profile that was asked for, and the name of the one that holds the role.
    InstanceProfile {
        class: String,
        wanted: String,
        result: Result<String, CallError>,
    },
    InstanceProfiles {
        result: Result<Vec<InstanceProfileInfo>, CallError>,
    },
    InstanceProfileDeleted {
        name: String,
        result: Result<(), CallError>,
    },
    /// Which operation refused says the error.
    Validated {
        class: String,
        inputs: String,
        result: Result<(), CallError>,
    },
    ClassResourcesDeleted {
        class: String,
        result: Result<(), CallError>,
    },
    /// Names.
    LaunchTemplates {
        result: Result<Vec<String>, CallError>,
    },
    LaunchTemplatesCreated {
        result: Result<(), CallError>,
    },
    LaunchTemplateDeleted {
        name: String,
        result: Result<(), CallError>,
    },
    Tagged {
        instance_id: String,
        tags: BTreeMap<String, String>,
        result: Result<(), CallError>,
    },
    Instances {
        asked_at: Timestamp,
        result: Result<Vec<InstanceInfo>, CallError>,
    },
    /// Of all instances of the account, those with something wrong.
    InstanceStatuses {
        result: Result<Vec<InstanceTrouble>, CallError>,
    },
    Launch {
        launch: Box<Launch>,
        result: Result<Fleet, CallError>,
    },
    Find {
        find: Find,
        result: Result<Vec<InstanceInfo>, CallError>,
    },
    /// `Ok(false)`: EC2 does not know the instance, or it is terminated already.
    Terminate {
        provider_id: String,
        result: Result<bool, CallError>,
    },
}

impl Report {
    /// Why the call did not succeed, if it did not.
    pub fn error(&self) -> Option<&CallError> {
        match self {
            Self::LaunchTemplates { result } => result.as_ref().err(),
            Self::Cluster { result } => result.as_ref().err(),
            Self::InstanceTypes { result } => result.as_ref().err(),
            Self::OnDemandPrices { result } => result.as_ref().err(),
            Self::SpotPrices { result } => result.as_ref().err(),
            Self::ZonalShifts { result } => result.as_ref().err(),
            Self::Subnets { result, .. } => result.as_ref().err(),
            Self::SecurityGroups { result, .. } => result.as_ref().err(),
            Self::Images { result, .. } => result.as_ref().err(),
            Self::PlacementGroup { result, .. } => result.as_ref().err(),
            Self::Reservations { result, .. } => result.as_ref().err(),
            Self::InstanceProfile { result, .. } => result.as_ref().err(),
            Self::InstanceProfiles { result } => result.as_ref().err(),
            Self::InstanceProfileDeleted { result, .. }
            | Self::LaunchTemplatesCreated { result }
            | Self::LaunchTemplateDeleted { result, .. }
            | Self::Tagged { result, .. }
            | Self::Validated { result, .. }
            | Self::ClassResourcesDeleted { result, .. } => result.as_ref().err(),
            Self::InstanceStatuses { result } => result.as_ref().err(),
            Self::Instances { result, .. } | Self::Find { result, .. } => result.as_ref().err(),
            Self::Launch { result, .. } => result.as_ref().err(),
            Self::Terminate { result, .. } => result.as_ref().err(),
        }
    }
}

/// What image selectors came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    pub images: Vec<Image>,
    /// SSM parameter → image id; a parameter that does not exist is absent.
    pub parameters: BTreeMap<String, String>,
}

/// An AWS error: the service's code decides what it means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {code}: {message}")]
pub struct CallError {
    pub operation: &'static str,
    /// e.g. `UnauthorizedOperation`; `Timeout` and `Dispatch` stand for failures below HTTP.
    pub code: String,
    pub message: String,
    /// The request may have taken effect (time-out, connection loss, 5xx).
    pub uncertain: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub arn: String,
    pub endpoint: String,
    /// Base64 PEM.
    pub certificate_authority: String,
    pub service_ipv4_cidr: Option<String>,
    pub service_ipv6_cidr: Option<String>,
    /// e.g. `1.36`
    pub version: String,
    /// Address of the cluster's DNS service, which EKS does not tell.
    pub dns: Option<IpAddr>,
}

/// A zonal shift or autoshift of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonalShift {
    pub zone_id: String,
    /// It is in force.
    pub applied: bool,
    /// `None`: as long as it is listed.
    pub until: Option<Timestamp>,
}

impl Cluster {
    /// The range of service addresses, IPv4 before IPv6.
    pub fn service_cidr(&self) -> Option<&str> {
        self.service_ipv4_cidr.as_deref().or(self.service_ipv6_cidr.as_deref())
    }
}

/// The fields of DescribeInstanceTypes that labels and capacity are computed from.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InstanceTypeInfo {
    pub name: String,
    /// `x86_64`, `arm64`, as EC2 lists them.
    pub architectures: Vec<String>,
    pub usage_classes: Vec<String>,
    pub bare_metal: bool,
    /// `nitro`, `xen` or empty.
    pub hypervisor: String,
    pub vcpus: i64,
    pub memory_mib: i64,
    /// e.g. `Intel`, `AMD`, `AWS`; empty when unknown.
    pub cpu_manufacturer: String,
    pub sustained_clock_ghz: Option<f64>,
    pub encryption_in_transit: bool,
    /// Nitro Enclaves are supported.
    pub enclaves: bool,
    /// Nested virtualisation can be switched on.
    pub nested_virtualization: bool,
    /// Strategies of the placement groups that take it.
    pub group_strategies: Vec<String>,
    pub ebs_optimized_default: bool,
    pub ebs_maximum_bandwidth_mbps: Option<i64>,
    pub instance_storage_gb: Option<i64>,
    /// `required`, `supported`, `unsupported`; empty without storage.
    pub nvme: String,
    pub network: NetworkInfo,
    pub gpus: Vec<Gpu>,
    /// Inferentia and Trainium, by DescribeInstanceTypes' neuronInfo.
    pub neuron: Vec<Accelerator>,
    /// inferenceAcceleratorInfo (older Inferentia).
    pub inference: Vec<Accelerator>,
    /// Zone names that offer the type.
    pub zones: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NetworkInfo {
    pub maximum_interfaces: i64,
    pub ipv4_per_interface: i64,
    pub default_card: i64,
    pub cards: Vec<NetworkCard>,
    /// False: the type has no elastic network adapter.
    pub ena: bool,
    pub efa_maximum_interfaces: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NetworkCard {
    pub index: i64,
    pub maximum_interfaces: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Gpu {
    pub name: String,
    pub manufacturer: String,
    pub count: i64,
    pub memory_mib: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Accelerator {
    pub name: String,
    pub manufacturer: String,
    pub count: i64,
    /// Cores per device, where EC2 says.
    pub cores: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subnet {
    pub id: String,
    pub zone: String,
    pub zone_id: String,
    pub available_addresses: i64,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SecurityGroup {
    pub id: String,
    pub name: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PlacementGroup {
    pub id: String,
    pub name: String,
    /// `cluster`, `partition` or `spread`.
    pub strategy: String,
    pub partitions: Option<i32>,
    /// `rack` or `host`; empty unless the strategy is `spread`.
    pub spread_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CapacityReservation {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub owner: String,
    /// `open` or `targeted`.
    pub match_criteria: String,
    /// `default` or `capacity-block`.
    pub kind: String,
    pub interruptible: bool,
    pub ends: Option<Timestamp>,
    /// Instances it has room for now.
    pub available: i64,
    pub total: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InstanceProfileInfo {
    pub name: String,
    pub created: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Image {
    pub id: String,
    pub name: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    pub created: Option<Timestamp>,
    pub deprecated: Option<Timestamp>,
    pub owner: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InstanceInfo {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub zone_id: String,
    pub image_id: String,
    pub subnet_id: String,
    /// Of its primary network interface.
    pub security_group_ids: Vec<String>,
    pub spot: bool,
    /// Id of the capacity reservation it runs in.
    pub reservation: Option<String>,
    /// Some of its network interfaces are EFA.
    pub efa: bool,
    /// Id of the placement group it is in.
    pub group: Option<String>,
    /// Number of its partition, if the group has partitions.
    pub partition: Option<i32>,
    /// EC2's word: `default`, `dedicated`; empty when it does not say.
    pub tenancy: String,
    /// EC2's word: `pending`, `running`, `shutting-down`, `stopping`, `stopped`, `terminated`.
    pub state: String,
    pub launched_at: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
}

impl InstanceInfo {
    /// EC2 runs it, or is about to.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "running")
    }
}

/// What is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTrouble {
    pub id: String,
    pub zone: String,
    pub kind: TroubleKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// A check of the instance has failed, since then if EC2 says so.
    Instance(Option<Timestamp>),
    /// A check of the machine below it.
    System(Option<Timestamp>),
    /// EC2 is going to do something to it; its code, e.g. `instance-retirement`.
    Event(String),
}

/// What CreateFleet answered. Both lists may be filled.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Fleet {
    pub instances: Vec<FleetInstance>,
    pub errors: Vec<FleetError>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FleetInstance {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub subnet_id: String,
    pub image_id: String,
    pub spot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FleetError {
    pub code: String,
    pub message: String,
    pub instance_type: String,
    pub zone: String,
    pub subnet_id: String,
    pub spot: bool,
}
