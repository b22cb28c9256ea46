//! From a claim to an instance, exactly one: the claim's own part. What the cloud is asked, for many claims at once,
//! is in [`super::buy`].

use karpenter_api::{conditions as names, labels};
use serde_json::json;

use super::buy::Problems;
use super::{Stage, about_claim, delete_claim, disrupted, patch, pool_of};
use crate::action::KubeWrite;
use crate::cloud::{LaunchOutcome, LaunchProblem, Launched};
use crate::conditions::is_true;
use crate::resources::Resources;
use crate::world::{ClaimState, LaunchState};
use crate::{Decision, Fact, Timestamp, World};

/// Longest message of a failed launch that goes into the condition.
const MESSAGE_MAX: usize = 300;

/// The metadata write that is due, if any: the finalizer before anything is launched, and the
/// labels and annotations that the launch settled.
pub(super) fn metadata(state: &ClaimState) -> Option<KubeWrite> {
    let claim = &state.claim;
    if !is_held(state) {
        let finalizers = patch::with(claim.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER);
        return Some(patch::claim_metadata(state, json!({ "finalizers": finalizers })));
    }
    let LaunchState::Launched(launched) = &state.launch else {
        return None;
    };
    // They are written before the condition, and may have been changed for good reason since.
    if is_true(state.claim.status.as_ref().and_then(|status| status.conditions.as_deref()), names::LAUNCHED) {
        return None;
    }
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

/// Its end will be ours to see to.
pub(super) fn is_held(state: &ClaimState) -> bool {
    state.claim.metadata.finalizers.iter().flatten().any(|f| f == labels::TERMINATION_FINALIZER)
}

/// Returns true if the claim is being given up.
pub(super) fn decide<C>(
    world: &World,
    problems: &Problems<'_>,
    stage: &mut Stage<'_>,
    decision: &mut Decision<C>,
) -> bool {
    if stage.is_true(names::LAUNCHED) {
        return false;
    }
    let (state, now) = (stage.state, stage.now);
    match &state.launch {
        LaunchState::Launched(launched) => {
            settle(stage, launched);
            return false;
        }
        LaunchState::Refused(LaunchOutcome::InsufficientCapacity(message)) => {
            return out_of_capacity(world, state, message.clone(), now, decision);
        }
        LaunchState::Refused(LaunchOutcome::NodeClassNotReady(_)) => {
            return give_up(world, state, "nodeclass_not_ready", now, decision);
        }
        LaunchState::Refused(LaunchOutcome::Failed { reason, message, .. }) => failed(stage, reason, message),
        LaunchState::Planned | LaunchState::Unknown | LaunchState::Absent | LaunchState::Refused(_) => {}
    }
    match problems.get(state.name()) {
        // What is missing arrives as an observation, which brings us back here.
        None | Some(LaunchProblem::NotYet(_)) => false,
        Some(LaunchProblem::InsufficientCapacity(message)) => {
            out_of_capacity(world, state, message.clone(), now, decision)
        }
        Some(LaunchProblem::NodeClassNotReady(_)) => give_up(world, state, "nodeclass_not_ready", now, decision),
        Some(LaunchProblem::Other { reason, message }) => {
            failed(stage, reason, message);
            false
        }
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
