//! What a cloud must tell: everything a decision needs from it, already observed. No await here.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::SignedDuration;
use karpenter_api::{NodeClaim, NodeClassRef, NodePool, labels};

use crate::resources::Resources;
use crate::{Requirements, Timestamp};

/// Price of one hour in micro-dollars (10⁻⁶ USD): exact to add and to compare.
pub type Price = u64;

/// Capacity types, the values of `karpenter.sh/capacity-type`, in order of preference at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityType {
    Reserved,
    Spot,
    OnDemand,
}

impl CapacityType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reserved, Self::Spot, Self::OnDemand].into_iter().find(|c| c.as_str() == text)
    }
}

/// One way to buy an instance type: a capacity type in a zone at a price.
#[derive(Clone, Debug, PartialEq)]
pub struct Offering {
    pub capacity_type: CapacityType,
    pub zone: String,
    /// e.g. `usw2-az1`; empty when the cloud did not say.
    pub zone_id: String,
    pub price: Price,
    /// False while the zone has no subnet, the price is unknown, or capacity was refused lately.
    pub available: bool,
    /// Reserved capacity.
    pub reservation: Option<Reservation>,
    /// Further labels of this offering; a node of another one of its type lacks those that only this one has.
    pub labels: BTreeMap<String, String>,
}

/// Capacity that is paid for already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: String,
    /// Nodes it has left, as last observed.
    pub left: u32,
}

/// A row of the catalogue, as seen through one NodeClass (kubelet settings change allocatable).
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceType {
    pub name: String,
    /// Every label value a node of this type can have; keys it lacks are `DoesNotExist`.
    /// Zone, zone id and capacity type are the union over `offerings`. Shared by rows that differ in prices alone.
    pub requirements: Arc<Requirements>,
    pub capacity: Resources,
    /// capacity − kube-reserved − system-reserved − eviction thresholds, never negative.
    pub allocatable: Resources,
    pub offerings: Vec<Offering>,
}

/// The NodeClasses that a cloud knows; claims of other kinds are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeClassKind {
    pub group: &'static str,
    pub kind: &'static str,
    /// The label that names the class on claims and nodes.
    pub label: &'static str,
}

impl NodeClassKind {
    pub fn is_of(self, class: &NodeClassRef) -> bool {
        class.group == self.group && class.kind == self.kind
    }
}

/// A condition of a node that is not to be borne for longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairPolicy {
    pub condition: &'static str,
    pub status: &'static str,
    pub toleration: SignedDuration,
}

/// Readiness of a NodeClass, as its status says (never as we wish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeClassState {
    NotFound,
    Terminating,
    /// Ready is False: reason and message of the condition.
    NotReady {
        reason: String,
        message: String,
    },
    /// Ready is Unknown or absent.
    Unknown,
    Ready {
        generation: i64,
    },
}

/// Why there is no catalogue for a NodePool now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueProblem {
    #[error("EC2NodeClass {0:?} is not ready: {1}")]
    NodeClassNotReady(String, String),
    #[error("instance types are not known yet")]
    NotYetObserved,
}

/// Why a launch cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchProblem {
    /// The observations a plan needs are not there yet: look again, do not fail the claim.
    #[error("{0}")]
    NotYet(String),
    /// No available offering is left for the claim: delete it, the pods are planned anew.
    #[error("{0}")]
    InsufficientCapacity(String),
    /// The NodeClass is not ready: delete the claim.
    #[error("{0}")]
    NodeClassNotReady(String),
    /// Anything else; goes into the claim's Launched condition.
    #[error("{reason}: {message}")]
    Other { reason: &'static str, message: String },
}

/// What became of a launch. "Unknown" is a state of its own: neither success nor failure.
#[derive(Clone, Debug, PartialEq)]
pub enum LaunchOutcome {
    Launched(Box<Launched>),
    /// The look-up found no instance of this claim: launching is safe.
    NotFound,
    /// Every offering refused for lack of capacity.
    InsufficientCapacity(String),
    NodeClassNotReady(String),
    /// Refused for another reason; retried with back-off.
    Failed {
        reason: String,
        message: String,
        /// The client token was used up: it would only bring the same answer again. A request that was refused as a
        /// whole leaves its token as it was, and what an earlier one of the same token bought is still to be had by it.
        token_spent: bool,
    },
    /// Time-out or connection loss: the instance may exist. Look up before launching again.
    Unknown(String),
    /// The client token belongs to an earlier launch with other details. If look-ups do not find what that one bought
    /// for as long as the cloud may take to show it, it bought nothing, and the next launch needs a token of its own.
    TokenSpent(String),
}

/// Everything a claim learns from its launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// `aws:///<zone>/<instance-id>`
    pub provider_id: String,
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub capacity: Resources,
    pub allocatable: Resources,
    pub price: Option<Price>,
}

/// An instance of this cluster as the cloud lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub provider_id: String,
    /// Name of the NodeClaim it was launched for, from its tags.
    pub claim: Option<String>,
    /// The launch that bought it, from its tags.
    pub launch: Option<String>,
    pub pool: Option<String>,
    pub launched_at: Option<Timestamp>,
    pub state: InstanceState,
}

/// What the cloud says is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impairment {
    /// As metrics name it.
    pub category: &'static str,
    /// Nothing on it can be waited for; otherwise its pods leave in their own time.
    pub is_broken: bool,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    Pending,
    Running,
    /// It keeps its disks and may be started again.
    Stopped,
    /// It is shutting down.
    Ending,
    Terminated,
}

impl InstanceState {
    /// Neither ended nor about to.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Stopped)
    }
}

/// Claims that are alike and bought together. Their token is on each of them before the cloud is asked, so that a
/// repetition, even by a later process, buys nothing twice.
#[derive(Clone, Debug)]
pub struct LaunchBatch<'a> {
    pub token: &'a str,
    /// Launches under this token that are known to have ended without the instances of `claims`.
    pub attempt: u32,
    /// How many instances to ask for: every claim of the token the first time, as a repetition must ask for the same;
    /// those without one afterwards.
    pub target: usize,
    /// In the order in which instances are given out; never empty.
    pub claims: Vec<&'a NodeClaim>,
    /// Provider ids of the token's other claims.
    pub taken: Vec<String>,
}

/// Whether an instance still is what its node class asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Not enough is known of the instance or of the class.
    Unknown,
    None,
    /// The reason, in one word.
    Drifted(&'static str),
}

/// The cloud's model as decisions see it.
pub trait Cloud {
    /// A request with every detail fixed; only the wire crate looks inside.
    type Call: Clone + Debug + PartialEq;

    /// Another number whenever what is told of a catalogue, a node class or a claim's drift may be another.
    fn version(&self) -> u64;

    fn node_class(&self, name: &str) -> NodeClassState;

    fn node_class_kind(&self) -> NodeClassKind {
        NodeClassKind { group: "karpenter.k8s.aws", kind: "EC2NodeClass", label: labels::EC2_NODE_CLASS }
    }

    /// What can be bought for this NodePool, cheapest or not, available or not; by name, ascending. Cheap to call:
    /// the rows are shared.
    fn catalogue(&self, pool: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem>;

    /// One launch for all claims of a batch: image, user data, template, overrides, tags, client token. `planned` are
    /// the launches of the same decision.
    fn launch(
        &self,
        batch: &LaunchBatch<'_>,
        planned: &[Self::Call],
        now: Timestamp,
    ) -> Result<Self::Call, LaunchProblem>;

    /// What the first launch of claims takes time to have, if it is not there yet: it is got while they are created.
    fn prepare(&self, _batch: &LaunchBatch<'_>, _now: Timestamp) -> Option<Self::Call> {
        None
    }

    /// Look for the instances of a batch by its tag, before a first launch after a restart and after an
    /// uncertain one. `None` while a claim could not be told what its instance has to offer: look again.
    fn find(&self, batch: &LaunchBatch<'_>) -> Option<Self::Call>;

    /// Capacity that was refused again and again is tried again by one claim at a time: the name of what this claim
    /// would try, if it could be launched on nothing else.
    fn on_trial(&self, _claim: &NodeClaim) -> Option<String> {
        None
    }

    fn terminate(&self, provider_id: &str) -> Self::Call;

    fn drift(&self, _claim: &NodeClaim) -> Drift {
        Drift::None
    }

    /// Names of what the cloud still has to find out before the node of a claim may take pods.
    fn registration_hooks(&self, _claim: &NodeClaim) -> Vec<&'static str> {
        Vec::new()
    }

    /// Which conditions say that a node is broken.
    fn repair_policies(&self) -> &[RepairPolicy] {
        &[]
    }
}
