//! Why a pod has no place: for every pool, the first thing that rules it out.
//!
//! What a pool says about types is the same for all pools that share types, overheads, limits and the labels that types
//! or rules look at: such pools are a *group*, and each group is asked once per class. Of the types that labels and
//! offerings leave, a group is asked once for all classes with the same needs. Cost per class: O(pools) row tests, and
//! O(types) for each of at most [`GROUPS_MAX`] groups.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pack::Packer;
use crate::problem::{Alternative, Class, Pool, Problem};
use crate::row::Row;
use crate::shape::{Choice, price_of, room};

/// Groups of pools whose types are counted for one class; the others are [`PoolVerdict::NotCounted`].
const GROUPS_MAX: usize = 32;
/// Lists of types kept; beyond that they are made anew.
const LISTS_MAX: usize = 1024;

/// Something that takes types off a pool's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// What is asked of this key.
    Label(usize),
    /// No offering is available where it is asked for.
    Offering,
    /// Too little of this resource beside the daemons.
    Resource(usize),
    /// What the pool may still add of this resource.
    Limit(usize),
}

/// Why one pool cannot host a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// No type is left; what removed how many of how many, most first.
    Types { removed: Vec<(Constraint, usize)>, of: usize },
    /// Nothing in the pool rules the pod out by itself.
    Open,
    /// Too many pools differ: its types were not counted.
    NotCounted,
}

/// Verdicts of one class, each with the pools it is true of, ascending; in the order of their first pools.
pub type Verdicts = Vec<(PoolVerdict, Vec<usize>)>;

/// What labels and offerings leave of a group's types.
#[derive(Default)]
struct List {
    removed: FxHashMap<Constraint, usize>,
    left: Vec<Choice>,
}

/// Explains class after class, as the least demanding alternative of each is ruled out.
pub(crate) struct Explainer<'a, 'p> {
    problem: &'p Problem,
    packer: &'a Packer<'p>,
    /// Group of each pool.
    groups: Vec<usize>,
    lists: FxHashMap<(usize, Row, Vec<usize>), Rc<List>>,
}

/// What pools of a group have in common.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    types: *const (usize, usize),
    overheads: *const Vec<i64>,
    row: Row,
    limits: &'a (Vec<Option<i64>>, Option<i64>),
    min_values: &'a [(usize, usize)],
}

impl<'a, 'p> Explainer<'a, 'p> {
    pub(crate) fn new(problem: &'p Problem, packer: &'a Packer<'p>) -> Self {
        let mut keys = problem.keys_of_types();
        keys.extend(problem.counters.iter().filter_map(|counter| counter.key));
        let mut known: FxHashMap<Alike<'_>, usize> = FxHashMap::default();
        let mut groups = Vec::with_capacity(problem.pools.len());
        for (pool, limits) in problem.pools.iter().zip(&packer.limits) {
            let alike = Alike {
                types: Arc::as_ptr(&pool.types).cast(),
                overheads: Arc::as_ptr(&pool.overheads).cast(),
                row: problem.layout.only(&pool.row, &keys),
                limits,
                min_values: &pool.min_values,
            };
            let next = known.len();
            groups.push(*known.entry(alike).or_insert(next));
        }
        Self { problem, packer, groups, lists: FxHashMap::default() }
    }

    pub(crate) fn explain(&mut self, class: usize) -> Verdicts {
        let mut all: Verdicts = Vec::new();
        let mut known: FxHashMap<PoolVerdict, usize> = FxHashMap::default();
        let mut number = |verdict: PoolVerdict, all: &mut Verdicts| {
            *known.entry(verdict).or_insert_with_key(|verdict| {
                all.push((verdict.clone(), Vec::new()));
                all.len() - 1
            })
        };
        // Number of the verdict, by group and open homes.
        let mut counted: FxHashMap<(usize, Vec<usize>), usize> = FxHashMap::default();
        for pool in 0..self.problem.pools.len() {
            let at = match self.of_pool(class, pool) {
                Err(verdict) => number(verdict, &mut all),
                Ok(homes) => {
                    let key = (self.groups[pool], homes);
                    match counted.get(&key) {
                        Some(at) => *at,
                        None if counted.len() >= GROUPS_MAX => number(PoolVerdict::NotCounted, &mut all),
                        None => {
                            let at = number(self.of_group(class, pool, &key), &mut all);
                            counted.insert(key, at);
                            at
                        }
                    }
                }
            };
            all[at].1.push(pool);
        }
        all
    }

    /// What rules a pool out whatever it sells; or which homes of the class's volumes are open there.
    fn of_pool(&self, class: usize, pool_at: usize) -> Result<Vec<usize>, PoolVerdict> {
        let (pool, layout) = (&self.problem.pools[pool_at], &self.problem.layout);
        let of = least(&self.problem.classes[class]).ok_or(PoolVerdict::Open)?;
        if let Some(taint) = pool.taints.iter().find(|taint| !of.tolerates[**taint]) {
            return Err(PoolVerdict::Taint(*taint));
        }
        if let Some(key) = layout.conflict(&pool.row, &of.row) {
            return Err(PoolVerdict::Label(key));
        }
        let mut homes = Vec::new();
        if !of.homes.is_empty() {
            let row = pool.row.and(&of.row);
            homes.extend((0..of.homes.len()).filter(|home| layout.intersects(&row, &of.homes[*home])));
            if homes.is_empty() {
                let key = layout.conflict(&row, &of.homes[0]).unwrap_or_default();
                return Err(PoolVerdict::Volume(key));
            }
        }
        if self.packer.limits[pool_at].1.is_some_and(|left| left < 1) {
            return Err(PoolVerdict::Nodes);
        }
        Ok(homes)
    }

    /// By what the pool sells, and what the rules leave.
    fn of_group(&mut self, class_at: usize, pool_at: usize, (group, open): &(usize, Vec<usize>)) -> PoolVerdict {
        let problem = self.problem;
        let (pool, class) = (&problem.pools[pool_at], &problem.classes[class_at]);
        let Some(of) = least(class) else { return PoolVerdict::Open };
        let row = pool.row.and(&of.row);
        let homes: Vec<Row> =
            if of.homes.is_empty() { vec![row] } else { open.iter().map(|home| row.and(&of.homes[*home])).collect() };
        // Homes are a class's own.
        let own = (!of.homes.is_empty()).then_some(class_at);
        let key = (*group, of.row.clone(), own.into_iter().chain(open.iter().copied()).collect());
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        let list = Rc::clone(self.lists.entry(key).or_insert_with(|| Rc::new(list(problem, pool, &homes))));
        let mut removed = list.removed.clone();
        let mut left = Vec::new();
        for choice in &list.left {
            match self.removes(pool_at, *choice, &class.requests) {
                Some(constraint) => *removed.entry(constraint).or_default() += 1,
                None => left.push(choice),
            }
        }
        if left.is_empty() {
            let mut removed: Vec<(Constraint, usize)> = removed.into_iter().collect();
            removed.sort_unstable_by_key(|(constraint, count)| (std::cmp::Reverse(*count), *constraint));
            return PoolVerdict::Types { removed, of: pool.types.len() };
        }
        let short = |(key, wanted): &&(usize, usize)| crate::bin::values(problem, &left, *key) < *wanted;
        if let Some((key, _)) = pool.min_values.iter().find(short).filter(|_| !problem.relax_min_values) {
            return PoolVerdict::MinValues(*key);
        }
        self.packer.closed(class_at, &homes).map_or(PoolVerdict::Open, PoolVerdict::Topology)
    }

    fn removes(&self, pool_at: usize, choice: Choice, requests: &[i64]) -> Option<Constraint> {
        let pool = &self.problem.pools[pool_at];
        let mut short = room(self.problem, pool, choice).zip(requests);
        if let Some(resource) = short.position(|(room, wanted)| *wanted > room) {
            return Some(Constraint::Resource(resource));
        }
        let capacity = &self.problem.types[choice.kind].capacity;
        let mut limits = self.packer.limits[pool_at].0.iter().zip(capacity);
        limits.position(|(limit, amount)| limit.is_some_and(|limit| *amount > limit)).map(Constraint::Limit)
    }
}

/// The reading of a class with no preference left.
fn least(class: &Class) -> Option<&Alternative> {
    class.alternatives.last()
}

fn list(problem: &Problem, pool: &Pool, homes: &[Row]) -> List {
    let mut list = List::default();
    for (kind, overhead) in pool.types.iter() {
        let conflicts: Vec<usize> =
            homes.iter().filter_map(|row| problem.layout.conflict(&problem.types[*kind].row, row)).collect();
        let constraint = match conflicts.first() {
            Some(key) if conflicts.len() == homes.len() => Constraint::Label(*key),
            _ if homes.iter().all(|row| price_of(problem, row, *kind).is_none()) => Constraint::Offering,
            _ => {
                list.left.push(Choice { kind: *kind, overhead: *overhead, price: 0 });
                continue;
            }
        };
        *list.removed.entry(constraint).or_default() += 1;
    }
    list
}
