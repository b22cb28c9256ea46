//! `status.lastPodEventTime`: when pods last came to the node or went from it.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Stage;
use crate::{Decision, Timestamp, World};

/// Written at most this often.
const EVERY: SignedDuration = SignedDuration::from_secs(10);

pub(super) fn decide<C>(world: &World, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    let event = stage.status.node_name.as_ref().and_then(|node| world.pod_events.get(node));
    // The API server keeps whole seconds.
    let Some(event) = event.and_then(|at| Timestamp::from_second(at.as_second()).ok()) else {
        return;
    };
    if let Some(known) = stage.status.last_pod_event_time.as_ref().map(|at| at.0) {
        if event <= known {
            return;
        }
        if let Ok(next) = known.checked_add(EVERY)
            && next > stage.now
        {
            return decision.wake(next);
        }
    }
    stage.status.last_pod_event_time = Some(Time(event));
}
