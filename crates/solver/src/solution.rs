//! The answer: a place for every pod, and the nodes to buy.

use crate::bin::{Bin, values};
use crate::pack::Packer;
use crate::plan;
use crate::problem::Problem;
use crate::row::Row;
use crate::shape::{Choice, holds};
use crate::verdict::{Explainer, Verdicts};

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
    pub claims: Vec<Claim>,
    /// For every class that has a pod with no place: why, by pool.
    pub verdicts: Vec<(usize, Verdicts)>,
}

impl Solution {
    /// Sum of the cheapest offerings of all claims.
    pub fn price(&self) -> u64 {
        self.claims.iter().map(|claim| claim.price).sum()
    }

    /// Pods without a place by level, the most important first.
    fn unplaced(&self, problem: &Problem) -> Vec<usize> {
        let starts = std::iter::once(0).chain(problem.levels.iter().copied());
        let ends = problem.levels.iter().copied().chain(std::iter::once(self.places.len()));
        let nowhere = |places: &[Place]| places.iter().filter(|place| **place == Place::Nowhere).count();
        starts.zip(ends).map(|(start, end)| nowhere(&self.places[start..end])).collect()
    }
}

/// Places every pod that can be placed. The plan's nodes are weighed against nodes bought as pods
/// come: fewest pods without a place, the most important first, then the lowest price, then the fewest
/// nodes. Where pods differ in importance and some find no place, a packing strictly in their order is
/// weighed as well: nothing in it is given to a pod that a more important one could have used.
pub fn solve<'p>(problem: &'p Problem) -> Solution {
    let mut plain = Packer::new(problem);
    plain.fill_nodes();
    let mut planned = plain.clone();
    plan::suggest(problem, &mut planned);
    planned.fill_planned();
    let packed = |mut packer: Packer<'p>| {
        packer.fill();
        (finish(problem, &packer), packer)
    };
    let rank = |solution: &Solution| (solution.unplaced(problem), solution.price(), solution.claims.len());
    let better = |a: Packed<'p>, b: Packed<'p>| if rank(&a.0) <= rank(&b.0) { a } else { b };
    let mut best = better(packed(planned), packed(plain));
    if !problem.levels.is_empty() && best.0.places.contains(&Place::Nowhere) {
        best = better(best, packed(Packer::new(problem)));
    }
    let (mut solution, packer) = best;
    solution.verdicts = verdicts(problem, &packer, &solution.places);
    solution
}

/// A solution without verdicts, and how it came about.
type Packed<'p> = (Solution, Packer<'p>);

fn verdicts<'p>(problem: &'p Problem, packer: &Packer<'p>, places: &[Place]) -> Vec<(usize, Verdicts)> {
    let failed = places.iter().zip(&problem.pods).filter(|(place, _)| **place == Place::Nowhere);
    let mut failed: Vec<usize> = failed.map(|(_, class)| *class).collect();
    failed.sort_unstable();
    failed.dedup();
    if failed.is_empty() {
        return Vec::new();
    }
    let mut explainer = Explainer::new(problem, packer);
    failed.into_iter().map(|class| (class, explainer.explain(class))).collect()
}

fn finish(problem: &Problem, packer: &Packer<'_>) -> Solution {
    let mut claim_of = vec![usize::MAX; packer.bins.len()];
    let mut claims = Vec::new();
    for (at, bin) in packer.bins.iter().enumerate() {
        if let Some(claim) = claim(problem, packer, bin).filter(|claim| !claim.pods.is_empty()) {
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
    let places = places.collect();
    Solution { places, claims, verdicts: Vec::new() }
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
