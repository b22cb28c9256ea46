//! What must never happen, and what must have happened in the end: judged from the truth, never from what the machine
//! believes.

mod actions;
mod ends;
mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::agenda::Ms;
use crate::log::told;
use crate::sim::Sim;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    OneInstancePerClaim,
    OrphansEnd,
    LimitsKept,
    BudgetsKept,
    PodBudgetsKept,
    DoNotDisruptKept,
    EvictedNotKilled,
    LivingNodesLeftAlone,
    DrainedFirst,
    FinalizerHeld,
    ForeignWritesKept,
    PodsRun,
    ClaimsSettle,
    FinalizersGo,
    ComesToRest,
    WorldIsTrue,
    NothingOverlooked,
}

impl Invariant {
    pub fn meaning(self) -> &'static str {
        match self {
            Self::OneInstancePerClaim => "never two instances for one NodeClaim",
            Self::OrphansEnd => "no instance without a NodeClaim for longer than garbage collection takes",
            Self::LimitsKept => "the limits of a NodePool are never exceeded",
            Self::BudgetsKept => "disruption budgets are never exceeded",
            Self::PodBudgetsKept => "PodDisruptionBudgets are never exceeded",
            Self::DoNotDisruptKept => "a do-not-disrupt pod is not asked to leave before its node's deadline",
            Self::EvictedNotKilled => "a pod is evicted, not deleted, before its node's deadline",
            Self::LivingNodesLeftAlone => "pods leave only nodes that are being deleted",
            Self::DrainedFirst => "an instance ends only when its pods are gone",
            Self::FinalizerHeld => "a NodeClaim is gone only after its instance",
            Self::ForeignWritesKept => "what others write is not undone",
            Self::PodsRun => "every pod that can run runs in the end",
            Self::ClaimsSettle => "every NodeClaim is initialised, or gone, in the end",
            Self::FinalizersGo => "every finalizer is removed in the end",
            Self::ComesToRest => "nothing is done when nothing changes",
            Self::NothingOverlooked => "what was found quiet has nothing to be done for it",
            Self::WorldIsTrue => "the model is what the API server holds, when nothing changes",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    pub invariant: Invariant,
    pub at: Ms,
    pub what: String,
    /// Names of the objects concerned.
    pub subjects: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}: {}", self.invariant, self.invariant.meaning(), crate::log::clock(self.at), self.what)
    }
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub turns: u64,
    pub crashes: u64,
    pub writes: u64,
    pub calls: u64,
    pub launches: u64,
    pub evictions: u64,
    pub nodes_max: usize,
    pub pods_max: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) broken: Option<Broken>,
    pub(crate) figures: Figures,
    /// The last thing that was done, and when.
    last_deed: (Ms, String),
    /// Nodes with a taint of somebody else.
    pub(crate) marked: BTreeSet<String>,
    /// When a pod was bound.
    pub(crate) bound: BTreeMap<String, Ms>,
    owners: owners::Owners,
}

impl Sim {
    pub(crate) fn broke(&mut self, invariant: Invariant, what: String, subjects: Vec<String>) {
        told!(self, "BROKEN {invariant}: {what}");
        if self.checks.broken.is_none() {
            self.checks.broken = Some(Broken { invariant, at: self.now, what, subjects });
        }
    }
}
