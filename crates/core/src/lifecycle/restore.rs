//! What a disruption that came to nothing left on a node: whoever began it is gone, and would keep pods away for ever.

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{conditions as names, taints};
use serde_json::json;

use super::{Stage, patch};
use crate::action::KubeWrite;
use crate::world::NodeState;

/// The node without the taint of a disruption. (Nothing here disrupts nodes but their deletion, so every such taint is
/// of somebody else's past.)
pub(super) fn node(node: &NodeState) -> Option<KubeWrite> {
    if node.is_deleting() || !node.taints().iter().any(|taint| taint.key == taints::DISRUPTED) {
        return None;
    }
    let rest: Vec<&Taint> = node.taints().iter().filter(|taint| taint.key != taints::DISRUPTED).collect();
    Some(patch::node(node, json!({}), Some(json!({ "taints": rest }))))
}

pub(super) fn claim(stage: &mut Stage<'_>) {
    stage.clear(names::DISRUPTION_REASON);
}
