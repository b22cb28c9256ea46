//! Pending pods → a problem for the solver → claims to create, and a verdict for every pod.

use std::collections::BTreeMap;

use crate::world::PodKey;
use crate::{Cloud, Decision, Settings, Timestamp, World};

/// What a round of provisioning assumed, fed back to the World by the driver.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Round {
    pub at: Timestamp,
    /// Pods assumed on claims that are being created, by claim name.
    pub claims: BTreeMap<String, Vec<PodKey>>,
    /// Pods expected to land on existing nodes or earlier claims, by node or claim name.
    pub nominated: BTreeMap<PodKey, String>,
    pub unschedulable: BTreeMap<PodKey, Verdict>,
}

/// Why a pod has no place. A value, not a text: rendered at the edge.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Verdict {
    pub message: String,
}

pub fn decide<C: Cloud>(world: &World, cloud: &C, settings: &Settings, now: Timestamp) -> Decision<C::Call> {
    let _ = (world, cloud, settings, now);
    Decision::default()
}
