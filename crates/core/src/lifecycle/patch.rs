//! Patch bodies. Lists are replaced whole by a merge patch, so every patch that holds one carries
//! the resource version it was decided on: a stale one is refused with 409 and decided again.

use karpenter_api::NodeClaimStatus;
use serde_json::{Value, json};

use crate::action::{KubeWrite, ObjectRef, Part, WriteKind};
use crate::world::{ClaimState, NodeState};

pub(super) fn claim_ref(state: &ClaimState) -> ObjectRef {
    ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone())
}

pub(super) fn node_ref(node: &NodeState) -> ObjectRef {
    ObjectRef::cluster(WriteKind::Node, node.name(), node.node.metadata.uid.clone())
}

pub(super) fn claim_status(state: &ClaimState, status: &NodeClaimStatus) -> KubeWrite {
    let mut patch = json!({ "status": status });
    patch["metadata"] = json!({ "resourceVersion": state.claim.metadata.resource_version });
    KubeWrite::Patch { object: claim_ref(state), part: Part::Status, patch }
}

pub(super) fn claim_metadata(state: &ClaimState, metadata: Value) -> KubeWrite {
    let patch = versioned(metadata, state.claim.metadata.resource_version.as_deref());
    KubeWrite::Patch { object: claim_ref(state), part: Part::Main, patch }
}

/// `spec` may be null when only metadata changes.
pub(super) fn node(node: &NodeState, metadata: Value, spec: Option<Value>) -> KubeWrite {
    let mut patch = versioned(metadata, node.node.metadata.resource_version.as_deref());
    if let Some(spec) = spec {
        patch["spec"] = spec;
    }
    KubeWrite::Patch { object: node_ref(node), part: Part::Main, patch }
}

/// The finalizers without one of them.
pub(super) fn without<'a>(finalizers: Option<&'a Vec<String>>, finalizer: &str) -> Vec<&'a str> {
    finalizers.into_iter().flatten().map(String::as_str).filter(|f| *f != finalizer).collect()
}

/// The finalizers with one more, once.
pub(super) fn with<'a>(finalizers: Option<&'a Vec<String>>, finalizer: &'a str) -> Vec<&'a str> {
    let mut all = without(finalizers, finalizer);
    all.push(finalizer);
    all
}

fn versioned(mut metadata: Value, version: Option<&str>) -> Value {
    metadata["resourceVersion"] = json!(version);
    json!({ "metadata": metadata })
}
