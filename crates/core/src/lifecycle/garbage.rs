//! What the cloud and the API server do not agree on. A list of instances that agrees with the claims is not looked at
//! again: what has changed since, the next one tells.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use karpenter_api::conditions as names;

use super::{delete_claim, disrupted};
use crate::action::ActionKey;
use crate::cloud::Instance;
use crate::world::ClaimState;
use crate::{Cloud, Decision, Fact, Observation, Timestamp, World, conditions};

/// An instance younger than this may belong to a claim whose status is still being written.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn decide<C: Cloud>(world: &World, cloud: &C, now: Timestamp, decision: &mut Decision<C::Call>) {
    let Some((asked_at, instances)) = &world.instances else {
        return;
    };
    if world.in_order == Some(*asked_at) {
        return;
    }
    if agree(world, cloud, *asked_at, instances, now, decision) {
        decision.learned.push(Observation::InOrder { asked_at: *asked_at });
    }
}

/// Returns true if nothing is to be done.
fn agree<C: Cloud>(
    world: &World,
    cloud: &C,
    asked_at: Timestamp,
    instances: &[Instance],
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) -> bool {
    let mut agree = true;
    // Of these launches a claim has not told (or learnt) its instance yet.
    let open: BTreeSet<&str> =
        world.claims.values().filter(|state| state.provider_id().is_none()).map(ClaimState::launch_token).collect();
    for instance in instances.iter().filter(|one| one.launch.as_deref().is_none_or(|token| !open.contains(token))) {
        agree &= !orphan(world, cloud, instance, now, decision);
    }
    let listed: BTreeMap<&str, &Instance> = instances.iter().map(|i| (i.provider_id.as_str(), i)).collect();
    let ours = cloud.node_class_kind();
    let ours = |state: &&ClaimState| !state.is_deleting() && ours.is_of(&state.claim.spec.node_class_ref);
    for state in world.claims.values().filter(ours) {
        let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
        let Some(registered) = conditions::get(list, names::REGISTERED).filter(|c| c.status == "True") else {
            continue;
        };
        let Some(id) = state.provider_id() else {
            continue;
        };
        let there = listed.get(id).is_some_and(|instance| instance.state.is_up());
        let ready = state
            .claim
            .status
            .as_ref()
            .and_then(|status| world.nodes.get(status.node_name.as_deref()?))
            .is_some_and(crate::world::NodeState::is_ready);
        // The list must be younger than the registration to say anything about it.
        if !there && !ready && asked_at > registered.last_transition_time.0 {
            agree = false;
            delete_claim(world, state, vec![disrupted(state, "garbage_collected")], now, decision);
        }
    }
    agree
}

/// Ends an instance that bears our tags but that no claim owns. Returns false if it is not such a one.
fn orphan<C: Cloud>(
    world: &World,
    cloud: &C,
    instance: &Instance,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) -> bool {
    if !instance.state.is_up() || world.claims_by_provider_id.contains_key(&instance.provider_id) {
        return false;
    }
    let Some(settled) = instance.launched_at.and_then(|at| at.checked_add(SETTLED_AFTER).ok()) else {
        return false;
    };
    if settled > now {
        decision.wake(settled);
        return true;
    }
    let key = ActionKey::new(format!("Instance/{}", instance.provider_id), "terminate");
    if !world.terminating.contains_key(&instance.provider_id)
        && decision.cloud(world, now, key, cloud.terminate(&instance.provider_id))
    {
        decision.facts.push(Fact::OrphanInstance { provider_id: instance.provider_id.clone() });
    }
    true
}
