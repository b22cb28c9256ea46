//! A Node with the claim's provider id appeared: make it the claim's.

use std::collections::BTreeMap;

use karpenter_api::{conditions as names, labels, taints};
use serde_json::{Value, json};

use super::{Stage, about_claim, home_of, patch};
use crate::action::{ActionKey, KubeWrite};
use crate::world::{ClaimState, NodeState};
use crate::{Decision, Fact, World};

pub(super) fn decide<C>(world: &World, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    if stage.is_decided(names::REGISTERED) || !stage.is_true(names::LAUNCHED) {
        return;
    }
    let state = stage.state;
    let Some(provider_id) = state.provider_id() else {
        return;
    };
    let nodes: Vec<&str> =
        world.nodes_by_provider_id.get(provider_id).into_iter().flatten().map(String::as_str).collect();
    match nodes.as_slice() {
        [] => stage.waiting(names::REGISTERED, "NodeNotFound", "Node not registered with cluster"),
        [name] => {
            let Some(node) = world.nodes.get(*name) else {
                return;
            };
            if node.is_registered() {
                stage.status.node_name = Some(node.name().to_owned());
                stage.achieved(names::REGISTERED);
                return;
            }
            let key = ActionKey::new(format!("Node/{name}"), "register");
            decision.kube_then(world, stage.now, key, adopt(state, node), told(state, node));
        }
        several => {
            let message = format!("{} nodes have provider id {provider_id}: {}", several.len(), several.join(", "));
            stage.set(names::REGISTERED, "False", "MultipleNodesFound", &message);
        }
    }
}

fn told(state: &ClaimState, node: &NodeState) -> Vec<Fact> {
    let (claim, node_name) = (about_claim(state), node.name().to_owned());
    let mut facts = vec![Fact::ClaimRegistered {
        claim: claim.clone(),
        home: home_of(|key| state.label(key)),
        node: node_name.clone(),
    }];
    if !node.taints().iter().any(|taint| taint.key == taints::UNREGISTERED) {
        facts.push(Fact::UnregisteredTaintMissing { claim, node: node_name });
    }
    facts
}

/// Finalizer, owner, labels, annotations and taints of the claim, in one write that also says that
/// the node is registered.
fn adopt(state: &ClaimState, node: &NodeState) -> KubeWrite {
    let claim = &state.claim;
    let mut labels: BTreeMap<&str, &str> =
        claim.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.insert(labels::REGISTERED, "true");
    let metadata = json!({
        "labels": labels,
        "annotations": claim.metadata.annotations,
        "finalizers": patch::with(node.node.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER),
        "ownerReferences": owners(state, node),
    });
    patch::node(node, metadata, Some(json!({ "taints": state.taints_of(node) })))
}

fn owners(state: &ClaimState, node: &NodeState) -> Vec<Value> {
    let uid = state.uid();
    let others = node.node.metadata.owner_references.iter().flatten().filter(|owner| owner.uid != uid);
    let ours = json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "name": state.name(),
        "uid": uid,
        "blockOwnerDeletion": true,
    });
    others.map(|owner| json!(owner)).chain([ours]).collect()
}
