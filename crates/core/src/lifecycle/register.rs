//! A Node with the claim's provider id appeared: make it the claim's.

use std::collections::BTreeMap;

use karpenter_api::{conditions as names, labels, taints};
use serde_json::{Value, json};

use super::{Stage, about_claim, home_of, patch};
use crate::action::{ActionKey, KubeWrite};
use crate::world::{ClaimState, NodeState};
use crate::{Cloud, Decision, Fact, World};

pub(super) fn decide<C: Cloud>(world: &World, cloud: &C, stage: &mut Stage<'_>, decision: &mut Decision<C::Call>) {
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
            let pending = cloud.registration_hooks(&state.claim);
            if pending.is_empty() {
                decision.kube_then(world, stage.now, key, adopt(state, node, true), told(state, node));
                return;
            }
            // Whoever looks at the node meanwhile finds all of it, but no pod gets there.
            let hooks = pending.join(", ");
            stage.waiting(names::REGISTERED, "RegistrationHookPending", &format!("waiting for {hooks}"));
            if !is_adopted(state, node) {
                decision.kube(world, stage.now, key, adopt(state, node, false));
            }
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

/// Finalizer, owner, labels, annotations and taints of the claim, in one write; it also says that the node is registered,
/// if it is.
fn adopt(state: &ClaimState, node: &NodeState, registered: bool) -> KubeWrite {
    let claim = &state.claim;
    let mut labels: BTreeMap<&str, &str> =
        claim.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if registered {
        labels.insert(labels::REGISTERED, "true");
    }
    let metadata = json!({
        "labels": labels,
        "annotations": claim.metadata.annotations,
        "finalizers": patch::with(node.node.metadata.finalizers.as_ref(), labels::TERMINATION_FINALIZER),
        "ownerReferences": owners(state, node),
    });
    let mut taints = state.taints_of(node);
    if !registered {
        taints.extend(node.taints().iter().filter(|taint| taint.key == taints::UNREGISTERED).cloned());
    }
    patch::node(node, metadata, Some(json!({ "taints": taints })))
}

/// What is written first is there.
fn is_adopted(state: &ClaimState, node: &NodeState) -> bool {
    let mut labels = state.claim.metadata.labels.iter().flatten();
    node.has_finalizer(labels::TERMINATION_FINALIZER)
        && labels.all(|(key, value)| node.label(key) == Some(value.as_str()))
        && node.node.metadata.owner_references.iter().flatten().any(|owner| owner.uid == state.uid())
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
