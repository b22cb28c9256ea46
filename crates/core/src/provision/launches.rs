//! Which claims of a round are bought together: those that ask for the same thing. The token of their launch is on
//! them when they are created, so every process that finds them asks for them in the same way. And which are not bought
//! yet: capacity that was refused lately is tried by one claim, the others wait for what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use karpenter_api::{NodeClaim, labels};

use crate::action::ActionKey;
use crate::cloud::LaunchBatch;
use crate::{Cloud, Decision, Timestamp, World};

/// Instances one launch may ask for: Karpenter's limit for one fleet.
const CLAIMS_MAX: usize = 1000;

/// For each claim of a round the trial that it has to wait for, if there is one.
pub(super) fn on_trial<C: Cloud>(world: &World, cloud: &C, claims: &[NodeClaim]) -> Vec<Option<String>> {
    let unlaunched = world.claims.values().filter(|state| state.instance().is_none() && !state.is_deleting());
    let mut tried: BTreeSet<String> = unlaunched.filter_map(|state| cloud.on_trial(&state.claim)).collect();
    let waits = |claim| cloud.on_trial(claim).filter(|trial| !tried.insert(trial.clone()));
    claims.iter().map(waits).collect()
}

/// Marks the claims of a round. The amounts that they request may differ: any type that one of them may become, the
/// others may become as well.
pub(super) fn form(claims: &mut [NodeClaim], now: Timestamp) {
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, claim) in claims.iter().enumerate() {
        alike.entry(asked(claim)).or_default().push(at);
    }
    for together in alike.values().flat_map(|all| all.chunks(CLAIMS_MAX)) {
        let token = token(together.iter().map(|at| &claims[*at]), now);
        for at in together {
            let annotations = claims[*at].metadata.annotations.get_or_insert_default();
            annotations.insert(labels::LAUNCH.to_owned(), token.clone());
        }
    }
}

/// Has the cloud make ready what the launches of these claims, which are being created, will need.
pub(super) fn prepare<C: Cloud>(
    world: &World,
    cloud: &C,
    claims: &[Arc<NodeClaim>],
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) {
    let mut launches: BTreeMap<&str, Vec<&NodeClaim>> = BTreeMap::new();
    for claim in claims {
        let token = claim.metadata.annotations.as_ref().and_then(|all| all.get(labels::LAUNCH));
        launches.entry(token.map(String::as_str).unwrap_or_default()).or_default().push(claim);
    }
    for (token, claims) in launches {
        let batch = LaunchBatch { token, attempt: 0, target: claims.len(), claims, taken: Vec::new() };
        if let Some(call) = cloud.prepare(&batch, now) {
            decision.cloud(world, now, ActionKey::new(format!("Launch/{token}"), "prepare"), call);
        }
    }
}

/// What a claim asks the cloud for, as text.
fn asked(claim: &NodeClaim) -> String {
    let mut spec = claim.spec.clone();
    spec.resources = None;
    let metadata = (&claim.metadata.labels, &claim.metadata.annotations);
    // Neither can fail: both are maps of text.
    serde_json::to_string(&(metadata, spec)).unwrap_or_default()
}

/// `<uid of the NodePool>-<hash>`: no other round, pool or cluster has it. With a number behind it, it is not longer
/// than EC2 takes (64 characters).
fn token<'a>(mut claims: impl Iterator<Item = &'a NodeClaim>, now: Timestamp) -> String {
    let first = claims.next();
    let owner =
        first.and_then(|claim| claim.metadata.owner_references.as_ref()?.first().map(|owner| owner.uid.clone()));
    let names = first.into_iter().chain(claims).filter_map(|claim| claim.metadata.name.as_deref());
    let seed = format!("{}/{}", now.as_nanosecond(), names.collect::<Vec<_>>().join(","));
    format!("{}-{:016x}", owner.unwrap_or_default(), super::hash(&seed))
}
