//! Pods that have to leave their node, because it is being deleted.
//!
//! A round plans their place before they are evicted, and their nomination keeps it free. It holds until the pod is on
//! its way out: its replacement, a pod of another name, then finds the room.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{NodeState, PodState, World};
use crate::Timestamp;
use crate::selector::selects;

impl World {
    /// The node, or its claim, is being deleted.
    pub fn is_ending(&self, node: &NodeState) -> bool {
        node.is_deleting() || self.claim_of(node).is_some_and(super::ClaimState::is_deleting)
    }

    /// Bound to a node that is being deleted, and wanted elsewhere.
    pub fn is_leaving(&self, pod: &PodState) -> bool {
        let node = pod.node_name().and_then(|name| self.nodes.get(name));
        node.is_some_and(|node| self.is_ending(node)) && pod.is_reschedulable()
    }

    /// Nothing keeps a pod from being evicted now. (One that is on its way out already is kept by nothing.)
    pub fn may_leave(&self, pod: &PodState) -> bool {
        pod.is_terminating() || !(pod.must_stay() || self.budgets.values().any(|budget| blocks(budget, pod)))
    }

    /// By node name: whether it is being deleted, before something is applied.
    pub(super) fn is_ending_by_name(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| self.is_ending(node))
    }

    /// If a node has begun to be deleted, its pods are the next round's.
    pub(super) fn ending(&mut self, node: &str, before: bool, now: Timestamp) {
        if !before && self.is_ending_by_name(node) && self.pods_on(node).any(|pod| self.is_leaving(pod)) {
            self.batch.trigger(now);
        }
    }

    /// A budget that holds no pod any longer lets those that have to leave be planned.
    pub(super) fn budget_changed(&mut self, now: Timestamp) {
        let some_leave = self.nodes.values().any(|node| {
            self.is_ending(node) && self.pods_on(node.name()).any(|pod| self.is_leaving(pod) && self.may_leave(pod))
        });
        if some_leave {
            self.batch.trigger(now);
        }
    }
}

/// Whether a budget allows no eviction of this pod. One without a selector means no pod.
fn blocks(budget: &PodDisruptionBudget, pod: &PodState) -> bool {
    let Some(spec) = &budget.spec else { return false };
    let unhealthy_may_go = spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow") && !pod.is_ready();
    allowed(budget) < 1
        && !unhealthy_may_go
        && budget.metadata.namespace.as_deref().unwrap_or_default() == pod.key.namespace
        && selects(spec.selector.as_ref(), &pod.digest.labels)
}

/// Whether a budget that blocked evictions allows some.
pub(super) fn opens(known: Option<&PodDisruptionBudget>, new: Option<&PodDisruptionBudget>) -> bool {
    let selector = |budget: &PodDisruptionBudget| budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    known.is_some_and(|known| {
        allowed(known) < 1 && new.is_none_or(|new| allowed(new) > 0 || selector(new) != selector(known))
    })
}

fn allowed(budget: &PodDisruptionBudget) -> i32 {
    budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
}
