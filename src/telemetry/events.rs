//! Facts as Kubernetes events, by Karpenter's reasons. Published aside: a slow API server loses
//! events, never time of the driver.

use k8s_openapi::api::core::v1::ObjectReference;
use karpenter_core::Fact;
use karpenter_core::fact::About;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

/// Events waiting to be published; beyond that they are dropped.
const WAITING_MAX: usize = 1024;

pub(super) struct Events(Sender<(Event, ObjectReference)>);

impl Events {
    pub(super) fn start(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let (sender, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING_MAX);
        let reporter = Reporter { controller: "karpenter".into(), instance: None };
        let recorder = Recorder::new(client, reporter);
        tasks.spawn(async move {
            while let Some((event, reference)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &reference).await {
                    tracing::debug!(%error, reason = event.reason, "event not published");
                }
            }
        });
        Self(sender)
    }

    pub(super) fn publish(&self, fact: &Fact) {
        if let Some((about, type_, reason, message)) = told(fact) {
            let event =
                Event { type_, reason: reason.into(), note: Some(message), action: reason.into(), secondary: None };
            if self.0.try_send((event, reference(about))).is_err() {
                tracing::debug!(reason, "event dropped: too many are waiting");
            }
        }
    }
}

/// The event of a fact: object, type, reason, message.
fn told(fact: &Fact) -> Option<(&About, EventType, &'static str, String)> {
    use EventType::{Normal, Warning};
    Some(match fact {
        Fact::PodNominated { pod, node, claim } => {
            let target = [("node", node), ("nodeclaim", claim)]
                .into_iter()
                .filter_map(|(kind, name)| name.as_ref().map(|name| format!("{kind}/{name}")))
                .collect::<Vec<_>>()
                .join(", ");
            (pod, Normal, "Nominated", format!("Pod should schedule on: {target}"))
        }
        Fact::PodUnschedulable { pod, verdict } => {
            (pod, Warning, "FailedScheduling", format!("Failed to schedule pod, {verdict}"))
        }
        Fact::PoolWithoutInstanceTypes { pool, message } => {
            (pool, Warning, "NoCompatibleInstanceTypes", message.clone())
        }
        Fact::ClaimOutOfCapacity { claim, message, .. } => {
            (claim, Warning, "InsufficientCapacityError", format!("NodeClaim {} event: {message}", claim.name))
        }
        Fact::UnregisteredTaintMissing { claim, node } => (
            claim,
            Warning,
            "UnregisteredTaintMissing",
            format!("node {node} lacks the taint karpenter.sh/unregistered"),
        ),
        Fact::PodEvicted { pod, reason, .. } => (pod, Normal, "Evicted", format!("Evicted pod: {reason}")),
        Fact::DrainBlocked { node, message } => (node, Warning, "FailedDraining", message.clone()),
        Fact::ClaimLaunchFailed { claim, reason, message, .. } => {
            (claim, Warning, "LaunchFailed", format!("{reason}: {message}"))
        }
        Fact::Event { object, warning, reason, message } => {
            (object, if *warning { Warning } else { Normal }, reason, message.clone())
        }
        _ => return None,
    })
}

fn reference(about: &About) -> ObjectReference {
    let api_version = match about.kind {
        "Pod" | "Node" => "v1",
        "EC2NodeClass" => "karpenter.k8s.aws/v1",
        _ => "karpenter.sh/v1",
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(about.kind.to_owned()),
        name: Some(about.name.clone()),
        // Events of cluster-scoped objects live in the default namespace.
        namespace: (!about.namespace.is_empty()).then(|| about.namespace.clone()),
        uid: Some(about.uid.clone()),
        ..ObjectReference::default()
    }
}
