//! Claims that do not become nodes in time are given up; their pods are planned anew.

use karpenter_api::conditions as names;

use super::{delete_claim, disrupted};
use crate::world::{ClaimState, LAUNCH_TTL, REGISTRATION_TTL};
use crate::{Decision, Timestamp, World, conditions};

/// Nothing is launched any more for a claim that is about to be given up.
pub(super) fn is_overdue(state: &ClaimState, now: Timestamp) -> bool {
    let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions::get(list, names::LAUNCHED)
        .filter(|known| known.status != "True")
        .and_then(|known| known.last_transition_time.0.checked_add(LAUNCH_TTL).ok())
        .is_some_and(|deadline| deadline <= now)
}

/// Returns true if the claim is given up.
pub(super) fn decide<C>(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) -> bool {
    for (condition, ttl, reason) in
        [(names::LAUNCHED, LAUNCH_TTL, "launch_timeout"), (names::REGISTERED, REGISTRATION_TTL, "registration_timeout")]
    {
        let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
        let Some(known) = conditions::get(list, condition) else {
            return false;
        };
        if known.status == "True" {
            continue;
        }
        let Ok(deadline) = known.last_transition_time.0.checked_add(ttl) else {
            continue;
        };
        if now < deadline {
            decision.wake(deadline);
            continue;
        }
        delete_claim(world, state, vec![disrupted(state, reason)], now, decision);
        return true;
    }
    false
}
