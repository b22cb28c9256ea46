//! Pending pods → a problem for the solver → claims to create, and a verdict for every pod.
//!
//! ```text
//! World, Cloud ─▶ problem (intern) ─▶ solver::solve ─▶ plan (claims as JSON, assumptions, facts)
//! ```
//!
//! Pods go to nodes there are, then to claims on their way, then to new claims. A claim is on its way from the moment it is
//! planned, before anybody has created or launched it: see `problem/nodes.rs` for what is certain of it by then.

mod explain;
mod launches;
mod plan;
mod pods;
mod problem;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use karpenter_api::NodeClaim;

use crate::cloud::CatalogueProblem;
use crate::world::PodKey;
use crate::{Cloud, Decision, Observation, Settings, Timestamp, World};

pub use verdict::{Branch, Constraint, Reason, Tree, Verdict};

/// What a round of provisioning assumed, fed back to the World by the driver.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Round {
    pub at: Timestamp,
    /// The claims that are being created.
    pub created: Vec<Arc<NodeClaim>>,
    /// Pods assumed on them, by claim name.
    pub claims: BTreeMap<String, Vec<PodKey>>,
    /// Pods expected to land on existing nodes or earlier claims, by node or claim name.
    pub nominated: BTreeMap<PodKey, String>,
    pub unschedulable: BTreeMap<PodKey, Verdict>,
    /// The cloud's version, if the round was solved: nothing had changed since the one before, or nobody waited.
    pub version: Option<u64>,
}

/// Solves a round when the batch window closes; otherwise says when to look again.
pub fn decide<C: Cloud>(world: &World, cloud: &C, settings: &Settings, now: Timestamp) -> Decision<C::Call> {
    let mut decision = Decision::default();
    match world.batch.due_at(settings) {
        None => return decision,
        Some(due) if due > now => {
            decision.wake(due);
            return decision;
        }
        Some(_) => {}
    }
    // Before any catalogue is there nothing can be said about any pod; its arrival is an observation.
    let mut catalogues = world.pools.values().map(|pool| cloud.catalogue(pool)).peekable();
    if catalogues.peek().is_some() && catalogues.all(|found| matches!(found, Err(CatalogueProblem::NotYetObserved))) {
        return decision;
    }
    let pending = pods::pending(world, now);
    let were_told = || pending.iter().all(|pod| world.unschedulable.contains_key(&pod.key));
    if pending.is_empty() || (world.batch.is_unchanged(cloud.version(), now) && were_told()) {
        decision.learned.push(Observation::Planned(Box::new(Round { at: now, ..Round::default() })));
        return decision;
    }
    let interned = problem::build(world, cloud, settings, &pending);
    let solution = karpenter_solver::solve(&interned.problem);
    debug_assert_eq!(solution.check(&interned.problem), Ok(()));
    plan::act(world, cloud, &interned, &solution, now, &mut decision);
    decision
}

/// FNV-1a, 64 bit: names that repeat when the same is decided again.
fn hash(seed: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    seed.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
