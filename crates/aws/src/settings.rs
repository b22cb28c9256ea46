//! The settings AWS knowledge reads, parsed by the binary.

use jiff::SignedDuration;

/// With Karpenter's defaults.
#[derive(Clone, Debug)]
pub struct AwsSettings {
    pub cluster_name: String,
    /// As nodes reach it; EKS is asked if absent.
    pub cluster_endpoint: Option<String>,
    /// Base64 PEM; EKS is asked if absent.
    pub cluster_ca: Option<String>,
    pub region: String,
    /// Fraction of memory, e.g. 0.075.
    pub vm_memory_overhead: f64,
    pub reserved_enis: i64,
    pub isolated_vpc: bool,
    /// EKS, not the API server, tells the version.
    pub eks_control_plane: bool,
    /// Zonal shifts of the cluster are followed.
    pub zonal_shift: bool,
    /// Launches are not tried by dry run when a class is validated.
    pub disable_dry_run: bool,
    /// How long resolved images count.
    pub ami_refresh: SignedDuration,
    /// How long resolved subnets count.
    pub subnet_refresh: SignedDuration,
    /// Gate `ReservedCapacity`.
    pub reserved_capacity: bool,
    /// Gate `NodeClassCEL`.
    pub kubelet_expressions: bool,
}

impl Default for AwsSettings {
    fn default() -> Self {
        Self {
            cluster_name: String::new(),
            cluster_endpoint: None,
            cluster_ca: None,
            region: String::new(),
            vm_memory_overhead: 0.075,
            reserved_enis: 0,
            isolated_vpc: false,
            eks_control_plane: false,
            zonal_shift: false,
            disable_dry_run: false,
            ami_refresh: SignedDuration::from_mins(1),
            subnet_refresh: SignedDuration::from_mins(1),
            reserved_capacity: true,
            kubelet_expressions: false,
        }
    }
}
