//! Pods that have to leave their node, because it is being deleted.
//!
//! A round plans their place before they are evicted, and their nomination keeps it free. It holds until the pod is on
//! its way out. What it was given is then kept for its replacement, a pod of another name but of the same owner and
//! alike in everything: the node may not even be launched yet, and would be bought twice.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{ClaimState, Digest, NodeState, PodState, World};
use crate::Timestamp;
use crate::selector::selects;

/// A replacement that has not come within this time is not waited for.
const VACATED_FOR: SignedDuration = SignedDuration::from_secs(20);

/// A place that a pod was to have when its end came.
#[derive(Clone, Debug)]
pub struct Vacated {
    /// UID of its controller.
    owner: String,
    pub digest: Arc<Digest>,
    pub target: String,
    at: Timestamp,
}

impl World {
    /// A pod that ends gives up the place it was to have: its replacement takes it.
    pub(super) fn vacate(&mut self, pod: &PodState, now: Timestamp) {
        let Some(nomination) = self.nominated.remove(&pod.key) else { return };
        if let Some(owner) = pod.controller().filter(|_| pod.node_name().is_some()) {
            let (owner, digest) = (owner.to_owned(), Arc::clone(&pod.digest));
            self.vacated.push(Vacated { owner, digest, target: nomination.target, at: now });
        }
    }

    /// A pod that has come takes the place of one that ended.
    pub(super) fn succeed(&mut self, pod: &PodState, now: Timestamp) {
        let is_same =
            |one: &Vacated| Some(one.owner.as_str()) == pod.controller() && Arc::ptr_eq(&one.digest, &pod.digest);
        if let Some(at) = self.vacated.iter().position(is_same) {
            let target = self.vacated.swap_remove(at).target;
            self.nominated.insert(pod.key.clone(), target, now);
        }
    }

    pub(super) fn forget_vacated(&mut self, now: Timestamp) {
        let kept = self.vacated.len();
        self.vacated.retain(|one| one.at.checked_add(VACATED_FOR).is_ok_and(|until| until > now));
        if self.vacated.len() < kept {
            self.batch.stir();
        }
    }

    /// The node, or its claim, is being deleted.
    pub fn is_ending(&self, node: &NodeState) -> bool {
        node.is_deleting() || self.claim_of(node).is_some_and(ClaimState::is_deleting)
    }

    /// The claim, or a node of it, is being deleted.
    pub fn is_claim_ending(&self, claim: &ClaimState) -> bool {
        let nodes = claim.provider_id().and_then(|id| self.nodes_by_provider_id.get(id));
        let mut nodes = nodes.into_iter().flatten().filter_map(|name| self.nodes.get(name));
        claim.is_deleting() || nodes.any(NodeState::is_deleting)
    }

    /// Bound to a node that is being deleted, and wanted elsewhere.
    pub fn is_leaving(&self, pod: &PodState) -> bool {
        let node = pod.node_name().and_then(|name| self.nodes.get(name));
        node.is_some_and(|node| self.is_ending(node)) && pod.is_reschedulable()
    }

    /// Nothing keeps a pod from being evicted now. (One that is on its way out already is kept by nothing.)
    pub fn may_leave(&self, pod: &PodState, now: Timestamp) -> bool {
        pod.is_terminating() || !(pod.must_stay(now) || self.budgets.values().any(|budget| blocks(budget, pod)))
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
            self.is_ending(node)
                && self.pods_on(node.name()).any(|pod| self.is_leaving(pod) && self.may_leave(pod, now))
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
