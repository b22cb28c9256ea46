//! The node is usable: ready, free of start-up taints, with every resource that was asked for.

use karpenter_api::{conditions as names, labels, taints};
use serde_json::json;

use super::{Stage, about_claim, patch, pool_of};
use crate::action::ActionKey;
use crate::world::{ClaimState, NodeState};
use crate::{Decision, Fact, World};

pub(super) fn decide<C>(world: &World, stage: &mut Stage<'_>, decision: &mut Decision<C>) {
    if stage.is_decided(names::INITIALIZED) || !stage.is_true(names::REGISTERED) {
        return;
    }
    let state = stage.state;
    let node = stage.status.node_name.as_ref().and_then(|name| world.nodes.get(name));
    let Some(node) = node else {
        stage.waiting(names::INITIALIZED, "NodeNotFound", "Node not registered with cluster");
        return;
    };
    if let Some((reason, message)) = missing(state, node) {
        stage.waiting(names::INITIALIZED, reason, &message);
        return;
    }
    if node.is_initialized() {
        stage.achieved(names::INITIALIZED);
        return;
    }
    let key = ActionKey::new(format!("Node/{}", node.name()), "initialize");
    let write = patch::node(node, json!({ "labels": { labels::INITIALIZED: "true" } }), None);
    let told = Fact::ClaimInitialized { claim: about_claim(state), pool: pool_of(state), node: node.name().to_owned() };
    decision.kube_then(world, stage.now, key, write, vec![told]);
}

/// The first thing that is missing, in the order Karpenter looks.
fn missing(state: &ClaimState, node: &NodeState) -> Option<(&'static str, String)> {
    if !node.is_ready() {
        return Some(("NodeNotReady", "Node status is NotReady".to_owned()));
    }
    let startup = state.claim.spec.startup_taints.iter().flatten();
    for taint in startup.map(taints::to_core) {
        if node.taints().iter().any(|known| known.key == taint.key && known.effect == taint.effect) {
            return Some(("StartupTaintsExist", format!("StartupTaint {}:{} still exists", taint.key, taint.effect)));
        }
    }
    if let Some(taint) = node.taints().iter().find(|taint| taints::is_ephemeral(taint)) {
        let message = format!("KnownEphemeralTaint {}:{} still exists", taint.key, taint.effect);
        return Some(("KnownEphemeralTaintsExist", message));
    }
    let allocatable = node.node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let requests = state.claim.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for (name, amount) in requests.into_iter().flatten() {
        let wanted = !crate::resources::is_zero(amount);
        let there = allocatable
            .and_then(|allocatable| allocatable.get(name))
            .is_some_and(|found| crate::resources::amount(name, &found.0).is_some_and(|amount| amount > 0));
        if wanted && !there {
            return Some(("ResourceNotRegistered", format!("Resource {name:?} was requested but not registered")));
        }
    }
    None
}
