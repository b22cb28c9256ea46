//! The end of a claim and of its node.
//!
//! ```text
//! claim deleted ─▶ node deleted ─▶ taint, drain, end the instance ─▶ node's finalizer
//!       └── once no node is left: end the instance (again, if need be) ─▶ claim's finalizer
//! ```
//!
//! A finalizer goes only when the cloud says that the instance is gone, so no instance is left
//! behind by a crash anywhere on the way.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{conditions as names, labels, taints};
use serde_json::json;

use super::{Stage, about_claim, about_node, buy, delete_claim, drain, home_of, patch, write_key, write_status};
use crate::action::{ActionKey, KubeWrite};
use crate::world::{ClaimState, LaunchState, NodeState};
use crate::{Cloud, Decision, Fact, Timestamp, World, conditions};

/// How often the cloud is asked whether an instance is gone.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// A drain counts as done no sooner than this after it began, so that late pods are seen.
const DRAIN_MIN: SignedDuration = SignedDuration::from_secs(5);

/// A claim that is being deleted.
pub(super) fn claim<C: Cloud>(
    world: &World,
    cloud: &C,
    state: &ClaimState,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) {
    let finalizers = state.claim.metadata.finalizers.as_ref();
    if !finalizers.into_iter().flatten().any(|f| f == labels::TERMINATION_FINALIZER) {
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
            if !node.is_deleting() {
                let key = ActionKey::new(format!("Node/{}", node.name()), "delete");
                let write = KubeWrite::Delete { object: patch::node_ref(node), grace_period_seconds: None };
                decision.kube(world, now, key, write);
            }
            report_drain(world, node, &mut stage, decision);
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
        LaunchState::Absent | LaunchState::Refused(_) => Owned::Nothing,
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
pub(super) fn node<C: Cloud>(
    world: &World,
    cloud: &C,
    node: &NodeState,
    now: Timestamp,
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
    // An instance that died under its node leaves nothing to drain.
    let gone = node.provider_id().is_none_or(|id| world.terminating.get(id).is_some_and(|t| t.gone));
    if gone && !node.is_ready() {
        return release_node(world, node, false, now, decision);
    }
    if let Some(write) = disrupt(node) {
        decision.kube(world, now, ActionKey::new(format!("Node/{}", node.name()), "disrupt"), write);
        return;
    }
    let waiting = drain::waiting(world, node, now);
    if !waiting.is_empty() {
        drain::evict(world, node, &waiting, claim, now, decision);
        return;
    }
    if let Some(claim) = claim {
        match drained_since(claim) {
            Some(began) if began.checked_add(DRAIN_MIN).is_ok_and(|until| until <= now) => {}
            Some(began) => return decision.wake(began.checked_add(DRAIN_MIN).unwrap_or(now)),
            // The Draining condition is written by the claim's own pass.
            None => return,
        }
    }
    let Some(provider_id) = node.provider_id() else {
        return release_node(world, node, true, now, decision);
    };
    if is_gone(world, cloud, provider_id, now, decision) {
        release_node(world, node, true, now, decision);
    }
}

fn release_node<C>(world: &World, node: &NodeState, drained: bool, now: Timestamp, decision: &mut Decision<C>) {
    let finalizers = patch::without(node.node.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER);
    let key = ActionKey::new(format!("Node/{}", node.name()), "release");
    let told = Fact::NodeTerminated { node: about_node(node), home: home_of(|key| node.label(key)), drained };
    decision.kube_then(world, now, key, patch::node(node, json!({ "finalizers": finalizers }), None), vec![told]);
}

/// The write that keeps new pods and load balancers away, if it is not there yet.
fn disrupt(node: &NodeState) -> Option<KubeWrite> {
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

/// Drained: Unknown while pods are waited for, True once none is left and the minimum has passed.
fn report_drain<C>(world: &World, node: &NodeState, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    if !node.is_deleting() || stage.is_true(names::DRAINED) {
        return;
    }
    let waiting = drain::waiting(world, node, stage.now).len();
    let until = drained_since(stage.state).and_then(|began| began.checked_add(DRAIN_MIN).ok());
    match until {
        Some(until) if waiting == 0 && until <= stage.now => stage.achieved(names::DRAINED),
        Some(until) if waiting == 0 => decision.wake(until),
        Some(_) => {}
        None => stage.waiting(names::DRAINED, "Draining", "pods are being evicted"),
    }
}

/// When the drain of this claim's node began.
fn drained_since(state: &ClaimState) -> Option<Timestamp> {
    conditions::get(status_conditions(state), names::DRAINED)
        .map(|condition| if condition.status == "True" { Timestamp::MIN } else { condition.last_transition_time.0 })
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
