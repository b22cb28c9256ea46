//! What can be wrong with a plan.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("pod {pod}: found neither a place nor a verdict, expected one")]
    Forgotten { pod: String },
    #[error("pod {pod}: found a second place or verdict, or one for a pod that does not wait")]
    Unasked { pod: String },
    #[error("pod {pod}: found an empty verdict, expected a reason")]
    NoReason { pod: String },
    #[error("pod {pod} on {node}: {rule}")]
    Placed { pod: String, node: String, rule: Rule },
    #[error("claim {claim}: {problem}")]
    Claim { claim: String, problem: ClaimFault },
    #[error("nodepool {pool}: limit of {resource}: found {found}, expected at most {limit}")]
    OverLimit { pool: String, resource: String, found: i128, limit: i128 },
    /// It waits although somebody could take it, now and alone.
    #[error("pod {pod}: found the verdict {verdict:?}, expected a place on {place}")]
    Neglected { pod: String, verdict: String, place: String },
    /// It waits although a less important pod has a place that would do for it.
    #[error("pod {pod}: found the verdict {verdict:?}, expected the place of less important pods on {node}")]
    Outranked { pod: String, verdict: String, node: String },
    #[error("pod {pod}: found the verdict {verdict:?}, expected that its spec can be read")]
    Unread { pod: String, verdict: String },
}

/// The rule of kube-scheduler that a placement breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rule {
    #[error("there is no such node")]
    NoSuchNode,
    #[error("the node is being deleted")]
    NodeLeaves,
    #[error("taint {0} is not tolerated")]
    Taint(String),
    #[error("node selector or affinity does not match the labels {labels}")]
    NodeAffinity { labels: String },
    #[error("resource {resource}: asks for {asked}, {left} is left{of}")]
    Room { resource: String, asked: i128, left: i128, of: String },
    #[error("host port {0} is taken")]
    Port(String),
    #[error("topology spread over {key}: the node has no such label, or not that of another constraint")]
    NoDomain { key: String },
    #[error("topology spread over {key}: domain {domain} would hold {held}, the least is {least}, maxSkew {max_skew}")]
    Skew { key: String, domain: String, held: usize, least: usize, max_skew: usize },
    #[error("pod affinity over {key}: no pod that all terms mean is in the domain of {labels}")]
    Affinity { key: String, labels: String },
    #[error("pod anti-affinity over {key}: {other} is there")]
    AntiAffinity { key: String, other: String },
    #[error("pod anti-affinity of {other} over {key} refuses it")]
    Refused { key: String, other: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimFault {
    #[error("its nodepool {0:?} cannot buy")]
    Pool(String),
    #[error("{field}: found {found}, expected {expected} as in the nodepool")]
    NotOfPool { field: &'static str, found: String, expected: String },
    #[error("requirement {0}: a key that the API server refuses")]
    Restricted(String),
    #[error("requirement {0}: cannot be written so")]
    Malformed(String),
    #[error("lists no instance type")]
    NoTypes,
    #[error("lists instance type {kind}: {why}")]
    Type { kind: String, why: &'static str },
    #[error("capacity type {0} is listed, no instance type has it in an allowed zone")]
    CapacityType(String),
    #[error("requirement {requirement} of the {whose}: a node may have the labels {labels}")]
    Requirement { whose: &'static str, requirement: String, labels: String },
    #[error("minValues of {key}: found {found} of {left} left, expected {expected}")]
    MinValues { key: String, found: i64, left: usize, expected: String },
    #[error("requests {resource}: found {found}, expected {expected}")]
    Requests { resource: String, found: i128, expected: String },
    #[error("no pod was placed on it")]
    Empty,
}
