//! How large a world, for how long, and how bad.

use crate::faults::Faults;
use crate::saboteur::Mutation;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// Of trouble; then everything is repaired, and in the end taken down.
    pub hours: i64,
    /// About so many nodes when all workloads are at their size.
    pub nodes: i64,
    pub pods: i64,
    /// Drawn from the seed if absent.
    pub faults: Option<Faults>,
    /// A deliberate bug, to see whether it is found.
    pub mutation: Option<Mutation>,
}

impl Options {
    /// A small world for tests.
    pub fn small(seed: u64) -> Self {
        Self { seed, hours: 2, nodes: 10, pods: 60, faults: None, mutation: None }
    }
}
