//! Flags and environment, by Karpenter's names, parsed once at the edge.

mod environment;
mod parse;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use karpenter_aws::AwsSettings;
use karpenter_core::Settings;
use karpenter_core::settings::{MinValuesPolicy, PreferencePolicy};

use crate::act::Rate;
use crate::scheduler_config;

/// Gates and their defaults.
const FEATURE_GATES: &str = "NodeRepair=false,ReservedCapacity=true,SpotToSpotConsolidation=false,NodeOverlay=false,\
    StaticCapacity=false,CapacityBuffer=false";
const AWS_FEATURE_GATES: &str = "NodeClassCEL=false";

/// Options of the controller.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Name of the EKS cluster (required).
    #[arg(long, env = "CLUSTER_NAME", default_value = "")]
    cluster_name: String,
    /// URL of the cluster's API server, for nodes; asked of EKS if empty.
    #[arg(long, env = "CLUSTER_ENDPOINT", default_value = "", value_parser = parse::url)]
    cluster_endpoint: String,
    /// Base64 certificate authority of the cluster, for nodes; asked of EKS if empty.
    #[arg(long, env = "CLUSTER_CA_BUNDLE", default_value = "", value_parser = parse::base64)]
    cluster_ca_bundle: String,
    /// No Pricing API and no IAM clean-up: the VPC has no way out.
    #[arg(long, env = "ISOLATED_VPC", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    isolated_vpc: bool,
    /// Ask EKS, not the API server, for the Kubernetes version.
    #[arg(long, env = "EKS_CONTROL_PLANE", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    eks_control_plane: bool,
    /// Fraction of memory that the hypervisor and the operating system take.
    #[arg(long, env = "VM_MEMORY_OVERHEAD_PERCENT", default_value = "0.075", allow_negative_numbers = true, value_parser = parse::fraction)]
    vm_memory_overhead_percent: f64,
    /// Name of the SQS queue with interruption notices; none if empty.
    #[arg(long, env = "INTERRUPTION_QUEUE", default_value = "")]
    interruption_queue: String,
    /// Network interfaces that do not count for a node's number of pods.
    #[arg(long, env = "RESERVED_ENIS", default_value = "0", allow_negative_numbers = true, value_parser = parse::count)]
    reserved_enis: u32,
    /// Skip the authorisation checks by dry run when an EC2NodeClass is validated.
    #[arg(long, env = "DISABLE_DRY_RUN", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    disable_dry_run: bool,
    /// Follow zonal shifts of the cluster (ARC).
    #[arg(long, env = "ENABLE_ZONAL_SHIFT", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    enable_zonal_shift: bool,
    /// How long resolved images count, at least 1m.
    #[arg(long, env = "AMI_REFRESH_INTERVAL", default_value = "1m", value_parser = parse::interval)]
    ami_refresh_interval: Duration,
    /// How long resolved subnets count, at least 1m.
    #[arg(long, env = "SUBNET_REFRESH_INTERVAL", default_value = "1m", value_parser = parse::interval)]
    subnet_refresh_interval: Duration,
    /// AWS feature gates, e.g. NodeClassCEL=true.
    #[arg(long, env = "AWS_FEATURE_GATES", default_value = AWS_FEATURE_GATES, value_parser = parse::gates)]
    aws_feature_gates: BTreeMap<String, bool>,

    /// Idle gap that ends a batch of pending pods.
    #[arg(long, env = "BATCH_IDLE_DURATION", default_value = "1s", value_parser = parse::duration)]
    batch_idle_duration: Duration,
    /// Longest a batch of pending pods stays open.
    #[arg(long, env = "BATCH_MAX_DURATION", default_value = "10s", value_parser = parse::duration)]
    batch_max_duration: Duration,
    /// Whether preferences of pods count: Respect or Ignore.
    #[arg(long, env = "PREFERENCE_POLICY", default_value = "Respect", value_parser = PreferencePolicy::from_str)]
    preference_policy: PreferencePolicy,
    /// Whether minValues must hold: Strict or BestEffort.
    #[arg(long, env = "MIN_VALUES_POLICY", default_value = "Strict", value_parser = MinValuesPolicy::from_str)]
    min_values_policy: MinValuesPolicy,
    /// Scheduler configuration as YAML or JSON: podTopologySpread.defaultConstraints, for pods without spread constraints.
    #[arg(long, env = "SCHEDULER_CONFIG", default_value = "", hide_default_value = true)]
    scheduler_config: String,
    /// Never provision for pods with dynamic resource claims.
    #[arg(long, env = "IGNORE_DRA_REQUESTS", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    ignore_dra_requests: bool,
    /// Feature gates, e.g. SpotToSpotConsolidation=true,NodeRepair=false.
    #[arg(long, env = "FEATURE_GATES", default_value = FEATURE_GATES, value_parser = parse::gates)]
    feature_gates: BTreeMap<String, bool>,

    /// Port of /metrics; 0 picks a free one.
    #[arg(long, env = "METRICS_PORT", default_value = "8080", allow_negative_numbers = true, value_parser = parse::port)]
    pub(crate) metrics_port: u16,
    /// Port of /healthz and /readyz; 0 picks a free one.
    #[arg(long, env = "HEALTH_PROBE_PORT", default_value = "8081", allow_negative_numbers = true, value_parser = parse::port)]
    pub(crate) health_probe_port: u16,
    /// Requests per second to the API server.
    #[arg(long, env = "KUBE_CLIENT_QPS", default_value = "200", allow_negative_numbers = true, value_parser = parse::count)]
    kube_client_qps: u32,
    /// Burst of requests to the API server.
    #[arg(long, env = "KUBE_CLIENT_BURST", default_value = "300", allow_negative_numbers = true, value_parser = parse::count)]
    kube_client_burst: u32,
    /// Serve profiles on the metrics port.
    #[arg(long, env = "ENABLE_PROFILING", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    enable_profiling: bool,
    /// Run without a lease.
    #[arg(long, env = "DISABLE_LEADER_ELECTION", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    disable_leader_election: bool,
    /// Accepted for Karpenter's sake: caches here are always warm.
    #[arg(long, env = "DISABLE_CONTROLLER_WARMUP", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    disable_controller_warmup: bool,
    /// Leave out metrics of single nodes and pods.
    #[arg(long, env = "DISABLE_CLUSTER_STATE_OBSERVABILITY", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = parse::boolean)]
    disable_cluster_state_observability: bool,
    /// Name of the leader's lease.
    #[arg(long, env = "LEADER_ELECTION_NAME", default_value = "karpenter-leader-election")]
    leader_election_name: String,
    /// Namespace of the leader's lease; the pod's own if empty.
    #[arg(long, env = "LEADER_ELECTION_NAMESPACE", default_value = "")]
    leader_election_namespace: String,
    /// Accepted for Karpenter's sake.
    #[arg(long, env = "KARPENTER_SERVICE", default_value = "")]
    karpenter_service: String,
    /// Accepted for Karpenter's sake: there is no garbage collector to bound.
    #[arg(long, env = "MEMORY_LIMIT", default_value = "-1", allow_negative_numbers = true, value_parser = parse::number)]
    memory_limit: i64,
    /// Millicores of the container.
    #[arg(long, env = "CPU_REQUESTS", default_value = "1000", allow_negative_numbers = true, value_parser = parse::number)]
    cpu_requests: i64,
    /// Least level that is logged: debug, info or error.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = parse::log_level)]
    pub(crate) log_level: String,
    /// Where logs go.
    #[arg(long, env = "LOG_OUTPUT_PATHS", default_value = "stdout", value_parser = parse::paths)]
    pub(crate) log_output_paths: String,
    /// Where the logger's own errors go.
    #[arg(long, env = "LOG_ERROR_OUTPUT_PATHS", default_value = "stderr", value_parser = parse::paths)]
    log_error_output_paths: String,
}

impl Options {
    /// What decisions read.
    pub(crate) fn core(&self) -> anyhow::Result<Settings> {
        if self.cluster_name.is_empty() {
            bail!("--cluster-name (CLUSTER_NAME): found nothing, expected the name of the EKS cluster");
        }
        environment::check(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )?;
        let default_spreads = scheduler_config::default_spreads(&self.scheduler_config)
            .context("--scheduler-config (SCHEDULER_CONFIG)")?;
        let signed = |duration: Duration| jiff::SignedDuration::try_from(duration);
        Ok(Settings {
            cluster_name: self.cluster_name.clone(),
            batch_idle: signed(self.batch_idle_duration).context("--batch-idle-duration")?,
            batch_max: signed(self.batch_max_duration).context("--batch-max-duration")?,
            preference_policy: self.preference_policy,
            min_values_policy: self.min_values_policy,
            node_repair: self.gate("NodeRepair"),
            default_spreads,
        })
    }

    /// How fast the API server is written to.
    pub(crate) fn rate(&self) -> Rate {
        Rate::new(self.kube_client_qps, self.kube_client_burst)
    }

    /// What AWS knowledge reads; the region comes from the SDK's own chain.
    pub(crate) fn aws(&self, region: &str) -> anyhow::Result<AwsSettings> {
        let signed = |duration: Duration| jiff::SignedDuration::try_from(duration);
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(AwsSettings {
            cluster_name: self.cluster_name.clone(),
            cluster_endpoint: given(&self.cluster_endpoint),
            cluster_ca: given(&self.cluster_ca_bundle),
            region: region.to_owned(),
            vm_memory_overhead: self.vm_memory_overhead_percent,
            reserved_enis: i64::from(self.reserved_enis),
            isolated_vpc: self.isolated_vpc,
            eks_control_plane: self.eks_control_plane,
            zonal_shift: self.enable_zonal_shift,
            disable_dry_run: self.disable_dry_run,
            reserved_capacity: self.gate("ReservedCapacity"),
            kubelet_expressions: self.gate("NodeClassCEL"),
            ami_refresh: signed(self.ami_refresh_interval).context("--ami-refresh-interval")?,
            subnet_refresh: signed(self.subnet_refresh_interval).context("--subnet-refresh-interval")?,
        })
    }

    /// Whether a feature is on: as it is given, or its default.
    fn gate(&self, name: &str) -> bool {
        let given = self.feature_gates.get(name).or_else(|| self.aws_feature_gates.get(name)).copied();
        given.unwrap_or_else(|| {
            [FEATURE_GATES, AWS_FEATURE_GATES].iter().any(|all| all.contains(&format!("{name}=true")))
        })
    }

    /// Gates that are given and that nobody knows: Karpenter ignores them, and so does this.
    pub(crate) fn unknown_gates(&self) -> Vec<String> {
        let known = |name: &String, all: &str| all.split(',').any(|gate| gate.split('=').next() == Some(name));
        let own = self.feature_gates.keys().filter(|name| !known(name, FEATURE_GATES));
        own.chain(self.aws_feature_gates.keys().filter(|name| !known(name, AWS_FEATURE_GATES))).cloned().collect()
    }
}
