//! Flags and environment, by Karpenter's names, parsed once at the edge.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use karpenter_aws::AwsSettings;
use karpenter_core::Settings;

use crate::act::Rate;
use crate::scheduler_config;

/// Options of the controller.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Name of the EKS cluster (required).
    #[arg(long, env = "CLUSTER_NAME", default_value = "")]
    cluster_name: String,
    /// URL of the cluster's API server, for nodes; asked of EKS if empty.
    #[arg(long, env = "CLUSTER_ENDPOINT", default_value = "")]
    cluster_endpoint: String,
    /// Base64 certificate authority of the cluster, for nodes; asked of EKS if empty.
    #[arg(long, env = "CLUSTER_CA_BUNDLE", default_value = "")]
    cluster_ca_bundle: String,
    /// No Pricing API and no IAM clean-up: the VPC has no way out.
    #[arg(long, env = "ISOLATED_VPC", default_value_t = false, action = clap::ArgAction::Set)]
    isolated_vpc: bool,
    /// Ask EKS, not the API server, for the Kubernetes version.
    #[arg(long, env = "EKS_CONTROL_PLANE", default_value_t = false, action = clap::ArgAction::Set)]
    eks_control_plane: bool,
    /// Fraction of memory that the hypervisor and the operating system take.
    #[arg(long, env = "VM_MEMORY_OVERHEAD_PERCENT", default_value_t = 0.075)]
    vm_memory_overhead_percent: f64,
    /// Name of the SQS queue with interruption notices; none if empty.
    #[arg(long, env = "INTERRUPTION_QUEUE", default_value = "")]
    interruption_queue: String,
    /// Network interfaces that do not count for a node's number of pods.
    #[arg(long, env = "RESERVED_ENIS", default_value_t = 0)]
    reserved_enis: u32,
    /// Skip the authorisation checks by dry run when an EC2NodeClass is validated.
    #[arg(long, env = "DISABLE_DRY_RUN", default_value_t = false, action = clap::ArgAction::Set)]
    disable_dry_run: bool,
    /// Follow zonal shifts of the cluster (ARC).
    #[arg(long, env = "ENABLE_ZONAL_SHIFT", default_value_t = false, action = clap::ArgAction::Set)]
    enable_zonal_shift: bool,
    /// How long resolved images count, at least 1m.
    #[arg(long, env = "AMI_REFRESH_INTERVAL", default_value = "1m", value_parser = go_duration)]
    ami_refresh_interval: Duration,
    /// How long resolved subnets count, at least 1m.
    #[arg(long, env = "SUBNET_REFRESH_INTERVAL", default_value = "1m", value_parser = go_duration)]
    subnet_refresh_interval: Duration,
    /// AWS feature gates, e.g. NodeClassCEL=true.
    #[arg(long, env = "AWS_FEATURE_GATES", default_value = "NodeClassCEL=false", value_parser = gates)]
    aws_feature_gates: BTreeMap<String, bool>,

    /// Idle gap that ends a batch of pending pods.
    #[arg(long, env = "BATCH_IDLE_DURATION", default_value = "1s", value_parser = go_duration)]
    batch_idle_duration: Duration,
    /// Longest a batch of pending pods stays open.
    #[arg(long, env = "BATCH_MAX_DURATION", default_value = "10s", value_parser = go_duration)]
    batch_max_duration: Duration,
    /// Whether preferences of pods count: Respect or Ignore.
    #[arg(long, env = "PREFERENCE_POLICY", default_value = "Respect")]
    preference_policy: String,
    /// Whether minValues must hold: Strict or BestEffort.
    #[arg(long, env = "MIN_VALUES_POLICY", default_value = "Strict")]
    min_values_policy: String,
    /// Scheduler configuration as YAML or JSON: podTopologySpread.defaultConstraints, for pods without spread constraints.
    #[arg(long, env = "SCHEDULER_CONFIG", default_value = "", hide_default_value = true)]
    scheduler_config: String,
    /// Never provision for pods with dynamic resource claims.
    #[arg(long, env = "IGNORE_DRA_REQUESTS", default_value_t = true, action = clap::ArgAction::Set)]
    ignore_dra_requests: bool,
    /// Feature gates, e.g. SpotToSpotConsolidation=true,NodeRepair=false.
    #[arg(long, env = "FEATURE_GATES", default_value = "", value_parser = gates)]
    feature_gates: BTreeMap<String, bool>,

    /// Port of /metrics; 0 picks a free one.
    #[arg(long, env = "METRICS_PORT", default_value_t = 8080)]
    pub(crate) metrics_port: u16,
    /// Port of /healthz and /readyz; 0 picks a free one.
    #[arg(long, env = "HEALTH_PROBE_PORT", default_value_t = 8081)]
    pub(crate) health_probe_port: u16,
    /// Requests per second to the API server.
    #[arg(long, env = "KUBE_CLIENT_QPS", default_value_t = 200)]
    kube_client_qps: u32,
    /// Burst of requests to the API server.
    #[arg(long, env = "KUBE_CLIENT_BURST", default_value_t = 300)]
    kube_client_burst: u32,
    /// Serve profiles on the metrics port.
    #[arg(long, env = "ENABLE_PROFILING", default_value_t = false, action = clap::ArgAction::Set)]
    enable_profiling: bool,
    /// Run without a lease.
    #[arg(long, env = "DISABLE_LEADER_ELECTION", default_value_t = false, action = clap::ArgAction::Set)]
    disable_leader_election: bool,
    /// Accepted for Karpenter's sake: caches here are always warm.
    #[arg(long, env = "DISABLE_CONTROLLER_WARMUP", default_value_t = true, action = clap::ArgAction::Set)]
    disable_controller_warmup: bool,
    /// Leave out metrics of single nodes and pods.
    #[arg(long, env = "DISABLE_CLUSTER_STATE_OBSERVABILITY", default_value_t = false, action = clap::ArgAction::Set)]
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
    #[arg(long, env = "MEMORY_LIMIT", default_value_t = -1, allow_negative_numbers = true)]
    memory_limit: i64,
    /// Millicores of the container.
    #[arg(long, env = "CPU_REQUESTS", default_value_t = 1000, allow_negative_numbers = true)]
    cpu_requests: i64,
    /// Least level that is logged: debug, info or error.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: String,
    /// Where logs go.
    #[arg(long, env = "LOG_OUTPUT_PATHS", default_value = "stdout")]
    log_output_paths: String,
    /// Where the logger's own errors go.
    #[arg(long, env = "LOG_ERROR_OUTPUT_PATHS", default_value = "stderr")]
    log_error_output_paths: String,
}

impl Options {
    /// What decisions read.
    pub(crate) fn core(&self) -> anyhow::Result<Settings> {
        if self.cluster_name.is_empty() {
            bail!("--cluster-name (CLUSTER_NAME): found nothing, expected the name of the EKS cluster");
        }
        let named = |option: &'static str| move |wrong: String| anyhow!("{option}: {wrong}");
        let preference_policy =
            self.preference_policy.parse().map_err(named("--preference-policy (PREFERENCE_POLICY)"))?;
        let min_values_policy =
            self.min_values_policy.parse().map_err(named("--min-values-policy (MIN_VALUES_POLICY)"))?;
        let default_spreads = scheduler_config::default_spreads(&self.scheduler_config)
            .context("--scheduler-config (SCHEDULER_CONFIG)")?;
        let signed = |duration: Duration| jiff::SignedDuration::try_from(duration);
        Ok(Settings {
            cluster_name: self.cluster_name.clone(),
            batch_idle: signed(self.batch_idle_duration).context("--batch-idle-duration")?,
            batch_max: signed(self.batch_max_duration).context("--batch-max-duration")?,
            preference_policy,
            min_values_policy,
            node_repair: self.feature_gates.get("NodeRepair").copied().unwrap_or(false),
            default_spreads,
        })
    }

    /// How fast the API server is written to.
    pub(crate) fn rate(&self) -> Rate {
        Rate::new(self.kube_client_qps, self.kube_client_burst)
    }

    /// What AWS knowledge reads; the region comes from the SDK's own chain.
    pub(crate) fn aws(&self, region: &str) -> anyhow::Result<AwsSettings> {
        let fraction = self.vm_memory_overhead_percent;
        if !(0.0..1.0).contains(&fraction) {
            bail!(
                "--vm-memory-overhead-percent (VM_MEMORY_OVERHEAD_PERCENT): found {fraction}, expected a fraction from 0 up to 1"
            );
        }
        let endpoint = self.cluster_endpoint.as_str();
        let has_host = endpoint.split_once("://").is_some_and(|(_, host)| !host.is_empty());
        if !endpoint.is_empty() && !has_host {
            bail!("--cluster-endpoint (CLUSTER_ENDPOINT): found {endpoint:?}, expected a URL with a host");
        }
        for (name, interval) in [
            ("--ami-refresh-interval (AMI_REFRESH_INTERVAL)", self.ami_refresh_interval),
            ("--subnet-refresh-interval (SUBNET_REFRESH_INTERVAL)", self.subnet_refresh_interval),
        ] {
            if interval < Duration::from_mins(1) {
                bail!("{name}: found {interval:?}, expected at least 1m");
            }
        }
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let signed = |duration: Duration| jiff::SignedDuration::try_from(duration);
        Ok(AwsSettings {
            cluster_name: self.cluster_name.clone(),
            cluster_endpoint: given(endpoint),
            cluster_ca: given(&self.cluster_ca_bundle),
            region: region.to_owned(),
            vm_memory_overhead: fraction,
            reserved_enis: i64::from(self.reserved_enis),
            isolated_vpc: self.isolated_vpc,
            disable_dry_run: self.disable_dry_run,
            reserved_capacity: self.feature_gates.get("ReservedCapacity").copied().unwrap_or(true),
            kubelet_expressions: self.aws_feature_gates.get("NodeClassCEL").copied().unwrap_or(false),
            ami_refresh: signed(self.ami_refresh_interval).context("--ami-refresh-interval")?,
            subnet_refresh: signed(self.subnet_refresh_interval).context("--subnet-refresh-interval")?,
        })
    }
}

/// A Go duration: `1m30s`, `500ms`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let parsed = karpenter_api::duration::parse(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| format!("found {text:?}, expected a duration such as 500ms, 10s, 1m30s or 2h"))
}

/// `A=true,B=false`; gates nobody knows are kept and ignored.
fn gates(text: &str) -> Result<BTreeMap<String, bool>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("found {part:?}, expected Gate=true"))?;
            let value = value.parse().map_err(|_| format!("{name}: found {value:?}, expected true or false"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(go_duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "10", "5 s", "1d", "s"] {
            assert!(go_duration(wrong).is_err_and(|e| e.contains("expected a duration")), "{wrong}");
        }
    }

    #[test]
    fn gates_name_what_is_wrong() {
        assert_eq!(gates("A=true, B=false").unwrap().len(), 2);
        assert_eq!(gates("A=yes"), Err("A: found \"yes\", expected true or false".to_owned()));
    }
}
