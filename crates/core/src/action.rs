//! What to do, with every detail fixed: an executor has nothing left to choose.
//!
//! A [`Deed`] is either a write to the API server or a call to the cloud. Its [`ActionKey`] says
//! what it is about; at most one action per key is in flight, and the key carries the back-off.

use std::fmt;
use std::sync::Arc;

use karpenter_api::NodeClaim;
use serde_json::Value;

use crate::Fact;

/// Identifies an action for de-duplication and back-off: one verb on one subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActionKey {
    /// The object acted upon, as `Kind/name` or `Kind/namespace/name`.
    pub subject: String,
    /// What is done to it, e.g. `launch`, `finalize`, `status`.
    pub verb: &'static str,
}

impl ActionKey {
    pub fn new(subject: impl Into<String>, verb: &'static str) -> Self {
        Self { subject: subject.into(), verb }
    }
}

/// The verb of [`KubeWrite::create`].
pub(crate) const CREATE: &str = "create";

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.subject)
    }
}

/// One thing to do. `C` is the cloud's own call type, opaque to this crate.
#[derive(Clone, Debug, PartialEq)]
pub struct Action<C> {
    pub key: ActionKey,
    pub deed: Deed<C>,
    /// Told once it has succeeded: a write that is refused changed nothing.
    pub facts: Vec<Fact>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deed<C> {
    Kube(KubeWrite),
    Cloud(C),
}

/// The kinds this controller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteKind {
    Pod,
    Node,
    NodePool,
    NodeClaim,
    Ec2NodeClass,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub kind: WriteKind,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: String,
    /// The identity meant; a write to a later object of the same name must be refused.
    pub uid: Option<String>,
}

impl ObjectRef {
    pub fn cluster(kind: WriteKind, name: impl Into<String>, uid: Option<String>) -> Self {
        Self { kind, namespace: None, name: name.into(), uid }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{:?}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{:?}/{}", self.kind, self.name),
        }
    }
}

/// Which part of an object a patch addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// metadata and spec
    Main,
    /// the status subresource
    Status,
}

/// A write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum KubeWrite {
    /// Create this claim, which is complete.
    Create { object: ObjectRef, claim: Arc<NodeClaim> },
    /// A JSON merge patch (RFC 7386). If `metadata.resourceVersion` is in it, the server refuses
    /// a stale write with 409; lists are replaced whole, so such patches always carry it.
    Patch { object: ObjectRef, part: Part, patch: Value },
    /// Delete, with the UID as precondition when the reference has one.
    Delete { object: ObjectRef, grace_period_seconds: Option<u32> },
    /// `POST pods/eviction` (policy/v1), with the UID as precondition.
    Evict { object: ObjectRef },
}

impl KubeWrite {
    /// The creation of a claim, and its key.
    pub(crate) fn create(claim: &Arc<NodeClaim>) -> (ActionKey, Self) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let key = ActionKey::new(format!("NodeClaim/{name}"), CREATE);
        let object = ObjectRef::cluster(WriteKind::NodeClaim, name, None);
        (key, Self::Create { object, claim: Arc::clone(claim) })
    }
}
