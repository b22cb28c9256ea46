//! NodePool: which nodes may be bought, and how they may be disrupted.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::{NodeClassRef, Quantity, RequirementSpec, Taint};

/// Describes a class of nodes to be launched for pods that find no place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodePool",
    status = "NodePoolStatus",
    derive = "PartialEq",
    category = "karpenter",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.nodes"),
    printcolumn(name = "NodeClass", json_path = ".spec.template.spec.nodeClassRef.name", type_ = "string"),
    printcolumn(name = "Nodes", json_path = ".status.nodes", type_ = "string"),
    printcolumn(name = "Ready", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date"),
    printcolumn(name = "Weight", json_path = ".spec.weight", type_ = "integer", priority = 1),
    printcolumn(name = "CPU", json_path = ".status.resources.cpu", type_ = "string", priority = 1),
    printcolumn(name = "Memory", json_path = ".status.resources.memory", type_ = "string", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolSpec {
    /// What the nodes are like.
    pub template: NodeClaimTemplate,
    /// When and how fast nodes may be disrupted.
    #[serde(default)]
    pub disruption: Disruption,
    /// The most the pool may hold, by resource; `nodes` counts nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, Quantity>>,
    /// Higher weights are tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// A fixed number of nodes; makes the pool static.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
}

/// The template from which NodeClaims are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeClaimTemplate {
    /// Labels and annotations of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Specification of the nodes.
    pub spec: NodeClaimTemplateSpec,
}

/// Labels and annotations copied to NodeClaims and Nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMetadata {
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What NodeClaims of a pool ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeClaimTemplateSpec {
    /// Taints of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// Taints that something else removes while a node starts; pods need not tolerate them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_taints: Option<Vec<Taint>>,
    /// Constraints on the nodes' labels.
    pub requirements: Vec<RequirementSpec>,
    /// The object with the cloud's settings.
    pub node_class_ref: NodeClassRef,
    /// How long a terminating node may drain before its pods are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<String>,
    /// How long a node lives, or Never.
    #[serde(default = "expire_after", skip_serializing_if = "Option::is_none")]
    pub expire_after: Option<String>,
}

/// When and how fast nodes may be disrupted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// How long a node must have been quiet before it is consolidated, or Never.
    #[serde(default = "consolidate_after")]
    pub consolidate_after: String,
    /// Which nodes are considered for consolidation.
    #[serde(default)]
    pub consolidation_policy: ConsolidationPolicy,
    /// Limits on how many nodes are disrupted at once; the strictest active one counts.
    #[serde(default = "default_budgets", skip_serializing_if = "Option::is_none")]
    pub budgets: Option<Vec<Budget>>,
}

/// Which nodes are considered for consolidation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConsolidationPolicy {
    WhenEmpty,
    #[default]
    WhenEmptyOrUnderutilized,
    Balanced,
}

/// A limit on disruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// The reasons it applies to; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<DisruptionReason>>,
    /// A number of nodes, or a share of the pool's nodes in percent.
    #[serde(default = "ten_percent")]
    pub nodes: String,
    /// When it begins to apply: a cron expression in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// How long it applies from each beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// Why a node is disrupted voluntarily.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DisruptionReason {
    Underutilized,
    Empty,
    Drifted,
}

/// What was observed of the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolStatus {
    /// Resources of the pool's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeMap<String, Quantity>>,
    /// Number of the pool's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// Generation of the NodeClass that was judged last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_class_observed_generation: Option<i64>,
    /// Readiness, in detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

impl Default for Disruption {
    fn default() -> Self {
        Self {
            consolidate_after: consolidate_after(),
            consolidation_policy: ConsolidationPolicy::default(),
            budgets: default_budgets(),
        }
    }
}

pub(crate) fn expire_after() -> Option<String> {
    Some("720h".to_owned())
}

fn consolidate_after() -> String {
    "0s".to_owned()
}

fn ten_percent() -> String {
    "10%".to_owned()
}

fn default_budgets() -> Option<Vec<Budget>> {
    Some(vec![Budget { reasons: None, nodes: ten_percent(), schedule: None, duration: None }])
}
