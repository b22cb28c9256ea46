//! Whether a node has been quiet for as long as its NodePool wants before it may be consolidated.

use karpenter_api::{conditions as names, duration};

use super::Stage;
use crate::{Decision, World, conditions};

pub(super) fn decide<C>(world: &World, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    let Some(pool) = stage.state.pool().and_then(|name| world.pools.get(name)) else {
        return;
    };
    let after = duration::unless_never(Some(&pool.spec.disruption.consolidate_after));
    // The number of a static pool's nodes is fixed.
    let after = after.filter(|_| pool.spec.replicas.is_none());
    let initialized = conditions::get(stage.status.conditions.as_deref(), names::INITIALIZED);
    let initialized = initialized.filter(|known| known.status == "True").map(|known| known.last_transition_time.0);
    let (Some(after), Some(initialized)) = (after, initialized) else {
        return stage.clear(names::CONSOLIDATABLE);
    };
    let written = stage.status.last_pod_event_time.as_ref().map(|at| at.0);
    // What is known already counts, even if it is written only in a moment.
    let observed = stage.status.node_name.as_ref().and_then(|node| world.pod_events.get(node)).copied();
    let quiet_from = written.max(observed).unwrap_or(initialized);
    match quiet_from.checked_add(after) {
        Ok(until) if until <= stage.now => stage.achieved(names::CONSOLIDATABLE),
        Ok(until) => {
            stage.clear(names::CONSOLIDATABLE);
            decision.wake(until);
        }
        Err(_) => stage.clear(names::CONSOLIDATABLE),
    }
}
