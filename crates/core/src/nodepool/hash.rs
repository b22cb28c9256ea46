//! The template's hash, from which static drift is told. A hash of another version says nothing: claims are given the
//! one that their pool has now, so that a new version replaces no node. Only those that are drifted already stay so.

use karpenter_api::{NodePool, conditions as names, hash, labels};
use serde_json::json;

use super::reference;
use crate::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use crate::world::ClaimState;
use crate::{Decision, Timestamp, World, conditions};

/// Returns true while something of it is to be written: first on the claims, then on the pool, so that whoever is
/// interrupted begins again.
pub(super) fn stamp<C>(world: &World, name: &str, pool: &NodePool, now: Timestamp, decision: &mut Decision<C>) -> bool {
    let hash = hash::nodepool_hash(pool);
    let annotation = |key: &str| pool.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let same_version = annotation(labels::NODEPOOL_HASH_VERSION) == Some(hash::NODEPOOL_HASH_VERSION);
    if same_version && annotation(labels::NODEPOOL_HASH) == Some(hash.as_str()) {
        return false;
    }
    let is_old = |state: &&ClaimState| {
        state.pool() == Some(name)
            && !state.is_deleting()
            && state.annotation(labels::NODEPOOL_HASH_VERSION) != Some(hash::NODEPOOL_HASH_VERSION)
    };
    let old: Vec<&ClaimState> = world.claims.values().filter(|_| !same_version).filter(is_old).collect();
    for state in &old {
        let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "write");
        let object = ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone());
        let patch = json!({ "metadata": { "annotations": annotations(&hash, !is_drifted(state)) } });
        decision.kube(world, now, key, KubeWrite::Patch { object, part: Part::Main, patch });
    }
    if old.is_empty() {
        let patch = json!({ "metadata": { "annotations": annotations(&hash, true) } });
        let write = KubeWrite::Patch { object: reference(pool), part: Part::Main, patch };
        decision.kube(world, now, ActionKey::new(format!("NodePool/{name}"), "write"), write);
    }
    true
}

fn annotations(hash: &str, with_hash: bool) -> serde_json::Value {
    let mut all = json!({ labels::NODEPOOL_HASH_VERSION: hash::NODEPOOL_HASH_VERSION });
    if with_hash {
        all[labels::NODEPOOL_HASH] = json!(hash);
    }
    all
}

fn is_drifted(state: &ClaimState) -> bool {
    let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions::get(list, names::DRIFTED).is_some()
}
