//! What came in: the only way the World changes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use karpenter_api::{NodeClaim, NodePool};
use serde_json::Value;

use crate::Timestamp;
use crate::action::ActionKey;
use crate::cloud::{Impairment, Instance, LaunchOutcome};
use crate::provision::Round;

/// Watched kinds; the World decides nothing before each was listed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pod,
    Node,
    NodePool,
    NodeClaim,
    NodeClass,
    DaemonSet,
    PersistentVolumeClaim,
    PersistentVolume,
    StorageClass,
    CsiNode,
    VolumeAttachment,
    Namespace,
    PodDisruptionBudget,
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

impl Kind {
    /// Those that are always watched.
    pub const ALL: [Kind; 13] = [
        Kind::Pod,
        Kind::Node,
        Kind::NodePool,
        Kind::NodeClaim,
        Kind::NodeClass,
        Kind::DaemonSet,
        Kind::PersistentVolumeClaim,
        Kind::PersistentVolume,
        Kind::StorageClass,
        Kind::CsiNode,
        Kind::VolumeAttachment,
        Kind::Namespace,
        Kind::PodDisruptionBudget,
    ];
    /// Those that select pods, watched only while default spread constraints need them.
    pub const SELECTING: [Kind; 4] = [Kind::Service, Kind::ReplicationController, Kind::ReplicaSet, Kind::StatefulSet];
}

/// An object as the API server holds it.
#[derive(Clone, Debug)]
pub enum Object {
    Pod(Box<Pod>),
    Node(Box<Node>),
    NodePool(Box<NodePool>),
    NodeClaim(Box<NodeClaim>),
    DaemonSet(Box<DaemonSet>),
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    PersistentVolume(Box<PersistentVolume>),
    StorageClass(Box<StorageClass>),
    CsiNode(Box<CSINode>),
    VolumeAttachment(Box<VolumeAttachment>),
    Namespace(Box<Namespace>),
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    Selecting(Box<Selecting>),
}

/// An object of one of [`Kind::SELECTING`]: nothing of it matters but which pods it selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Selecting {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    /// `None`: it selects none.
    pub selector: Option<LabelSelector>,
}

/// One watch event.
#[derive(Clone, Debug)]
pub enum Change {
    Applied(Object),
    Deleted(Object),
}

#[derive(Clone, Debug)]
pub enum Observation {
    /// A watch event, or the object a write of ours returned.
    Kube(Change),
    /// The complete list of a kind was delivered through `Kube`; objects of that kind that were
    /// known before and are not in `names` (`namespace/name` or `name`) are gone.
    Listed { kind: Kind, names: Vec<String> },
    /// An action ended. Every dispatched action ends exactly once.
    Done { key: ActionKey, outcome: Result<Option<Box<Object>>, Failure> },
    /// What a launch, or the look-up after an uncertain one, came to.
    Launch { claim: String, uid: String, outcome: LaunchOutcome },
    /// A request to end an instance was accepted, or the instance was found to be gone.
    Terminating { provider_id: String, gone: bool },
    /// All instances the cloud attributes to this cluster, at the time the answer was asked for.
    Instances { asked_at: Timestamp, instances: Vec<Instance> },
    /// Everything that the cloud says is wrong with instances now, by provider id.
    Impaired(BTreeMap<String, Impairment>),
    /// The cloud's part of the model changed in a way that may let pending pods be placed.
    CatalogueChanged,
    /// A provisioning round was solved: what it assumed and what it told each pod.
    Planned(Box<Round>),
    /// Nothing is to be done for these claims before the time beside them, as long as nothing of them is observed and the
    /// cloud's [version](crate::Cloud::version) is this.
    Quiet { claims: Vec<(String, Timestamp)>, version: u64 },
    /// The list of instances that was asked for then agrees with the claims.
    InOrder { asked_at: Timestamp },
}

/// Why a write or a call did not succeed, as far as decisions care.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// 404: the object is not there (any more).
    #[error("not found: {0}")]
    NotFound(String),
    /// 409: somebody else wrote first; decide again on the newer object.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 429 on an eviction: a PodDisruptionBudget does not allow it now.
    #[error("blocked: {0}")]
    Blocked(String),
    /// 403/401/422 and the like: the same request will not do better soon.
    #[error("refused: {0}")]
    Refused(String),
    /// Time-outs, 5xx, connection loss: the effect is unknown.
    #[error("failed: {0}")]
    Unknown(String),
    /// Never sent: the executor's queue was full.
    #[error("not sent: too many actions in flight")]
    Overloaded,
}

/// A patch body and a reason are often logged; this keeps a log line bounded.
pub fn brief(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 300 {
        let cut = (0..=300).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
