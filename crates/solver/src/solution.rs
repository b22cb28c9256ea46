//! The answer: a place for every pod, and the nodes to buy.

use crate::bin::{Bin, values};
use crate::pack::Packer;
use crate::plan::{Planner, Suggestion};
use crate::problem::Problem;
use crate::row::Row;
use crate::shape::{Choice, holds};
use crate::verdict::{PoolVerdict, explain};

/// A node keeps every type that holds its pods and costs at most so much more than the cheapest, in
/// percent: room for the cloud to choose, at a price that the plan can bear.
const DEARER_MAX_PERCENT: u64 = 50;
/// It keeps so many even if they cost more.
const TYPES_MIN: usize = 20;
/// Types that a node charged to limits may keep beyond what it was charged: so many are looked at.
const TYPES_EXTRA_MAX: usize = 60;

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
    /// The pool's `min_values` as they hold for this claim.
    pub min_values: Vec<(usize, usize)>,
    /// They had to be lowered.
    pub min_values_relaxed: bool,
}

/// A place for every pod.
#[derive(Clone, Debug, Default)]
pub struct Solution {
    pub places: Vec<Place>,
    pub claims: Vec<Claim>,
    /// For every class that has a pod with no place: a verdict by pool.
    pub verdicts: Vec<(usize, Vec<PoolVerdict>)>,
}

impl Solution {
    /// Sum of the cheapest offerings of all claims.
    pub fn price(&self) -> u64 {
        self.claims.iter().map(|claim| claim.price).sum()
    }

    /// The better one.
    fn or(self, other: Self) -> Self {
        let rank = |solution: &Self| (solution.unplaced(), solution.price(), solution.claims.len());
        if rank(&self) <= rank(&other) { self } else { other }
    }

    fn unplaced(&self) -> usize {
        self.places.iter().filter(|place| **place == Place::Nowhere).count()
    }
}

/// With daemons on every node, at most so many times the nodes of the fullest packing are planned …
const NODES_MAX_FACTOR: usize = 2;
/// … by making every node dearer, at first by this part of the mean node's price, then by twice as much, and so on.
const PREMIUM_FIRST: u64 = 16;
const PREMIUM_STEPS: u32 = 8;
/// A packing that costs no more than its plan by this factor (in percent) is as good as planned.
const AS_PLANNED_PERCENT: u64 = 125;

/// Places every pod that can be placed.
///
/// *Price* comes first: a plan of what to buy is followed as far as it is legal. It is weighed against nodes bought as pods come, each
/// filled as far as any type goes: fewest pods without a place, then the lowest price, then the fewest nodes.
/// *Nodes*: where daemons run on every node, few nodes are worth something: at most [`NODES_MAX_FACTOR`] times those
/// of the fullest packing are planned. *Flexibility*: a node keeps every type that holds its pods and is at most
/// [`DEARER_MAX_PERCENT`] dearer than the cheapest, and at least [`TYPES_MIN`] if so many hold them; where limits are
/// charged with what a node may become, as far as the limits allow once every pod has its place.
///
/// Complexity, for n pods in c classes, b bins and t types: the plan does not depend on n; placing takes
/// O(n + c·b) tests, and writing down the nodes O(b·t).
pub fn solve(problem: &Problem) -> Solution {
    let mut filled = Packer::new(problem);
    filled.fill_nodes();
    let planner = Planner::new(problem, &mut filled);
    let mut cheapest = planner.plan(&filled, 0);
    let price = cheapest.price;
    let follow = |suggestion: Suggestion| {
        let mut packer = filled.clone();
        packer.suggest(suggestion);
        packer.fill_planned();
        packer.fill();
        finish(problem, packer)
    };
    let daemons = problem.pools.iter().flat_map(|pool| pool.overheads.iter()).flatten().any(|amount| *amount > 0);
    if !daemons {
        let planned = follow(cheapest);
        let as_planned = planned.price() <= price.saturating_mul(AS_PLANNED_PERCENT) / 100;
        if planned.unplaced() == 0 && as_planned {
            return planned;
        }
        return planned.or(plain(problem, filled));
    }
    let plain = plain(problem, filled.clone());
    let nodes_max = plain.claims.len() * NODES_MAX_FACTOR;
    let mut premium = price / u64::try_from(cheapest.bins.len().max(1)).unwrap_or(u64::MAX) / PREMIUM_FIRST;
    for _ in 0..PREMIUM_STEPS {
        if cheapest.bins.len() <= nodes_max {
            break;
        }
        cheapest = planner.plan(&filled, premium);
        premium = premium.saturating_mul(2);
    }
    follow(cheapest).or(plain)
}

/// Nodes are bought as pods come.
fn plain(problem: &Problem, mut packer: Packer<'_>) -> Solution {
    packer.fill();
    finish(problem, packer)
}

fn finish(problem: &Problem, mut packer: Packer<'_>) -> Solution {
    let mut claim_of = vec![usize::MAX; packer.bins.len()];
    let mut claims = Vec::new();
    for (at, bin) in packer.bins.iter().enumerate() {
        if let Some(claim) = claim(problem, &packer, bin).filter(|claim| !claim.pods.is_empty()) {
            claim_of[at] = claims.len();
            claims.push(claim);
        }
    }
    let places = packer.bin_of.iter().map(|bin| match bin {
        None => Place::Nowhere,
        Some(bin) if *bin < problem.nodes.len() => Place::Node(*bin),
        Some(bin) if claim_of[*bin] == usize::MAX => Place::Nowhere,
        Some(bin) => Place::Claim(claim_of[*bin]),
    });
    let places: Vec<Place> = places.collect();
    let mut failed: Vec<usize> = places
        .iter()
        .zip(&problem.pods)
        .filter(|(place, _)| **place == Place::Nowhere)
        .map(|(_, class)| *class)
        .collect();
    failed.sort_unstable();
    failed.dedup();
    let verdicts = failed.into_iter().map(|class| (class, explain(problem, &mut packer, class))).collect();
    Solution { places, claims, verdicts }
}

fn claim(problem: &Problem, packer: &Packer<'_>, bin: &Bin) -> Option<Claim> {
    let open = bin.open.as_ref()?;
    let shape = packer.shapes.get(open.shape);
    let pool = &problem.pools[shape.pool];
    let all: Vec<&Choice> = shape
        .types
        .iter()
        .filter(|choice| open.may_be(problem, choice))
        .filter(|choice| holds(problem, pool, **choice, &bin.requests))
        .collect();
    let price = all.first()?.price;
    let dearest = price.saturating_add(price.saturating_mul(DEARER_MAX_PERCENT) / 100);
    let mut keep = all.partition_point(|choice| choice.price <= dearest).max(TYPES_MIN).min(all.len());
    let enough =
        |keep: usize| open.min_values.iter().all(|(key, wanted)| values(problem, &all[..keep], *key) >= *wanted);
    while keep < all.len() && !enough(keep) {
        keep += 1;
    }
    Some(Claim {
        pool: shape.pool,
        row: shape.row.clone(),
        types: all[..keep].iter().map(|choice| choice.kind).collect(),
        requests: bin.requests.clone(),
        pods: bin.pods.clone(),
        price,
        min_values: open.min_values.clone(),
        min_values_relaxed: open.min_values_relaxed,
    })
}
