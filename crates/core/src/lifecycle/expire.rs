//! A claim lives as long as its spec says, then it is deleted, whatever holds it: `terminationGracePeriod` is what gives
//! its pods time.

use karpenter_api::duration;

use super::{delete_claim, disrupted};
use crate::world::ClaimState;
use crate::{Decision, Timestamp, World};

/// Returns true if the claim's time is over.
pub(super) fn decide<C>(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) -> bool {
    let claim = &state.claim;
    let created = claim.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let life = duration::unless_never(claim.spec.expire_after.as_deref());
    let ends = created.zip(life).and_then(|(created, life)| created.checked_add(life).ok());
    let Some(ends) = ends else {
        return false;
    };
    if now < ends {
        decision.wake(ends);
        return false;
    }
    delete_claim(world, state, vec![disrupted(state, "expired")], now, decision);
    true
}
