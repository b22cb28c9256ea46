//! The end of a claim and of its node.
//!
//! ```text
//! claim deleted ─▶ node deleted ─▶ taint · drain · detach volumes · end the instance ─▶ node's finalizer
//!       └── once no node is left: end the instance (again, if need be) ─▶ claim's finalizer
//! ```
//!
//! A finalizer goes only when the cloud says that the instance is gone, so no instance is left
//! behind by a crash anywhere on the way.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use karpenter_api::{conditions as names, labels};
use serde_json::json;

use super::ending::{self, Ending};
use super::evict::Queue;
use super::{
    Stage, about_claim, about_node, buy, deadline, delete_claim, drain, home_of, patch, write_key, write_status,
};
use crate::action::{ActionKey, KubeWrite};
use crate::world::{ClaimState, LaunchState, NodeState};
use crate::{Cloud, Decision, Fact, Timestamp, World, conditions};

/// How often the cloud is asked whether an instance is gone.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// A claim that is being deleted.
pub(super) fn claim<C: Cloud>(
    world: &World,
    cloud: &C,
    state: &ClaimState,
    endings: &BTreeMap<&str, Ending<'_>>,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) {
    let finalizers = state.claim.metadata.finalizers.as_ref();
    if !finalizers.into_iter().flatten().any(|f| f == labels::TERMINATION_FINALIZER) {
        return;
    }
    if let Some((write, told)) = deadline::due(state) {
        decision.kube_then(world, now, write_key(state), write, vec![told]);
        return;
    }
    let provider_id = match instance_of(world, state) {
        Owned::Instance(provider_id) => provider_id,
        Owned::Nothing => return release(world, state, now, decision),
        Owned::NotYetKnown => return,
    };
    let nodes: Vec<&NodeState> = world
        .nodes_by_provider_id
        .get(&provider_id)
        .into_iter()
        .flatten()
        .filter_map(|name| world.nodes.get(name))
        .collect();
    let registered = conditions::is_true(status_conditions(state), names::REGISTERED);
    let mut status = state.claim.status.clone().unwrap_or_default();
    let mut stage = Stage { state, status: &mut status, now, facts: Vec::new() };
    if registered && !nodes.is_empty() {
        for node in nodes {
            if let Some(ending) = endings.get(node.name()) {
                ending::report(ending, &mut stage, decision);
                continue;
            }
            let key = ActionKey::new(format!("Node/{}", node.name()), "delete");
            let write = KubeWrite::Delete { object: patch::node_ref(node), grace_period_seconds: None };
            decision.kube(world, now, key, write);
        }
        if world.terminating.contains_key(&provider_id) {
            stage.achieved(names::INSTANCE_TERMINATING);
        }
        let facts = stage.facts;
        write_status(world, state, &status, facts, now, decision);
        return;
    }
    if is_gone(world, cloud, &provider_id, now, decision) {
        return release(world, state, now, decision);
    }
    stage.achieved(names::INSTANCE_TERMINATING);
    let facts = stage.facts;
    write_status(world, state, &status, facts, now, decision);
}

/// What a claim owns at the cloud.
enum Owned {
    /// By its provider id.
    Instance(String),
    Nothing,
    /// A launch or a look-up is under way.
    NotYetKnown,
}

/// The claim's instance; a launch whose end is not known is looked up first.
fn instance_of(world: &World, state: &ClaimState) -> Owned {
    if let Some(id) = state.instance() {
        return Owned::Instance(id.to_owned());
    }
    if world.flights.is_in_flight(&buy::key(state.launch_token())) {
        return Owned::NotYetKnown;
    }
    match &state.launch {
        LaunchState::Planned | LaunchState::Absent | LaunchState::Refused(_) => Owned::Nothing,
        LaunchState::Launched(_) | LaunchState::Unknown => Owned::NotYetKnown,
    }
}

/// The last write to a claim.
fn release<C>(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) {
    let finalizers = patch::without(state.claim.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER);
    let write = patch::claim_metadata(state, json!({ "finalizers": finalizers }));
    let told = Fact::ClaimTerminated { claim: about_claim(state), home: home_of(|key| state.label(key)) };
    decision.kube_then(world, now, write_key(state), write, vec![told]);
}

/// A node that is being deleted and that we hold.
pub(super) fn node<'w, C: Cloud>(
    world: &'w World,
    cloud: &C,
    node: &'w NodeState,
    ending: Ending<'w>,
    now: Timestamp,
    queue: &mut Queue<'w>,
    decision: &mut Decision<C::Call>,
) {
    if !node.has_finalizer(labels::TERMINATION_FINALIZER) {
        return;
    }
    let claim = world.claim_of(node);
    if let Some(claim) = claim
        && !claim.is_deleting()
    {
        delete_claim(world, claim, Vec::new(), now, decision);
    }
    if let Some(deadline) = claim.and_then(deadline::of) {
        queue.fact(deadline::expiring(about_node(node), deadline));
    }
    match ending {
        Ending::Dead => release_node(world, node, false, now, decision),
        Ending::Open(write) => {
            decision.kube(world, now, ActionKey::new(format!("Node/{}", node.name()), "disrupt"), write);
        }
        Ending::Draining(waiting) => drain::ask(node, &waiting, claim, now, queue),
        // The claim's pass tells when it is time.
        Ending::Settling(_) => {}
        Ending::Detaching(volumes) => {
            let message = format!("Awaiting deletion of {} VolumeAttachments", volumes.len());
            let reason = "AwaitingVolumeDetachment";
            queue.fact(Fact::Event { object: about_node(node), warning: false, reason, message });
        }
        Ending::Ready { .. } => {
            let Some(provider_id) = node.provider_id() else {
                return release_node(world, node, true, now, decision);
            };
            if is_gone(world, cloud, provider_id, now, decision) {
                release_node(world, node, true, now, decision);
            }
        }
    }
}

fn release_node<C>(world: &World, node: &NodeState, drained: bool, now: Timestamp, decision: &mut Decision<C>) {
    let finalizers = patch::without(node.node.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER);
    let key = ActionKey::new(format!("Node/{}", node.name()), "release");
    let told = Fact::NodeTerminated { node: about_node(node), home: home_of(|key| node.label(key)), drained };
    decision.kube_then(world, now, key, patch::node(node, json!({ "finalizers": finalizers }), None), vec![told]);
}

fn status_conditions(state: &ClaimState) -> Option<&[conditions::Condition]> {
    state.claim.status.as_ref().and_then(|status| status.conditions.as_deref())
}

/// Asks for the end of an instance until the cloud says it is gone.
fn is_gone<C: Cloud>(
    world: &World,
    cloud: &C,
    provider_id: &str,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) -> bool {
    match world.terminating.get(provider_id) {
        Some(ending) if ending.gone => return true,
        Some(ending) => {
            let next = ending.at.checked_add(ASK_AGAIN).unwrap_or(now);
            if next > now {
                decision.wake(next);
                return false;
            }
        }
        None => {}
    }
    let key = ActionKey::new(format!("Instance/{provider_id}"), "terminate");
    decision.cloud(world, now, key, cloud.terminate(provider_id));
    false
}
