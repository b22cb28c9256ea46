//! Volumes that are still attached to a node whose pods are gone: an instance that ends under them keeps the pods that
//! need them waiting for minutes.

use std::collections::BTreeSet;

use super::drain;
use crate::world::NodeState;
use crate::{Timestamp, World};

/// Volumes that must be detached before the instance ends. Those of pods that stay on the node, or are stuck
/// there, never are.
pub(super) fn pending<'w>(world: &'w World, node: &NodeState, now: Timestamp) -> Vec<&'w str> {
    let Some(attached) = world.storage.attachments.get(node.name()) else {
        return Vec::new();
    };
    let kept: BTreeSet<&str> = world
        .pods_on(node.name())
        .filter(|pod| !drain::waits_for(pod, now))
        .flat_map(|pod| pod.digest.volume_claims.iter().map(|claim| format!("{}/{claim}", pod.key.namespace)))
        .filter_map(|claim| world.storage.claims.get(&claim)?.volume.as_deref())
        .collect();
    attached.values().map(String::as_str).filter(|volume| !kept.contains(volume)).collect()
}
