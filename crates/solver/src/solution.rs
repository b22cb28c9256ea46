//! The answer: a place for every pod, and the nodes to buy.

use crate::bin::{Bin, values};
use crate::pack::Packer;
use crate::plan;
use crate::problem::Problem;
use crate::row::Row;
use crate::shape::{Choice, holds};
use crate::verdict::{PoolVerdict, explain};

/// A node keeps every type that holds its pods and costs at most so much more than the cheapest, in
/// percent: room for the cloud to choose, at a price that the plan can bear.
const DEARER_MAX_PERCENT: u64 = 50;
/// It keeps so many even if they cost more.
const TYPES_MIN: usize = 20;

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
    /// Pods that have a place, in an order in which each may be bound after those before it.
    pub order: Vec<usize>,
    pub claims: Vec<Claim>,
    /// For every class that has a pod with no place: a verdict by pool.
    pub verdicts: Vec<(usize, Vec<PoolVerdict>)>,
}

impl Solution {
    /// Sum of the cheapest offerings of all claims.
    pub fn price(&self) -> u64 {
        self.claims.iter().map(|claim| claim.price).sum()
    }

    fn unplaced(&self) -> usize {
        self.places.iter().filter(|place| **place == Place::Nowhere).count()
    }
}

/// Places every pod that can be placed. The plan's nodes are weighed against nodes bought as pods
/// come: fewest pods without a place, then the lowest price, then the fewest nodes.
pub fn solve(problem: &Problem) -> Solution {
    let mut plain = Packer::new(problem);
    plain.fill_nodes();
    let mut planned = plain.clone();
    plan::suggest(problem, &mut planned);
    planned.fill_planned();
    let [planned, plain] = [planned, plain].map(|mut packer| {
        packer.fill();
        finish(problem, packer)
    });
    let rank = |solution: &Solution| (solution.unplaced(), solution.price(), solution.claims.len());
    if rank(&planned) <= rank(&plain) { planned } else { plain }
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
    let order = packer.order.iter().copied().filter(|pod| places[*pod] != Place::Nowhere).collect();
    Solution { places, order, claims, verdicts }
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
