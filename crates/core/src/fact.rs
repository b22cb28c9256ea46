//! What happened or was decided, for people: each fact becomes a log line, metrics and perhaps an
//! event in the shell's `telemetry`, never a branch here.

use crate::Timestamp;
use crate::cloud::Price;
use crate::provision::Verdict;

/// A Kubernetes object a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Where a claim or node belongs: what metrics are labelled with. Empty is what is not known (yet).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    pub pool: String,
    pub capacity_type: String,
    pub zone: String,
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// A round of provisioning was solved.
    RoundSolved {
        pods: usize,
        claims: usize,
        unschedulable: usize,
        instance_types: usize,
    },
    /// A pod was given a place on a node or claim (event `Nominated`).
    PodNominated {
        pod: About,
        node: Option<String>,
        claim: Option<String>,
    },
    /// No NodePool can host the pod (event `FailedScheduling`).
    PodUnschedulable {
        pod: About,
        verdict: Verdict,
    },
    /// Requirements leave no instance type (event `NoCompatibleInstanceTypes`).
    PoolWithoutInstanceTypes {
        pool: About,
        message: String,
    },
    /// A NodeClaim is to be created.
    ClaimPlanned {
        claim: String,
        pool: String,
        pods: usize,
        cheapest: Option<Price>,
        instance_types: usize,
    },
    ClaimLaunched {
        claim: About,
        pool: String,
        instance_type: String,
        zone: String,
        capacity_type: String,
        provider_id: String,
    },
    /// event `InsufficientCapacityError`
    ClaimOutOfCapacity {
        claim: About,
        pool: String,
        message: String,
    },
    ClaimLaunchFailed {
        claim: About,
        pool: String,
        reason: String,
        message: String,
    },
    ClaimRegistered {
        claim: About,
        home: Home,
        node: String,
    },
    ClaimInitialized {
        claim: About,
        pool: String,
        node: String,
    },
    /// The claim is deleted by us, e.g. `launch_timeout`, `registration_timeout`, `insufficient_capacity`.
    ClaimDisrupted {
        claim: About,
        home: Home,
        reason: &'static str,
    },
    /// The cloud says that something is wrong with its instance.
    ClaimImpaired {
        claim: About,
        home: Home,
        category: &'static str,
        message: String,
    },
    /// Its node was broken for too long.
    ClaimUnhealthy {
        claim: About,
        home: Home,
        condition: &'static str,
        image: String,
    },
    ClaimTerminated {
        claim: About,
        home: Home,
    },
    /// event `UnregisteredTaintMissing`
    UnregisteredTaintMissing {
        claim: About,
        node: String,
    },
    /// event `Evicted`
    PodEvicted {
        pod: About,
        node: String,
        reason: String,
    },
    /// It would not have ended before its node's deadline, and was deleted (event `Disrupted`).
    PodExpelled {
        pod: About,
        node: String,
        reason: String,
        deadline: Timestamp,
    },
    /// The API server answered an eviction.
    EvictionAnswered {
        code: &'static str,
    },
    /// event `FailedDraining`
    DrainBlocked {
        node: About,
        message: String,
    },
    /// The node is gone; drained, unless its instance died under it.
    NodeTerminated {
        node: About,
        home: Home,
        drained: bool,
    },
    /// An instance nobody owns was found and is terminated.
    OrphanInstance {
        provider_id: String,
    },
    /// A condition of an object turned from one status to another (event reason = condition type).
    ConditionChanged {
        object: About,
        condition: String,
        before: String,
        status: String,
        reason: String,
        message: String,
    },
    /// An action failed and will be retried.
    ActionFailed {
        action: String,
        failure: String,
        failures: u32,
    },
    /// How much user data the nodes of a class get, decoded.
    UserData {
        class: String,
        bytes: usize,
        most: usize,
    },
    /// An event without a fact of its own: AWS knowledge reports through this.
    Event {
        object: About,
        warning: bool,
        reason: &'static str,
        message: String,
    },
}
