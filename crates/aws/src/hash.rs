//! The hash of a class, on the class and on the claims launched with it.
//!
//! A claim keeps the hash it was launched with: that is how static drift is told. Only a hash of another version says
//! nothing any more; such a claim is stamped anew, unless it has drifted already.

use karpenter_api::hash::{EC2_NODE_CLASS_HASH_VERSION as VERSION, ec2_node_class_hash};
use karpenter_api::{conditions as names, labels as keys};
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::world::ClaimState;
use karpenter_core::{Decision, Timestamp, World, conditions};
use serde_json::json;

use crate::call::Call;
use crate::class::Class;

/// Stamps the claims of a class that bear a hash of another version, or none although they were launched.
pub(crate) fn restamp(
    world: &World,
    class: &Class,
    cluster_ca: Option<&str>,
    now: Timestamp,
    decision: &mut Decision<Call>,
) {
    // A wrong hash would make every node look drifted.
    let Some(cluster_ca) = cluster_ca else {
        return;
    };
    for state in world.claims.values().filter(|state| is_outdated(state, class)) {
        let list = state.claim.status.as_ref().and_then(|status| status.conditions.as_deref());
        let mut annotations = json!({ keys::EC2_NODE_CLASS_HASH_VERSION: VERSION });
        if conditions::get(list, names::DRIFTED).is_none() {
            annotations[keys::EC2_NODE_CLASS_HASH] = json!(ec2_node_class_hash(&class.object, cluster_ca));
        }
        let object = ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone());
        let patch = json!({ "metadata": { "annotations": annotations } });
        let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "hash");
        decision.kube(world, now, key, KubeWrite::Patch { object, part: Part::Main, patch });
    }
}

fn is_outdated(state: &ClaimState, class: &Class) -> bool {
    let claim = &state.claim;
    let annotations = claim.metadata.annotations.as_ref();
    claim.spec.node_class_ref.name == class.name()
        && state.provider_id().is_some()
        && annotations.and_then(|all| all.get(keys::EC2_NODE_CLASS_HASH_VERSION)).map(String::as_str) != Some(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{claim, class, world};
    use karpenter_core::Deed;
    use serde_json::Value;

    /// The annotations that a claim gets.
    fn written(metadata: &Value, drifted: bool) -> Option<Value> {
        let mut claim = claim(metadata);
        if drifted {
            let list = claim.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions::set(list, names::DRIFTED, "True", "NodeClassDrift", "", None, Timestamp::UNIX_EPOCH);
        }
        let mut decision = Decision::default();
        let class = Class::new(class(&json!({})));
        restamp(&world(&[claim]), &class, Some("Q0E="), Timestamp::UNIX_EPOCH, &mut decision);
        let patches = decision.actions.into_iter().filter_map(|action| match action.deed {
            Deed::Kube(KubeWrite::Patch { patch, .. }) => Some(patch["metadata"]["annotations"].clone()),
            _ => None,
        });
        patches.into_iter().next()
    }

    #[test]
    fn claims_with_a_hash_of_another_version_get_ours_unless_they_have_drifted() {
        let hash = ec2_node_class_hash(&class(&json!({})), "Q0E=");
        let old = json!({ "annotations": { keys::EC2_NODE_CLASS_HASH: "1", keys::EC2_NODE_CLASS_HASH_VERSION: "v5" } });
        let anew = json!({ keys::EC2_NODE_CLASS_HASH: hash, keys::EC2_NODE_CLASS_HASH_VERSION: VERSION });
        assert_eq!(written(&old, false), Some(anew.clone()));
        assert_eq!(written(&json!({}), false), Some(anew));
        assert_eq!(written(&old, true), Some(json!({ keys::EC2_NODE_CLASS_HASH_VERSION: VERSION })));
        let ours =
            json!({ "annotations": { keys::EC2_NODE_CLASS_HASH: "1", keys::EC2_NODE_CLASS_HASH_VERSION: VERSION } });
        assert_eq!(written(&ours, false), None, "it says that the class has changed");
    }
}
