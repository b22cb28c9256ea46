//! Requests to AWS, each with every detail fixed. The wire crate turns one into SDK calls and
//! answers with exactly one [`crate::report::Report`]; it pages through results, and retries only
//! what the SDK retries on its own (throttling).

use std::collections::BTreeMap;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    // Polls: reads that are due by age.
    /// EKS DescribeCluster: endpoint, CA, service CIDR, version.
    Cluster {
        name: String,
    },
    /// DescribeInstanceTypes (hvm; x86_64 and arm64) and DescribeInstanceTypeOfferings by zone.
    InstanceTypes,
    /// Pricing GetProducts, both queries, for the region.
    OnDemandPrices,
    /// DescribeSpotPriceHistory from now, Linux/UNIX and Linux/UNIX (Amazon VPC).
    SpotPrices,
    /// ARC GetManagedResource: the zonal shifts of the cluster.
    ZonalShifts {
        cluster_arn: String,
    },
    /// DescribeSubnets; one query per selector term, results joined.
    Subnets {
        class: String,
        generation: i64,
        queries: Vec<Filters>,
    },
    SecurityGroups {
        class: String,
        generation: i64,
        queries: Vec<Filters>,
    },
    /// SSM GetParameter of each name, then DescribeImages by id, plus the image queries.
    Images {
        class: String,
        generation: i64,
        parameters: Vec<String>,
        queries: Vec<ImageQuery>,
    },
    /// DescribePlacementGroups by id or name.
    PlacementGroup {
        class: String,
        generation: i64,
        id: Option<String>,
        name: Option<String>,
    },
    /// DescribeCapacityReservations; one query per selector term, results joined.
    Reservations {
        class: String,
        generation: i64,
        queries: Vec<ReservationQuery>,
    },
    /// GetInstanceProfile, and CreateInstanceProfile / AddRoleToInstanceProfile until it is as wanted. `known` is taken
    /// instead if it is one of the class's own and holds the role.
    EnsureInstanceProfile {
        class: String,
        known: Option<String>,
        profile: InstanceProfile,
    },
    /// ListInstanceProfiles below a path.
    InstanceProfiles {
        path: String,
    },
    /// DeleteInstanceProfile, its role removed first.
    DeleteInstanceProfile {
        name: String,
    },
    /// Whether a class can be launched at all: CreateLaunchTemplate, CreateFleet and RunInstances by dry run, and the
    /// template is deleted again.
    Validate(Box<Trial>),
    /// The instance profiles below a path, those named, and the launch templates of a deleted class.
    DeleteClassResources {
        class: String,
        profiles: Option<Profiles>,
        template_filters: Filters,
    },
    /// DescribeInstances of this cluster, by `filters`, all states but terminated.
    Instances {
        filters: Filters,
    },

    /// DescribeInstanceStatus of what EC2 has found broken: instance checks, system checks, events to come.
    InstanceStatuses,

    /// DescribeLaunchTemplates of this cluster.
    LaunchTemplates {
        filters: Filters,
    },

    // Effects.
    /// Launch templates that a launch is going to need.
    CreateLaunchTemplates {
        templates: Vec<LaunchTemplate>,
    },
    DeleteLaunchTemplate {
        name: String,
    },
    /// CreateTags of one instance.
    Tag {
        instance_id: String,
        tags: BTreeMap<String, String>,
    },
    Launch(Box<Launch>),
    /// DescribeInstances by the tag of a launch.
    Find(Find),
    Terminate {
        provider_id: String,
        instance_id: String,
    },
}

impl Call {
    /// Addresses of this subnet that it may take.
    pub(crate) fn addresses(&self, subnet: &str) -> Option<i64> {
        match self {
            Self::Launch(launch) => launch.addresses.get(subnet).copied(),
            _ => None,
        }
    }
}

/// EC2 filters: name → values; all names must match, any value of a name may.
pub type Filters = BTreeMap<String, Vec<String>>;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageQuery {
    pub ids: Vec<String>,
    pub owners: Vec<String>,
    pub filters: Filters,
}

/// By id (a parameter, EC2 has no filter for it) or by filters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReservationQuery {
    pub id: Option<String>,
    pub filters: Filters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProfile {
    pub name: String,
    pub path: String,
    pub role: String,
    pub tags: BTreeMap<String, String>,
}

/// Instance profiles: those below a path, and those with these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profiles {
    pub path: String,
    pub names: Vec<String>,
}

/// A launch that is tried without launching.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub class: String,
    /// What the trial depends on; its answer counts as long as that stays the same.
    pub inputs: String,
    pub template: LaunchTemplate,
    pub instance_type: String,
    /// One of them has to do.
    pub subnet_ids: Vec<String>,
}

/// A NodeClaim, by which its part of an answer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRef {
    pub name: String,
    pub uid: String,
}

/// A look-up of what a launch has bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    pub token: String,
    /// In the order in which instances are given out.
    pub claims: Vec<ClaimRef>,
    /// Instances of the launch that other claims have.
    pub taken: Vec<String>,
    pub filters: Filters,
}

/// A launch: templates that must exist first, then one CreateFleet of type instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub token: String,
    /// In the order in which instances are given out.
    pub claims: Vec<ClaimRef>,
    /// Instances of the launch that other claims have.
    pub taken: Vec<String>,
    /// How many instances the fleet is asked for.
    pub target: i32,
    /// The fleet's client token: the launch's, so that repeating the call cannot buy anything twice; after an attempt
    /// that is known to have ended without the instances, a new one.
    pub client_token: String,
    /// Addresses that the launch may take of each subnet.
    pub addresses: BTreeMap<String, i64>,
    pub spot: bool,
    /// `lowest-price`, `price-capacity-optimized`, …
    pub allocation_strategy: &'static str,
    pub configs: Vec<FleetConfig>,
    /// For instance, volume and fleet.
    pub tags: BTreeMap<String, String>,
    pub context: Option<String>,
    /// What the claim will be told once the fleet says which override was taken.
    pub knowledge: LaunchKnowledge,
}

/// One launch template and the overrides that use it.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    pub template: LaunchTemplate,
    pub overrides: Vec<Override>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    pub instance_type: String,
    pub zone: String,
    pub subnet_id: String,
    /// Lower is preferred; only for the prioritized strategies.
    pub priority: Option<f64>,
}

/// A launch template by content: `name` is a hash of everything below.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LaunchTemplate {
    pub name: String,
    pub image_id: String,
    /// Base64 of the user data.
    pub user_data: String,
    pub instance_profile: String,
    pub security_group_ids: Vec<String>,
    /// `None` leaves the subnet's setting.
    pub associate_public_ip: Option<bool>,
    /// Every network interface, if they are not left to the defaults; then `associate_public_ip`,
    /// `ipv6` and the security groups apply to each of them that is not `efa-only`.
    pub interfaces: Vec<Interface>,
    /// Address prefixes of each interface that carries IP: IPv6 prefixes if `ipv6`, else IPv4.
    pub ip_prefix_count: Option<i32>,
    pub connection_tracking: Option<ConnectionTracking>,
    /// `dedicated`, or `None` for shared hardware.
    pub tenancy: Option<String>,
    /// Id of the placement group.
    pub placement_group: Option<String>,
    /// Number of the partition of that group; `None` leaves it to EC2.
    pub partition: Option<i32>,
    /// `enabled` or `disabled`; `None` leaves EC2's default.
    pub nested_virtualization: Option<String>,
    /// Nitro Enclaves.
    pub enclave: bool,
    pub reservation: ReservationUse,
    /// `capacity-block`, `interruptible-capacity-reservation`, or `None` for plain capacity.
    pub market: Option<&'static str>,
    pub metadata: MetadataOptions,
    pub block_devices: Vec<BlockDevice>,
    pub detailed_monitoring: bool,
    /// One primary IPv6 address (IPv6 clusters).
    pub ipv6: bool,
    /// For the instances, volumes and network interfaces (and spot requests if `spot`).
    pub tags: BTreeMap<String, String>,
    pub spot: bool,
    /// Tags of the template itself.
    pub template_tags: BTreeMap<String, String>,
}

impl LaunchTemplate {
    /// The size that EC2 limits: that of the decoded user data.
    pub(crate) fn user_data_bytes(&self) -> usize {
        let padding = self.user_data.bytes().rev().take_while(|byte| *byte == b'=').count();
        (self.user_data.len() / 4 * 3).saturating_sub(padding)
    }
}

/// How instances use reservations of capacity.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ReservationUse {
    /// As EC2 has it: any open one that fits.
    #[default]
    Any,
    None,
    /// This one, by id.
    Target(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Interface {
    pub card: i32,
    pub device: i32,
    /// `interface`, `efa` or `efa-only`.
    pub kind: &'static str,
}

/// Idle time-outs of tracked connections, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConnectionTracking {
    pub tcp_established: Option<i32>,
    pub udp_stream: Option<i32>,
    pub udp: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MetadataOptions {
    pub http_endpoint: String,
    pub http_protocol_ipv6: Option<String>,
    pub http_put_response_hop_limit: i32,
    pub http_tokens: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BlockDevice {
    pub device_name: String,
    pub encrypted: Option<bool>,
    pub delete_on_termination: Option<bool>,
    pub iops: Option<i32>,
    pub throughput: Option<i32>,
    pub kms_key_id: Option<String>,
    pub snapshot_id: Option<String>,
    /// GiB, rounded up.
    pub volume_size_gib: Option<i32>,
    pub volume_type: Option<String>,
    pub volume_initialization_rate: Option<i32>,
}

/// Rides along with a launch so that its result needs no second look at the catalogue: the wire
/// crate returns it untouched.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LaunchKnowledge {
    pub class: String,
    pub annotations: BTreeMap<String, String>,
    pub tenancy: String,
    /// The reservation that a type in a zone is launched into.
    pub reserved: BTreeMap<(String, String), String>,
    /// The instance has EFA interfaces, so its claim may promise them.
    pub efa: bool,
    /// The placement group it is launched into: what is refused there says nothing of the rest of the zone.
    pub group: Option<String>,
    /// And the partition of it.
    pub partition: Option<i32>,
    /// The group has partitions.
    pub has_partitions: bool,
    /// So few types are all that an on-demand launch may take, although spot would do as well.
    pub few_types: Option<usize>,
}
