//! What Karpenter of an earlier version did not write yet: the label that names the NodeClass.

use serde_json::json;

use super::patch;
use crate::action::KubeWrite;
use crate::cloud::NodeClassKind;
use crate::world::{ClaimState, NodeState};

pub(super) fn claim(kind: NodeClassKind, state: &ClaimState) -> Option<KubeWrite> {
    let class = &state.claim.spec.node_class_ref.name;
    (state.label(kind.label) != Some(class.as_str()))
        .then(|| patch::claim_metadata(state, json!({ "labels": { kind.label: class } })))
}

/// Only a node that is registered: before that, registration writes everything at once.
pub(super) fn node(kind: NodeClassKind, state: &ClaimState, node: &NodeState) -> Option<KubeWrite> {
    let class = &state.claim.spec.node_class_ref.name;
    (node.is_registered() && node.label(kind.label) != Some(class.as_str()))
        .then(|| patch::node(node, json!({ "labels": { kind.label: class } }), None))
}
