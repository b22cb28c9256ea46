//! First fit, largest pod first: existing nodes, then claims opened in this run (the one with the
//! fewest pods first), then a new claim from the first pool that can.
//!
//! An open claim keeps every type that can still hold its pods; each pod narrows the list, so the
//! cheapest type that fits all of them is chosen at the end, not guessed at the start.
//! Complexity: pods × (nodes + claims × types of a claim), each test O(words + resources).

use crate::problem::{Alternative, Class, Pool, Problem};
use crate::row::Row;
use crate::spread::Spread;

/// Where a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Node(usize),
    Claim(usize),
    /// Nowhere; the verdict of its class says why.
    Nowhere,
}

/// A node to buy.
#[derive(Clone, Debug)]
pub struct Claim {
    pub pool: usize,
    /// What its labels may still be.
    pub row: Row,
    /// Types that hold all its pods, cheapest first.
    pub types: Vec<usize>,
    /// Sum of its pods' requests, daemons not included.
    pub requests: Vec<i64>,
    pub pods: Vec<usize>,
    /// Price of its cheapest offering.
    pub price: u64,
    /// Matching pods by spread, for hostname.
    held: Vec<(usize, u32)>,
}

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
    /// No domain of this spread is open.
    Spread(usize),
    /// The pool may add no more nodes.
    Nodes,
    /// Fewer values of this key are left than the pool demands.
    MinValues(usize),
    /// No type is left; what removed how many of how many.
    Types { removed: Removed, of: usize },
}

/// A place for every pod.
#[derive(Clone, Debug, Default)]
pub struct Solution {
    pub places: Vec<Place>,
    pub claims: Vec<Claim>,
    /// For every class that has a pod with no place: a verdict by pool.
    pub verdicts: Vec<(usize, Vec<PoolVerdict>)>,
}

pub fn solve(problem: &Problem) -> Solution {
    let mut packer = Packer {
        problem,
        spreads: problem.spreads.clone(),
        available: problem.nodes.iter().map(|node| node.available.clone()).collect(),
        limits: problem.pools.iter().map(|pool| (pool.limits.clone(), pool.nodes_left)).collect(),
        claims: Vec::new(),
        hopeless: vec![None; problem.classes.len()],
    };
    let places = problem.pods.iter().enumerate().map(|(pod, class)| packer.place(pod, *class)).collect();
    let Packer { mut claims, hopeless, .. } = packer;
    for claim in &mut claims {
        claim.types.sort_by_key(|at| (cheapest(problem, &claim.row, *at), *at));
        claim.price = claim.types.first().map_or(u64::MAX, |at| cheapest(problem, &claim.row, *at));
    }
    let verdicts = hopeless.into_iter().enumerate().filter_map(|(class, said)| Some((class, said?))).collect();
    Solution { places, claims, verdicts }
}

/// The cheapest offering of a type that a row allows.
pub(crate) fn cheapest(problem: &Problem, row: &Row, at: usize) -> u64 {
    let allowed = |labels: &[(usize, usize)]| labels.iter().all(|(key, bit)| problem.layout.has(row, *key, *bit));
    problem.types[at].offerings.iter().filter(|o| allowed(&o.labels)).map(|o| o.price).min().unwrap_or(u64::MAX)
}

struct Packer<'p> {
    problem: &'p Problem,
    spreads: Vec<Spread>,
    available: Vec<Vec<i64>>,
    limits: Vec<(Vec<Option<i64>>, Option<i64>)>,
    claims: Vec<Claim>,
    /// Classes that found no place, and why.
    hopeless: Vec<Option<Vec<PoolVerdict>>>,
}

impl Packer<'_> {
    fn place(&mut self, pod: usize, class_at: usize) -> Place {
        let problem = self.problem;
        let class = &problem.classes[class_at];
        for alternative in &class.alternatives {
            let place = self.on_node(class, alternative).or_else(|| self.on_claim(pod, class, alternative));
            if let Some(place) = place {
                return place;
            }
            if let Some(place) = self.on_new_claim(pod, class, alternative).ok().flatten() {
                return place;
            }
        }
        if self.hopeless[class_at].is_none()
            && let Some(last) = class.alternatives.last()
        {
            self.hopeless[class_at] = self.on_new_claim(pod, class, last).err();
        }
        Place::Nowhere
    }

    fn on_node(&mut self, class: &Class, alternative: &Alternative) -> Option<Place> {
        let problem = self.problem;
        for (at, node) in problem.nodes.iter().enumerate() {
            if !fits(&class.requests, &self.available[at])
                || !node.taints.iter().all(|taint| class.tolerates[*taint])
                || !problem.layout.intersects(&node.row, &alternative.row)
            {
                continue;
            }
            let spread_ok = alternative.spreads.iter().all(|spread| {
                let spread = &self.spreads[*spread];
                match spread.key {
                    None => spread.allows_host(spread.on_nodes.get(at).copied().unwrap_or(0)),
                    Some(key) => !spread.allowed(&problem.layout, key, &alternative.row, &node.row).is_empty(),
                }
            });
            if !spread_ok {
                continue;
            }
            subtract(&mut self.available[at], &class.requests);
            for spread in &class.counted_by {
                let spread = &mut self.spreads[*spread];
                match spread.key {
                    None => {
                        if let Some(held) = spread.on_nodes.get_mut(at) {
                            *held += 1;
                        }
                    }
                    Some(key) => {
                        if let Some(bit) = problem.layout.single(&node.row, key) {
                            spread.add(bit);
                        }
                    }
                }
            }
            return Some(Place::Node(at));
        }
        None
    }

    fn on_claim(&mut self, pod: usize, class: &Class, alternative: &Alternative) -> Option<Place> {
        let mut order: Vec<usize> = (0..self.claims.len()).collect();
        order.sort_by_key(|at| (self.claims[*at].pods.len(), *at));
        for at in order {
            let claim = &self.claims[at];
            let pool = &self.problem.pools[claim.pool];
            if !pool.taints.iter().all(|taint| class.tolerates[*taint])
                || !self.problem.layout.intersects(&claim.row, &alternative.row)
            {
                continue;
            }
            let mut requests = claim.requests.clone();
            add(&mut requests, &class.requests);
            let held = |spread: usize| claim.held.iter().find(|(of, _)| *of == spread).map_or(0, |(_, count)| *count);
            let row = claim.row.and(&alternative.row);
            let types = claim.types.clone();
            if let Ok((row, types)) = self.narrow(pool, row, &types, &requests, alternative, &held) {
                let claim = &mut self.claims[at];
                claim.row = row;
                claim.types = types;
                claim.requests = requests;
                claim.pods.push(pod);
                self.count(at, class);
                return Some(Place::Claim(at));
            }
        }
        None
    }

    /// `Err`: a verdict for every pool.
    fn on_new_claim(
        &mut self,
        pod: usize,
        class: &Class,
        alternative: &Alternative,
    ) -> Result<Option<Place>, Vec<PoolVerdict>> {
        let mut verdicts = Vec::with_capacity(self.problem.pools.len());
        for (pool_at, pool) in self.problem.pools.iter().enumerate() {
            match self.open(pool_at, pool, class, alternative) {
                Ok((row, types)) => {
                    self.charge(pool_at, &types);
                    let claim = Claim {
                        pool: pool_at,
                        row,
                        types,
                        requests: class.requests.clone(),
                        pods: vec![pod],
                        price: u64::MAX,
                        held: Vec::new(),
                    };
                    self.claims.push(claim);
                    let at = self.claims.len() - 1;
                    self.count(at, class);
                    return Ok(Some(Place::Claim(at)));
                }
                Err(verdict) => verdicts.push(verdict),
            }
        }
        Err(verdicts)
    }

    fn open(
        &self,
        pool_at: usize,
        pool: &Pool,
        class: &Class,
        alternative: &Alternative,
    ) -> Result<(Row, Vec<usize>), PoolVerdict> {
        if let Some(taint) = pool.taints.iter().find(|taint| !class.tolerates[**taint]) {
            return Err(PoolVerdict::Taint(*taint));
        }
        if let Some(key) = self.problem.layout.conflict(&pool.row, &alternative.row) {
            return Err(PoolVerdict::Label(key));
        }
        let (limits, nodes_left) = &self.limits[pool_at];
        if nodes_left.is_some_and(|left| left < 1) {
            return Err(PoolVerdict::Nodes);
        }
        let within = |at: &usize| {
            let capacity = &self.problem.types[*at].capacity;
            limits.iter().zip(capacity).all(|(limit, amount)| limit.is_none_or(|limit| *amount <= limit))
        };
        let all: Vec<usize> = pool.types.iter().map(|(at, _)| *at).collect();
        let allowed: Vec<usize> = all.iter().copied().filter(within).collect();
        let row = pool.row.and(&alternative.row);
        self.narrow(pool, row, &allowed, &class.requests, alternative, &|_| 0).map_err(|verdict| match verdict {
            PoolVerdict::Types { mut removed, .. } => {
                removed.limits = all.len() - allowed.len();
                PoolVerdict::Types { removed, of: all.len() }
            }
            other => other,
        })
    }

    /// The row and types that are left once the spreads have settled their domains.
    fn narrow(
        &self,
        pool: &Pool,
        mut row: Row,
        types: &[usize],
        requests: &[i64],
        alternative: &Alternative,
        held: &dyn Fn(usize) -> u32,
    ) -> Result<(Row, Vec<usize>), PoolVerdict> {
        let layout = &self.problem.layout;
        let mut left = self.keep(pool, &row, types, requests)?;
        for spread_at in &alternative.spreads {
            let spread = &self.spreads[*spread_at];
            let Some(key) = spread.key else {
                if spread.allows_host(held(*spread_at)) {
                    continue;
                }
                return Err(PoolVerdict::Spread(*spread_at));
            };
            // The emptiest domain in which a type is still to be had.
            let settled = spread.allowed(layout, key, &alternative.row, &row).into_iter().find_map(|bit| {
                let mut narrowed = row.clone();
                layout.restrict(&mut narrowed, key, [bit]);
                let left = self.keep(pool, &narrowed, &left, requests).ok()?;
                Some((narrowed, left))
            });
            (row, left) = settled.ok_or(PoolVerdict::Spread(*spread_at))?;
        }
        for (key, wanted) in &pool.min_values {
            if layout.distinct(left.iter().map(|at| &self.problem.types[*at].row), *key) < *wanted {
                return Err(PoolVerdict::MinValues(*key));
            }
        }
        Ok((row, left))
    }

    /// The types that fit, or what removed them.
    fn keep(&self, pool: &Pool, row: &Row, types: &[usize], requests: &[i64]) -> Result<Vec<usize>, PoolVerdict> {
        let mut removed = Removed::default();
        let mut left = Vec::with_capacity(types.len());
        for at in types {
            let kind = &self.problem.types[*at];
            if !self.problem.layout.intersects(&kind.row, row) {
                removed.requirements += 1;
            } else if !holds(&kind.allocatable, overhead(pool, *at), requests) {
                removed.resources += 1;
            } else if cheapest(self.problem, row, *at) == u64::MAX {
                removed.offerings += 1;
            } else {
                left.push(*at);
            }
        }
        if left.is_empty() { Err(PoolVerdict::Types { removed, of: types.len() }) } else { Ok(left) }
    }

    /// A claim may become the largest of its types: that much of the limit is spoken for.
    fn charge(&mut self, pool: usize, types: &[usize]) {
        let (limits, nodes_left) = &mut self.limits[pool];
        for (at, limit) in limits.iter_mut().enumerate() {
            if let Some(limit) = limit {
                *limit -= types.iter().map(|kind| self.problem.types[*kind].capacity[at]).max().unwrap_or(0);
            }
        }
        if let Some(left) = nodes_left {
            *left -= 1;
        }
    }

    fn count(&mut self, claim_at: usize, class: &Class) {
        for spread_at in &class.counted_by {
            let spread = &mut self.spreads[*spread_at];
            let claim = &mut self.claims[claim_at];
            match spread.key {
                None => match claim.held.iter_mut().find(|(of, _)| of == spread_at) {
                    Some((_, count)) => *count += 1,
                    None => claim.held.push((*spread_at, 1)),
                },
                Some(key) => {
                    if let Some(bit) = self.problem.layout.single(&claim.row, key) {
                        spread.add(bit);
                    }
                }
            }
        }
    }
}

/// What daemons take of a type.
pub(crate) fn overhead(pool: &Pool, at: usize) -> &[i64] {
    pool.types.binary_search_by_key(&at, |(kind, _)| *kind).map_or(&[], |found| pool.types[found].1.as_slice())
}

/// Whether a type holds the requests beside its daemons.
pub(crate) fn holds(allocatable: &[i64], daemons: &[i64], requests: &[i64]) -> bool {
    requests.iter().enumerate().all(|(at, amount)| {
        let needed = amount + daemons.get(at).copied().unwrap_or(0);
        *amount <= 0 && needed <= 0 || needed <= allocatable.get(at).copied().unwrap_or(0)
    })
}

fn fits(requests: &[i64], available: &[i64]) -> bool {
    requests.iter().zip(available).all(|(amount, left)| *amount <= 0 || amount <= left)
}

fn add(sum: &mut [i64], amounts: &[i64]) {
    for (sum, amount) in sum.iter_mut().zip(amounts) {
        *sum += amount;
    }
}

fn subtract(rest: &mut [i64], amounts: &[i64]) {
    for (rest, amount) in rest.iter_mut().zip(amounts) {
        *rest -= amount;
    }
}
