//! Which pods a drain waits for, and which of them are asked to leave now.
//!
//! Order: ordinary pods, then DaemonSet pods, then critical pods, then critical DaemonSet pods; a group is asked only
//! when the one before it is gone. Critical is a priority class by name. A node with a deadline does not wait for a pod
//! that would be cut off by it: such pods are deleted, from every group, in time for the grace period they have, whatever
//! keeps them.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Toleration;
use karpenter_api::{conditions as names, taints};

use super::evict::{Leaver, Queue};
use super::{about_node, deadline, status_reason};
use crate::fact::About;
use crate::world::{ClaimState, DoNotDisrupt, NodeState, PodState};
use crate::{Fact, Timestamp, World};

/// A pod that is still there this long after it should have ended is not waited for.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Whether a drain has anything to do with a pod: it runs, is no mirror of a static one, and does not put up with the
/// taint of a node that ends.
fn concerns(pod: &PodState) -> bool {
    !pod.is_terminal() && !pod.is_node_owned() && !taints::tolerates(tolerations(pod), &taints::disrupted())
}

/// Whether the instance of a pod's node must not end before the pod has.
pub(super) fn waits_for(pod: &PodState, now: Timestamp) -> bool {
    concerns(pod) && !is_stuck(pod, now)
}

/// The pods on the node that must leave before its instance ends.
pub(super) fn waiting<'w>(world: &'w World, node: &NodeState, now: Timestamp) -> Vec<&'w PodState> {
    world.pods_on(node.name()).filter(|pod| waits_for(pod, now)).collect()
}

/// Queues those whose turn it is. A pod that is on its way out holds its group back.
pub(super) fn ask<'w>(
    node: &'w NodeState,
    waiting: &[&'w PodState],
    claim: Option<&'w ClaimState>,
    now: Timestamp,
    queue: &mut Queue<'w>,
) {
    let Some(first) = waiting.iter().map(|pod| group(pod)).min() else {
        return;
    };
    let reason = claim
        .and_then(|claim| status_reason(claim, names::DISRUPTION_REASON))
        .unwrap_or_else(|| "Forceful Termination".to_owned());
    let reason = queue.reason(reason);
    let deadline = claim.and_then(deadline::of);
    for &pod in waiting {
        let cut_off = deadline.and_then(|deadline| cut_off_at(pod, deadline));
        if let (Some(deadline), Some(at)) = (deadline, cut_off) {
            if at < now {
                let grace = deadline::remaining(deadline, now);
                // Asking again must bring its end nearer.
                if ends_at(pod).is_none_or(|ends| now.checked_add(grace).is_ok_and(|sooner| sooner < ends)) {
                    queue.push(Leaver { pod, node, reason, deadline: Some(deadline) });
                }
                continue;
            }
            queue.wake(after(at));
        }
        if group(pod) == first && !pod.is_terminating() {
            if pod.must_stay(now) {
                stays(pod, now, queue);
            } else {
                queue.push(Leaver { pod, node, reason, deadline: None });
            }
        }
    }
    let message = format!("Failed to drain node, {} pods are waiting to be evicted", waiting.len());
    queue.fact(Fact::DrainBlocked { node: about_node(node), message });
    for pod in waiting {
        if let Some(stuck) = stuck_at(pod) {
            queue.wake(after(stuck));
        }
        if let Some(fact) = told(pod, now) {
            queue.fact(fact);
        }
    }
}

/// What its owner wants of it may end by itself.
fn stays(pod: &PodState, now: Timestamp, queue: &mut Queue<'_>) {
    if let DoNotDisrupt::Until(until) = pod.do_not_disrupt() {
        queue.wake(until.max(now));
    }
}

/// What is to be said of a pod's wish to stay.
fn told(pod: &PodState, now: Timestamp) -> Option<Fact> {
    let (warning, reason, message) = match pod.do_not_disrupt() {
        DoNotDisrupt::Until(until) if until > now => {
            (false, "DoNotDisruptUntil", format!("Pod must not be disrupted until {until}"))
        }
        DoNotDisrupt::Until(until) => {
            (false, "DoNotDisruptGracePeriodElapsed", format!("Pod may be disrupted since {until}"))
        }
        DoNotDisrupt::Unreadable(value) => {
            let expected = "expected \"true\" or a positive duration such as 30m";
            let message = format!("annotation karpenter.sh/do-not-disrupt: found {value:?}, {expected}");
            (true, "InvalidDoNotDisruptAnnotation", message)
        }
        DoNotDisrupt::No | DoNotDisrupt::Always => return None,
    };
    Some(Fact::Event { object: about_pod(pod), warning, reason, message })
}

/// From when on a pod has to be deleted so that its end comes before the deadline; what is on its way and ends in time
/// need not be.
fn cut_off_at(pod: &PodState, deadline: Timestamp) -> Option<Timestamp> {
    if let Some(ends) = ends_at(pod) {
        return (ends > deadline).then_some(Timestamp::MIN);
    }
    let grace = pod.pod.spec.as_ref()?.termination_grace_period_seconds?;
    deadline.checked_sub(SignedDuration::from_secs(grace)).ok()
}

fn tolerations(pod: &PodState) -> &[Toleration] {
    pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

pub(super) fn about_pod(pod: &PodState) -> About {
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
    (critical, pod.is_daemon())
}

fn is_stuck(pod: &PodState, now: Timestamp) -> bool {
    stuck_at(pod).is_some_and(|at| at < now)
}

fn stuck_at(pod: &PodState) -> Option<Timestamp> {
    ends_at(pod)?.checked_add(STUCK_AFTER).ok()
}

/// `metadata.deletionTimestamp` is when the grace period ends.
fn ends_at(pod: &PodState) -> Option<Timestamp> {
    pod.pod.metadata.deletion_timestamp.as_ref().map(|at| at.0)
}

/// The rules say *after*, not *from*: the next moment that a clock tells apart.
fn after(at: Timestamp) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(1)).unwrap_or(at)
}
