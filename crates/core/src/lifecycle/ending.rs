//! How far the end of a node has come. Read from the World alone, once: the node's pass acts on it, and the claim's pass
//! tells of it in conditions, so that both mean the same.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{conditions as names, labels, taints};
use serde_json::json;

use super::{Stage, deadline, drain, patch, volumes};
use crate::action::KubeWrite;
use crate::cloud::{Instance, InstanceState};
use crate::world::{ClaimState, NodeState, PodState};
use crate::{Decision, Timestamp, World, conditions};

/// A drain counts as done no sooner than this after it began, so that late pods are seen.
const DRAIN_MIN: SignedDuration = SignedDuration::from_secs(5);

/// The stages of a node that is being deleted, in order.
pub(super) enum Ending<'w> {
    /// Its instance is gone, and its kubelet with it: nothing is left to drain.
    Dead,
    /// New pods and load balancers are to be kept away first.
    Open(KubeWrite),
    Draining(Vec<&'w PodState>),
    /// No pod is left; pods that come late are waited for until then. `None`: the claim does not say yet when the
    /// drain began.
    Settling(Option<Timestamp>),
    Detaching(Vec<&'w str>),
    /// Nothing keeps the instance. `detached`: no volume is left, as opposed to: the deadline has passed.
    Ready {
        detached: bool,
    },
}

impl<'w> Ending<'w> {
    pub(super) fn of(world: &'w World, node: &NodeState, now: Timestamp) -> Self {
        let claim = world.claim_of(node);
        if !node.is_ready() && is_instance_gone(world, node) {
            return Self::Dead;
        }
        if let Some(write) = shut(node) {
            return Self::Open(write);
        }
        let waiting = drain::waiting(world, node, now);
        if !waiting.is_empty() {
            return Self::Draining(waiting);
        }
        if let Some(claim) = claim {
            let until = drain_began(claim).map(|began| began.checked_add(DRAIN_MIN).unwrap_or(began));
            if until.is_none_or(|until| until > now) {
                return Self::Settling(until);
            }
        }
        let attached = volumes::pending(world, node, now);
        if attached.is_empty() {
            return Self::Ready { detached: true };
        }
        let elapsed = claim.and_then(deadline::of).is_some_and(|deadline| deadline < now);
        if elapsed { Self::Ready { detached: false } } else { Self::Detaching(attached) }
    }
}

/// The conditions of a claim whose node is ending.
pub(super) fn report<C>(ending: &Ending<'_>, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    match ending {
        Ending::Dead | Ending::Open(_) => {}
        Ending::Draining(_) => draining(stage),
        Ending::Settling(until) => {
            draining(stage);
            if let Some(until) = until {
                decision.wake(*until);
            }
        }
        Ending::Detaching(volumes) => {
            stage.achieved(names::DRAINED);
            let message = format!("{} volumes are still attached", volumes.len());
            stage.waiting(names::VOLUMES_DETACHED, "AwaitingVolumeDetachment", &message);
            if let Some(deadline) = deadline::of(stage.state) {
                decision.wake(deadline.checked_add(SignedDuration::from_millis(1)).unwrap_or(deadline));
            }
        }
        Ending::Ready { detached } => {
            stage.achieved(names::DRAINED);
            if *detached {
                stage.achieved(names::VOLUMES_DETACHED);
            } else {
                let message = "volumes are still attached, and the time for them is over";
                stage.set(names::VOLUMES_DETACHED, "False", "TerminationGracePeriodElapsed", message);
            }
        }
    }
}

fn draining(stage: &mut Stage<'_>) {
    if !stage.is_true(names::DRAINED) {
        stage.waiting(names::DRAINED, "Draining", "pods are being evicted");
    }
}

/// The write that keeps new pods and load balancers away, if it is not there yet.
fn shut(node: &NodeState) -> Option<KubeWrite> {
    let disrupted = taints::disrupted();
    let tainted = node.taints().iter().any(|t| t.key == disrupted.key && t.effect == disrupted.effect);
    let excluded = node.label(labels::EXCLUDE_FROM_LOAD_BALANCERS) == Some("karpenter");
    if tainted && excluded {
        return None;
    }
    let mut all: Vec<Taint> = node.taints().iter().filter(|t| t.key != disrupted.key).cloned().collect();
    all.push(disrupted);
    let metadata = json!({ "labels": { labels::EXCLUDE_FROM_LOAD_BALANCERS: "karpenter" } });
    Some(patch::node(node, metadata, Some(json!({ "taints": all }))))
}

/// When the drain of this claim's node began.
fn drain_began(state: &ClaimState) -> Option<Timestamp> {
    let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions::get(list, names::DRAINED)
        .map(|condition| if condition.status == "True" { Timestamp::MIN } else { condition.last_transition_time.0 })
}

/// The cloud has said so, or does not list it any longer. (A list that was asked for before the node came says nothing.)
fn is_instance_gone(world: &World, node: &NodeState) -> bool {
    let Some(id) = node.provider_id() else {
        return true;
    };
    if let Some(ending) = world.terminating.get(id) {
        return ending.gone;
    }
    let created = node.node.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let is_it = |instance: &Instance| instance.provider_id == id && instance.state != InstanceState::Terminated;
    world.instances.as_ref().is_some_and(|(asked_at, listed)| {
        created.is_some_and(|created| created < *asked_at) && !listed.iter().any(is_it)
    })
}
