//! NodeClaim: one node, from the wish to the instance's end.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::nodepool::expire_after;
use crate::{NodeClassRef, Quantity, RequirementSpec, ResourceRequests, Taint};

/// Asks for one node. The spec never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodeClaim",
    status = "NodeClaimStatus",
    derive = "PartialEq",
    category = "karpenter",
    printcolumn(name = "Type", json_path = r".metadata.labels.node\.kubernetes\.io/instance-type", type_ = "string"),
    printcolumn(name = "Capacity", json_path = r".metadata.labels.karpenter\.sh/capacity-type", type_ = "string"),
    printcolumn(name = "Zone", json_path = r".metadata.labels.topology\.kubernetes\.io/zone", type_ = "string"),
    printcolumn(name = "Node", json_path = ".status.nodeName", type_ = "string"),
    printcolumn(name = "Ready", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date"),
    printcolumn(name = "ImageID", json_path = ".status.imageID", type_ = "string", priority = 1),
    printcolumn(name = "ID", json_path = ".status.providerID", type_ = "string", priority = 1),
    printcolumn(
        name = "NodePool",
        json_path = r".metadata.labels.karpenter\.sh/nodepool",
        type_ = "string",
        priority = 1
    ),
    printcolumn(name = "NodeClass", json_path = ".spec.nodeClassRef.name", type_ = "string", priority = 1),
    printcolumn(
        name = "Drifted",
        json_path = r#".status.conditions[?(@.type=="Drifted")].status"#,
        type_ = "string",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct NodeClaimSpec {
    /// Taints of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// Taints that something else removes while the node starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_taints: Option<Vec<Taint>>,
    /// Constraints on the node's labels.
    pub requirements: Vec<RequirementSpec>,
    /// The least resources the node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequests>,
    /// The object with the cloud's settings.
    pub node_class_ref: NodeClassRef,
    /// How long the node may drain before its pods are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<String>,
    /// How long the node lives, or Never.
    #[serde(default = "expire_after", skip_serializing_if = "Option::is_none")]
    pub expire_after: Option<String>,
}

/// What became of the claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeClaimStatus {
    /// Name of the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The cloud's id of the instance.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The image the instance was started from.
    #[serde(default, rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Capacity of the instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<BTreeMap<String, Quantity>>,
    /// What of it pods can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<BTreeMap<String, Quantity>>,
    /// Stages reached, in detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When a pod was last bound, ended or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pod_event_time: Option<Time>,
}
