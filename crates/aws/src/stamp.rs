//! Finalizer and hash of an EC2NodeClass, from which static drift is told. A hash of another version says nothing: claims
//! are given the one that their class has now, so that a new version replaces no node. Only those that are drifted
//! already stay so.

use jiff::Timestamp;
use karpenter_api::{conditions as names, hash, labels as keys};
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::world::ClaimState;
use karpenter_core::{Decision, World, conditions};
use serde_json::json;

use crate::call::Call;
use crate::class::Class;
use crate::polls::reference;

/// Returns true while something of it is to be written: first on the claims, then on the class, so that whoever is
/// interrupted begins again. There is no hash before the CA is known: a wrong one would make every node look drifted.
pub(crate) fn stamp(
    world: &World,
    class: &Class,
    cluster_ca: Option<&str>,
    now: Timestamp,
    decision: &mut Decision<Call>,
) -> bool {
    let meta = &class.object.metadata;
    let hash = cluster_ca.map(|ca| hash::ec2_node_class_hash(&class.object, ca));
    let version = hash::EC2_NODE_CLASS_HASH_VERSION;
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let same_version = annotation(keys::EC2_NODE_CLASS_HASH_VERSION) == Some(version);
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|f| f == keys::EC2_NODE_CLASS_FINALIZER);
    let current =
        hash.as_deref().is_none_or(|hash| same_version && annotation(keys::EC2_NODE_CLASS_HASH) == Some(hash));
    if held && current {
        return false;
    }
    if let Some(hash) = hash.as_deref().filter(|_| !same_version)
        && claims(world, class, hash, now, decision)
    {
        return true;
    }
    if !held {
        finalizers.push(keys::EC2_NODE_CLASS_FINALIZER.to_owned());
    }
    let mut patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": meta.resource_version } });
    if let Some(hash) = hash {
        patch["metadata"]["annotations"] =
            json!({ keys::EC2_NODE_CLASS_HASH: hash, keys::EC2_NODE_CLASS_HASH_VERSION: version });
    }
    let key = ActionKey::new(format!("EC2NodeClass/{}", class.name()), "write");
    decision.kube(world, now, key, KubeWrite::Patch { object: reference(class), part: Part::Main, patch });
    true
}

/// Returns true while claims of the class bear a hash of another version.
fn claims(world: &World, class: &Class, hash: &str, now: Timestamp, decision: &mut Decision<Call>) -> bool {
    let version = hash::EC2_NODE_CLASS_HASH_VERSION;
    let is_old = |state: &&ClaimState| {
        state.claim.spec.node_class_ref.name == class.name()
            && !state.is_deleting()
            // One that is not launched yet learns both from its launch.
            && state.annotation(keys::EC2_NODE_CLASS_HASH_VERSION).is_some_and(|known| known != version)
    };
    let mut some = false;
    for state in world.claims.values().filter(is_old) {
        some = true;
        let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
        let mut annotations = json!({ keys::EC2_NODE_CLASS_HASH_VERSION: version });
        if conditions::get(list, names::DRIFTED).is_none() {
            annotations[keys::EC2_NODE_CLASS_HASH] = json!(hash);
        }
        let object = ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone());
        let patch = json!({ "metadata": { "annotations": annotations } });
        let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "write");
        decision.kube(world, now, key, KubeWrite::Patch { object, part: Part::Main, patch });
    }
    some
}
