//! Facts as metrics, by Karpenter's names.

use std::time::Duration;

use karpenter_core::fact::Home;
use karpenter_core::{Fact, World};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

pub(super) struct Metrics {
    claims_created: IntCounterVec,
    claims_terminated: IntCounterVec,
    claims_disrupted: IntCounterVec,
    claims_unhealthy: IntCounterVec,
    instances_unhealthy: IntCounterVec,
    nodes_created: IntCounterVec,
    nodes_terminated: IntCounterVec,
    nodes_drained: IntCounterVec,
    pods_drained: IntCounterVec,
    eviction_requests: IntCounterVec,
    errors: IntCounterVec,
    unschedulable: IntGaugeVec,
    node_count: IntGauge,
    leaving: IntGauge,
    user_data: IntGaugeVec,
    synced: IntGauge,
    turns: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> anyhow::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> anyhow::Result<IntCounterVec> {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let build = IntGaugeVec::new(
            Opts::new("karpenter_build_info", "Always 1; the labels say what is running."),
            &["version", "goversion", "goarch", "commit"],
        )?;
        register(registry, build)?
            .with_label_values(&[env!("CARGO_PKG_VERSION"), "none", std::env::consts::ARCH, ""])
            .set(1);
        // 1 ms to 8 s, doubling.
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 14)?;
        let turns = HistogramOpts::new(
            "karpenter_rs_turn_duration_seconds",
            "Time of one turn of the driver: apply, decide, dispatch.",
        );
        Ok(Self {
            claims_created: counter(
                "karpenter_nodeclaims_created_total",
                "NodeClaims created.",
                &["reason", "nodepool", "min_values_relaxed"],
            )?,
            claims_terminated: counter(
                "karpenter_nodeclaims_terminated_total",
                "NodeClaims that are gone.",
                &["nodepool", "capacity_type", "zone"],
            )?,
            claims_disrupted: counter(
                "karpenter_nodeclaims_disrupted_total",
                "NodeClaims deleted by the controller.",
                &["reason", "nodepool", "capacity_type"],
            )?,
            claims_unhealthy: counter(
                "karpenter_nodeclaims_unhealthy_disrupted_total",
                "NodeClaims deleted because their nodes were broken.",
                &["condition", "nodepool", "capacity_type", "image_id"],
            )?,
            instances_unhealthy: counter(
                "karpenter_interruption_instance_status_unhealthy_total",
                "Instances that EC2 found broken, or is going to stop or restart.",
                &["category"],
            )?,
            nodes_created: counter("karpenter_nodes_created_total", "Nodes registered.", &["nodepool", "zone"])?,
            nodes_terminated: counter(
                "karpenter_nodes_terminated_total",
                "Nodes that are gone.",
                &["nodepool", "zone"],
            )?,
            nodes_drained: counter("karpenter_nodes_drained_total", "Nodes drained.", &["nodepool"])?,
            pods_drained: counter("karpenter_pods_drained_total", "Pods asked to leave.", &["reason"])?,
            eviction_requests: counter(
                "karpenter_pods_eviction_requests_total",
                "Answers to evictions, by HTTP status; 4xx and 5xx where it says no more.",
                &["code"],
            )?,
            errors: counter("karpenter_rs_action_failures_total", "Actions that failed, by verb.", &["verb"])?,
            unschedulable: register(
                registry,
                IntGaugeVec::new(
                    Opts::new("karpenter_scheduler_unschedulable_pods_count", "Pods without a place."),
                    &["controller"],
                )?,
            )?,
            node_count: register(
                registry,
                IntGauge::new("karpenter_cluster_state_node_count", "Nodes in the model.")?,
            )?,
            leaving: register(
                registry,
                IntGauge::new("karpenter_rs_pods_leaving", "Evictions and deletions of pods that are under way.")?,
            )?,
            user_data: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "karpenter_ec2nodeclasses_userdata_bytes",
                        "User data of an EC2NodeClass's nodes, in bytes.",
                    ),
                    &["nodeclass"],
                )?,
            )?,
            synced: register(
                registry,
                IntGauge::new("karpenter_cluster_state_synced", "1 once every watched kind was listed.")?,
            )?,
            turns: register(registry, Histogram::with_opts(turns.buckets(buckets))?)?,
        })
    }

    pub(super) fn count(&self, fact: &Fact) {
        match fact {
            Fact::ClaimPlanned { pool, .. } => {
                self.claims_created.with_label_values(&["provisioned", pool.as_str(), "false"]).inc();
            }
            Fact::ClaimTerminated { home: Home { pool, capacity_type, zone }, .. } => {
                self.claims_terminated.with_label_values(&[pool, capacity_type, zone]).inc();
            }
            Fact::ClaimDisrupted { home: Home { pool, capacity_type, .. }, reason, .. } => {
                self.claims_disrupted.with_label_values(&[*reason, pool, capacity_type]).inc();
            }
            Fact::ClaimImpaired { category, .. } => self.instances_unhealthy.with_label_values(&[*category]).inc(),
            Fact::ClaimUnhealthy { home: Home { pool, capacity_type, .. }, condition, image, .. } => {
                self.claims_unhealthy.with_label_values(&[*condition, pool, capacity_type, image]).inc();
            }
            Fact::ClaimRegistered { home: Home { pool, zone, .. }, .. } => {
                self.nodes_created.with_label_values(&[pool, zone]).inc();
            }
            Fact::NodeTerminated { home: Home { pool, zone, .. }, drained, .. } => {
                self.nodes_terminated.with_label_values(&[pool, zone]).inc();
                if *drained {
                    self.nodes_drained.with_label_values(&[pool]).inc();
                }
            }
            Fact::PodEvicted { reason, .. } | Fact::PodExpelled { reason, .. } => {
                self.pods_drained.with_label_values(&[reason.as_str()]).inc();
            }
            Fact::UserData { class, bytes, .. } => {
                self.user_data.with_label_values(&[class]).set(i64::try_from(*bytes).unwrap_or(i64::MAX));
            }
            Fact::EvictionAnswered { code } => self.eviction_requests.with_label_values(&[*code]).inc(),
            Fact::ActionFailed { action, .. } => {
                let verb = action.split(' ').next().unwrap_or_default();
                self.errors.with_label_values(&[verb]).inc();
            }
            _ => {}
        }
    }

    pub(super) fn state(&self, world: &World) {
        let count = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        self.unschedulable.with_label_values(&["provisioner"]).set(count(world.unschedulable.len()));
        self.node_count.set(count(world.nodes.len()));
        self.leaving.set(count(world.flights.leaving()));
        self.synced.set(i64::from(world.is_listed()));
    }

    pub(super) fn turn(&self, took: Duration) {
        self.turns.observe(took.as_secs_f64());
    }
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> anyhow::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
