//! Until when the pods of a claim's node may take their time: `terminationGracePeriod` from the claim's deletion on,
//! or at once when the node is repaired. It stands on the claim as an annotation, so that it outlives every process and
//! whoever wants a node gone sooner can say so.

use jiff::SignedDuration;
use karpenter_api::{duration, labels};
use serde_json::json;

use super::{about_claim, patch};
use crate::action::KubeWrite;
use crate::fact::About;
use crate::world::ClaimState;
use crate::{Fact, Timestamp};

/// The deadline that stands on a claim. One that cannot be read is none: pods leave in their own time.
pub(super) fn of(claim: &ClaimState) -> Option<Timestamp> {
    claim.annotation(labels::TERMINATION_TIMESTAMP)?.parse().ok()
}

/// The write that gives a claim that is being deleted its deadline, unless it has one: what stands there stays.
pub(super) fn due(state: &ClaimState) -> Option<(KubeWrite, Fact)> {
    if state.annotation(labels::TERMINATION_TIMESTAMP).is_some() {
        return None;
    }
    let grace = duration::parse(state.claim.spec.termination_grace_period.as_deref()?)?;
    let deleted = state.claim.metadata.deletion_timestamp.as_ref()?.0;
    let deadline = deleted.checked_add(grace).ok()?;
    Some((set(state, deadline), expiring(about_claim(state), deadline)))
}

/// The annotation, in whole seconds.
pub(super) fn set(state: &ClaimState, deadline: Timestamp) -> KubeWrite {
    let deadline = Timestamp::from_second(deadline.as_second()).unwrap_or(deadline).to_string();
    patch::claim_metadata(state, json!({ "annotations": { labels::TERMINATION_TIMESTAMP: deadline } }))
}

pub(super) fn expiring(object: About, deadline: Timestamp) -> Fact {
    let message = format!("All pods will be deleted by {deadline}");
    Fact::Event { object, warning: true, reason: "TerminationGracePeriodExpiring", message }
}

/// How long from now; never less than a second, in whole seconds.
pub(super) fn remaining(deadline: Timestamp, now: Timestamp) -> SignedDuration {
    SignedDuration::from_secs(deadline.duration_since(now).as_secs().max(1))
}
