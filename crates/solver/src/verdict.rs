//! Why a pod has no place: for every pool, the first thing that rules it out.

use crate::pack::Packer;
use crate::problem::Problem;
use crate::shape::{Choice, holds, price_of};

/// What took a type off a pool's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub requirements: usize,
    pub resources: usize,
    pub offerings: usize,
    pub limits: usize,
}

/// Why one pool cannot host a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolVerdict {
    /// A taint (by id) is not tolerated.
    Taint(usize),
    /// The pool's own labels conflict for this key.
    Label(usize),
    /// The pool's labels conflict with every place where the pod's volumes can be, for this key.
    Volume(usize),
    /// No domain of this counter is open to the pod.
    Topology(usize),
    /// The pool may add no more nodes.
    Nodes,
    /// Fewer values of this key are left than the pool demands.
    MinValues(usize),
    /// No type is left; what removed how many of how many.
    Types { removed: Removed, of: usize },
}

/// By pool, as its last, least demanding alternative is ruled out. O(pools × types).
pub(crate) fn explain(problem: &Problem, packer: &mut Packer<'_>, class: usize) -> Vec<PoolVerdict> {
    (0..problem.pools.len()).map(|pool| of_pool(problem, packer, class, pool)).collect()
}

fn of_pool(problem: &Problem, packer: &mut Packer<'_>, class: usize, pool_at: usize) -> PoolVerdict {
    let (pool, layout) = (&problem.pools[pool_at], &problem.layout);
    let nothing = PoolVerdict::Types { removed: Removed::default(), of: pool.types.len() };
    let Some(of) = problem.classes[class].alternatives.last() else { return nothing };
    if let Some(taint) = pool.taints.iter().find(|taint| !of.tolerates[**taint]) {
        return PoolVerdict::Taint(*taint);
    }
    if let Some(key) = layout.conflict(&pool.row, &of.row) {
        return PoolVerdict::Label(key);
    }
    let row = pool.row.and(&of.row);
    if !of.homes.is_empty() && of.homes.iter().all(|home| layout.conflict(&row, home).is_some()) {
        return PoolVerdict::Volume(of.homes.iter().find_map(|home| layout.conflict(&row, home)).unwrap_or_default());
    }
    if packer.limits[pool_at].1.is_some_and(|left| left < 1) {
        return PoolVerdict::Nodes;
    }
    let homes = if of.homes.is_empty() { vec![row] } else { of.homes.iter().map(|home| row.and(home)).collect() };
    let requests = &problem.classes[class].requests;
    let mut removed = Removed::default();
    let mut left = Vec::new();
    for (kind, overhead) in pool.types.iter() {
        let choice = Choice { kind: *kind, overhead: *overhead, price: 0 };
        let of_type = &problem.types[*kind];
        if !homes.iter().any(|row| layout.intersects(&of_type.row, row)) {
            removed.requirements += 1;
        } else if !holds(problem, pool, choice, requests) {
            removed.resources += 1;
        } else if !homes.iter().any(|row| price_of(problem, row, *kind).is_some()) {
            removed.offerings += 1;
        } else if !packer.within_limits(pool_at, *kind) {
            removed.limits += 1;
        } else {
            left.push(choice);
        }
    }
    if left.is_empty() {
        return PoolVerdict::Types { removed, of: pool.types.len() };
    }
    let left: Vec<&Choice> = left.iter().collect();
    let short = |(key, wanted): &&(usize, usize)| crate::bin::values(problem, &left, *key) < *wanted;
    if let Some((key, _)) = pool.min_values.iter().find(short) {
        return PoolVerdict::MinValues(*key);
    }
    packer.closed(class, &homes).map_or(nothing, PoolVerdict::Topology)
}
