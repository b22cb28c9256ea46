//! A Node as decisions read it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use karpenter_api::labels;

use crate::Resources;

#[derive(Clone, Debug)]
pub struct NodeState {
    pub node: Node,
    pub capacity: Resources,
    pub allocatable: Resources,
}

impl NodeState {
    pub(super) fn new(node: Node) -> Self {
        let offered = |list: Option<&BTreeMap<String, Quantity>>| list.map(Resources::offered).unwrap_or_default();
        let status = node.status.as_ref();
        let capacity = offered(status.and_then(|status| status.capacity.as_ref()));
        let allocatable = offered(status.and_then(|status| status.allocatable.as_ref()));
        Self { node, capacity, allocatable }
    }

    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.node.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn provider_id(&self) -> Option<&str> {
        self.node.spec.as_ref()?.provider_id.as_deref().filter(|id| !id.is_empty())
    }

    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.node.metadata.labels.as_ref()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_deleting(&self) -> bool {
        self.node.metadata.deletion_timestamp.is_some()
    }

    pub fn is_registered(&self) -> bool {
        self.label(labels::REGISTERED) == Some("true")
    }

    pub fn is_initialized(&self) -> bool {
        self.label(labels::INITIALIZED) == Some("true")
    }

    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.node.metadata.finalizers.iter().flatten().any(|f| f == finalizer)
    }

    /// Whether pods may be placed otherwise than on an earlier version of it.
    pub(super) fn differs(&self, other: &Self) -> bool {
        self.node.spec != other.node.spec
            || self.labels() != other.labels()
            || self.is_deleting() != other.is_deleting()
            || self.is_ready() != other.is_ready()
            || self.allocatable != other.allocatable
    }

    /// The kubelet's Ready condition is True.
    pub fn is_ready(&self) -> bool {
        let conditions = self.node.status.as_ref().and_then(|status| status.conditions.as_deref());
        conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }
}
