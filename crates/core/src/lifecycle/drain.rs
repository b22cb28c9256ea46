//! Which pods a drain waits for, and in which order they are asked to leave.
//!
//! Order: ordinary pods, then DaemonSet pods, then critical pods, then critical DaemonSet pods; a
//! group is asked only when the one before it is gone. Critical is a priority class by name.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Toleration;
use karpenter_api::{conditions as names, taints};

use super::{about_node, status_reason};
use crate::action::{ActionKey, KubeWrite, ObjectRef, WriteKind};
use crate::fact::About;
use crate::world::{ClaimState, EVICT, NodeState, PodState};
use crate::{Decision, Fact, Timestamp, World};

/// A pod that is still there this long after it should have ended is not waited for.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// The pods on the node that must leave before its instance ends.
pub(super) fn waiting<'w>(world: &'w World, node: &NodeState, now: Timestamp) -> Vec<&'w PodState> {
    let pods = world.pods_on(node.name());
    pods.filter(|pod| {
        !pod.is_owned_by("v1", "Node")
            && !taints::tolerates(tolerations(pod), &taints::disrupted())
            && !is_stuck(pod, now)
    })
    .collect()
}

/// Evicts the first group that still has pods. A pod that is on its way out holds its group back.
pub(super) fn evict<C>(
    world: &World,
    node: &NodeState,
    waiting: &[&PodState],
    claim: Option<&ClaimState>,
    now: Timestamp,
    decision: &mut Decision<C>,
) {
    let Some(first) = waiting.iter().map(|pod| group(pod)).min() else {
        return;
    };
    let reason = claim
        .and_then(|claim| status_reason(claim, names::DISRUPTION_REASON))
        .unwrap_or_else(|| "Forceful Termination".to_owned());
    let mut blocked = 0_usize;
    for pod in waiting.iter().filter(|pod| group(pod) == first) {
        if pod.is_terminating() || pod.must_stay() {
            continue;
        }
        let key = ActionKey::new(format!("Pod/{}", pod.key), EVICT);
        if world.flights.failures(&key) > 0 {
            blocked += 1;
        }
        let about = about_pod(pod);
        let object = ObjectRef {
            kind: WriteKind::Pod,
            namespace: Some(pod.key.namespace.clone()),
            name: pod.key.name.clone(),
            uid: Some(about.uid.clone()),
        };
        let told = Fact::PodEvicted { pod: about, node: node.name().to_owned(), reason: reason.clone() };
        decision.kube_then(world, now, key, KubeWrite::Evict { object }, vec![told]);
    }
    if blocked > 0 {
        let message = format!("Failed to drain node, {} pods are waiting to be evicted", waiting.len());
        decision.facts.push(Fact::DrainBlocked { node: about_node(node), message });
    }
    if let Some(next) = waiting.iter().filter_map(|pod| stuck_at(pod)).min() {
        decision.wake(next.max(now));
    }
}

fn tolerations(pod: &PodState) -> &[Toleration] {
    pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

fn about_pod(pod: &PodState) -> About {
    About {
        kind: "Pod",
        namespace: pod.key.namespace.clone(),
        name: pod.key.name.clone(),
        uid: pod.pod.metadata.uid.clone().unwrap_or_default(),
    }
}

fn group(pod: &PodState) -> (bool, bool) {
    let class = pod.pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    let critical = matches!(class, Some("system-cluster-critical" | "system-node-critical"));
    (critical, pod.is_owned_by("apps/v1", "DaemonSet"))
}

fn is_stuck(pod: &PodState, now: Timestamp) -> bool {
    stuck_at(pod).is_some_and(|at| at < now)
}

/// `metadata.deletionTimestamp` is when the grace period ends.
fn stuck_at(pod: &PodState) -> Option<Timestamp> {
    let ends = pod.pod.metadata.deletion_timestamp.as_ref()?.0;
    ends.checked_add(STUCK_AFTER).ok()
}
