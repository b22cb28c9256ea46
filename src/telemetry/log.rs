//! Facts as log lines, and the logger itself.

use std::fs::File;
use std::io::IsTerminal;

use anyhow::Context;
use karpenter_core::Fact;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

/// JSON when piped, text with colours on a terminal. `paths`: stdout, stderr or files, separated by commas.
pub(crate) fn init(level: &str, paths: &str) -> anyhow::Result<()> {
    let level = if level.is_empty() { "info" } else { level };
    // Libraries speak up only when something is wrong.
    let filter = EnvFilter::new(format!("warn,karpenter={level},karpenter_aws_wire={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(sinks(paths)?);
    if paths == "stdout" && std::io::stdout().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    Ok(())
}

fn sinks(paths: &str) -> anyhow::Result<BoxMakeWriter> {
    let mut all: Option<BoxMakeWriter> = None;
    for path in paths.split(',').map(str::trim) {
        let sink = match path {
            "stdout" => BoxMakeWriter::new(std::io::stdout),
            "stderr" => BoxMakeWriter::new(std::io::stderr),
            path => {
                let file = File::options().create(true).append(true).open(path);
                let file = file.with_context(|| format!("--log-output-paths (LOG_OUTPUT_PATHS): {path:?}"))?;
                BoxMakeWriter::new(std::sync::Mutex::new(file))
            }
        };
        all = Some(match all {
            Some(others) => BoxMakeWriter::new(others.and(sink)),
            None => sink,
        });
    }
    Ok(all.unwrap_or_else(|| BoxMakeWriter::new(std::io::stdout)))
}

/// Dollars of a price in micro-dollars.
fn dollars(price: u64) -> String {
    format!("{}.{:06}", price / 1_000_000, price % 1_000_000)
}

pub(super) fn write(fact: &Fact) {
    match fact {
        Fact::RoundSolved { pods, claims, unschedulable, instance_types } => {
            info!(pods, nodeclaims = claims, unschedulable, instance_types, "computed where pods go");
        }
        Fact::PodNominated { pod, node, claim } => {
            tracing::debug!(pod = pod.name, namespace = pod.namespace, node, nodeclaim = claim, "pod has a place");
        }
        Fact::PodUnschedulable { pod, verdict } => {
            warn!(pod = pod.name, namespace = pod.namespace, reason = verdict.to_string(), "pod has no place");
        }
        Fact::PoolWithoutInstanceTypes { pool, message } => {
            warn!(nodepool = pool.name, reason = message, "no instance type fits the NodePool");
        }
        // From nine tenths of the limit on.
        Fact::UserData { class, bytes, most } if bytes * 10 >= most * 9 => {
            warn!(ec2nodeclass = class, bytes, most, "user data is near EC2's limit");
        }
        Fact::UserData { class, bytes, .. } => tracing::debug!(ec2nodeclass = class, bytes, "user data is rendered"),
        Fact::ClaimPlanned { claim, pool, pods, cheapest, instance_types } => {
            let price = cheapest.map(dollars);
            info!(nodeclaim = claim, nodepool = pool, pods, instance_types, price, "create NodeClaim");
        }
        Fact::ClaimLaunched { claim, pool, instance_type, zone, capacity_type, provider_id } => info!(
            nodeclaim = claim.name,
            nodepool = pool,
            instance_type,
            zone,
            capacity_type,
            provider_id,
            "launched NodeClaim"
        ),
        Fact::ClaimOutOfCapacity { claim, pool, message } => {
            warn!(nodeclaim = claim.name, nodepool = pool, reason = message, "no capacity for NodeClaim");
        }
        Fact::ClaimLaunchFailed { claim, pool, reason, message } => {
            warn!(nodeclaim = claim.name, nodepool = pool, reason, message, "launch failed");
        }
        Fact::ClaimRegistered { claim, home, node } => {
            info!(nodeclaim = claim.name, nodepool = home.pool, node, "registered NodeClaim");
        }
        Fact::ClaimInitialized { claim, pool, node } => {
            info!(nodeclaim = claim.name, nodepool = pool, node, "initialized NodeClaim");
        }
        Fact::ClaimDisrupted { claim, home, reason } => {
            info!(nodeclaim = claim.name, nodepool = home.pool, reason, "delete NodeClaim");
        }
        Fact::ClaimImpaired { claim, home, category, message } => {
            warn!(nodeclaim = claim.name, nodepool = home.pool, category, reason = message, "instance is unhealthy");
        }
        Fact::ClaimUnhealthy { claim, home, condition, image } => {
            warn!(nodeclaim = claim.name, nodepool = home.pool, condition, image, "node is broken");
        }
        Fact::ClaimTerminated { claim, home } => {
            info!(nodeclaim = claim.name, nodepool = home.pool, "NodeClaim is gone");
        }
        Fact::UnregisteredTaintMissing { claim, node } => {
            warn!(nodeclaim = claim.name, node, "node joined without the taint karpenter.sh/unregistered");
        }
        Fact::PodEvicted { pod, node, reason } => {
            info!(pod = pod.name, namespace = pod.namespace, node, reason, "evict pod");
        }
        Fact::PodExpelled { pod, node, reason, deadline } => {
            let (pod, namespace) = (&pod.name, &pod.namespace);
            info!(pod, namespace, node, reason, %deadline, "delete pod that would outlive its node");
        }
        Fact::DrainBlocked { node, message } => {
            info!(node = node.name, reason = message, "drain waits");
        }
        Fact::NodeTerminated { node, home, drained } => {
            info!(node = node.name, nodepool = home.pool, drained, "node is gone");
        }
        Fact::OrphanInstance { provider_id } => {
            warn!(provider_id, "terminate an instance that no NodeClaim owns");
        }
        Fact::ConditionChanged { object, condition, before, status, reason, message } => {
            let (kind, name) = (object.kind, &object.name);
            info!(kind, name, condition, before, status, reason, message, "condition changed");
        }
        Fact::ActionFailed { action, failure, failures } => {
            warn!(action, failure, failures, "failed, will try again");
        }
        Fact::Event { object, reason, message, .. } => {
            info!(kind = object.kind, name = object.name, reason, message, "event");
        }
        other => info!(fact = ?other, "fact"),
    }
}
