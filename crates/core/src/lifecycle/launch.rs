//! From a claim to an instance, exactly one.

use karpenter_api::{conditions as names, labels};
use serde_json::json;

use super::{Stage, about_claim, delete_claim, disrupted, patch, pool_of};
use crate::action::{ActionKey, KubeWrite};
use crate::cloud::{LaunchOutcome, LaunchProblem, Launched};
use crate::resources::Resources;
use crate::world::{ClaimState, LaunchState};
use crate::{Cloud, Decision, Fact, Timestamp, World};

/// Longest message of a failed launch that goes into the condition.
const MESSAGE_MAX: usize = 300;

/// The metadata write that is due, if any: the finalizer before anything is launched, and the
/// labels and annotations that the launch settled.
pub(super) fn metadata(state: &ClaimState) -> Option<KubeWrite> {
    let claim = &state.claim;
    let finalizers = claim.metadata.finalizers.as_ref();
    if !finalizers.into_iter().flatten().any(|f| f == labels::TERMINATION_FINALIZER) {
        let finalizers = patch::with(finalizers, labels::TERMINATION_FINALIZER);
        return Some(patch::claim_metadata(state, json!({ "finalizers": finalizers })));
    }
    let LaunchState::Launched(launched) = &state.launch else {
        return None;
    };
    // The claim's own labels win over the cloud's; the cloud's annotations win over the claim's.
    let labels: serde_json::Map<_, _> = launched
        .labels
        .iter()
        .filter(|(key, _)| state.label(key).is_none())
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let annotations: serde_json::Map<_, _> = launched
        .annotations
        .iter()
        .filter(|(key, value)| claim.metadata.annotations.as_ref().and_then(|a| a.get(*key)) != Some(*value))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    Some(patch::claim_metadata(state, json!({ "labels": labels, "annotations": annotations })))
}

/// Returns true if the claim is being given up.
pub(super) fn decide<C: Cloud>(
    world: &World,
    cloud: &C,
    stage: &mut Stage<'_>,
    decision: &mut Decision<C::Call>,
) -> bool {
    if stage.is_true(names::LAUNCHED) {
        return false;
    }
    let (state, now) = (stage.state, stage.now);
    match &state.launch {
        // There is nothing to launch for.
        LaunchState::Planned => {}
        LaunchState::Unknown => {
            if !world.flights.is_in_flight(&key(state)) {
                decision.cloud(world, now, ActionKey::new(subject(state), "find"), cloud.find(&state.claim));
            }
        }
        LaunchState::Absent => return launch(world, cloud, stage, decision),
        LaunchState::Launched(launched) => settle(stage, launched),
        LaunchState::Refused(outcome) => return refused(world, cloud, stage, outcome, decision),
    }
    false
}

fn launch<C: Cloud>(world: &World, cloud: &C, stage: &mut Stage<'_>, decision: &mut Decision<C::Call>) -> bool {
    let (state, now) = (stage.state, stage.now);
    if state.retry_at > now {
        decision.wake(state.retry_at);
        return false;
    }
    if world.flights.is_in_flight(&key(state)) {
        return false;
    }
    match cloud.launch(&state.claim, state.refusals, now) {
        Ok(call) => {
            decision.cloud(world, now, key(state), call);
            false
        }
        // What is missing arrives as an observation, which brings us back here.
        Err(LaunchProblem::NotYet(_)) => false,
        Err(LaunchProblem::InsufficientCapacity(message)) => out_of_capacity(world, state, message, now, decision),
        Err(LaunchProblem::NodeClassNotReady(_)) => give_up(world, state, "nodeclass_not_ready", now, decision),
        Err(LaunchProblem::Other { reason, message }) => {
            failed(stage, reason, &message);
            false
        }
    }
}

fn refused<C: Cloud>(
    world: &World,
    cloud: &C,
    stage: &mut Stage<'_>,
    outcome: &LaunchOutcome,
    decision: &mut Decision<C::Call>,
) -> bool {
    let (state, now) = (stage.state, stage.now);
    match outcome {
        LaunchOutcome::InsufficientCapacity(message) => out_of_capacity(world, state, message.clone(), now, decision),
        LaunchOutcome::NodeClassNotReady(_) => give_up(world, state, "nodeclass_not_ready", now, decision),
        LaunchOutcome::Failed { reason, message } => {
            failed(stage, reason, message);
            launch(world, cloud, stage, decision)
        }
        LaunchOutcome::Launched(_)
        | LaunchOutcome::NotFound
        | LaunchOutcome::Unknown(_)
        | LaunchOutcome::TokenSpent(_) => false,
    }
}

fn out_of_capacity<C>(
    world: &World,
    state: &ClaimState,
    message: String,
    now: Timestamp,
    decision: &mut Decision<C>,
) -> bool {
    let told = Fact::ClaimOutOfCapacity { claim: about_claim(state), pool: pool_of(state), message };
    delete_claim(world, state, vec![told, disrupted(state, "insufficient_capacity")], now, decision);
    true
}

fn give_up<C>(
    world: &World,
    state: &ClaimState,
    reason: &'static str,
    now: Timestamp,
    decision: &mut Decision<C>,
) -> bool {
    delete_claim(world, state, vec![disrupted(state, reason)], now, decision);
    true
}

fn failed(stage: &mut Stage<'_>, reason: &str, message: &str) {
    let mut text: String = message.chars().take(MESSAGE_MAX).collect();
    if text.len() < message.len() {
        text.push_str("...");
    }
    let known = crate::conditions::get(stage.status.conditions.as_deref(), names::LAUNCHED);
    if known.is_none_or(|known| known.reason != reason || known.message != text) {
        stage.facts.push(Fact::ClaimLaunchFailed {
            claim: about_claim(stage.state),
            pool: pool_of(stage.state),
            reason: reason.to_owned(),
            message: text.clone(),
        });
    }
    stage.waiting(names::LAUNCHED, reason, &text);
}

/// The instance exists: the status learns everything about it in one write.
fn settle(stage: &mut Stage<'_>, launched: &Launched) {
    stage.status.provider_id = Some(launched.provider_id.clone());
    stage.status.image_id = Some(launched.image_id.clone());
    stage.status.capacity = Some(amounts(&launched.capacity));
    stage.status.allocatable = Some(amounts(&launched.allocatable));
    stage.achieved(names::LAUNCHED);
    let label = |key: &str| launched.labels.get(key).cloned().unwrap_or_default();
    stage.facts.push(Fact::ClaimLaunched {
        claim: about_claim(stage.state),
        pool: pool_of(stage.state),
        instance_type: label(labels::INSTANCE_TYPE),
        zone: label(labels::ZONE),
        capacity_type: label(labels::CAPACITY_TYPE),
        provider_id: launched.provider_id.clone(),
    });
}

fn amounts(resources: &Resources) -> std::collections::BTreeMap<String, karpenter_api::Quantity> {
    resources.0.iter().map(|(name, amount)| (name.clone(), crate::resources::quantity(name, *amount))).collect()
}

fn subject(state: &ClaimState) -> String {
    format!("NodeClaim/{}", state.name())
}

fn key(state: &ClaimState) -> ActionKey {
    ActionKey::new(subject(state), "launch")
}
