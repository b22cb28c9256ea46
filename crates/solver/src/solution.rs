//! The answer: a place for every pod, and the nodes to buy.

use crate::bin::{Bin, needed, values};
use crate::pack::Packer;
use crate::plan::{PLANS_MAX, Planner, Suggestion};
use crate::problem::Problem;
use crate::row::Row;
use crate::shape::{Choice, holds};
use crate::verdict::{Explainer, Verdicts};

/// A node keeps every type that holds its pods and costs at most so much more than the cheapest, in
/// percent: room for the cloud to choose, at a price that the plan can bear.
const DEARER_MAX_PERCENT: u64 = 50;
/// It keeps so many even if they cost more …
const TYPES_MIN: usize = 20;
/// … and no more than so many, unless `minValues` want more.
const TYPES_MAX: usize = 600;

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
    /// The reserved capacity that it takes one of.
    pub reservation: Option<usize>,
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
    /// For every class that has a pod with no place: why, by pool.
    pub verdicts: Vec<(usize, Verdicts)>,
}

impl Solution {
    /// Sum of the cheapest offerings of all claims.
    pub fn price(&self) -> u64 {
        self.claims.iter().fold(0_u64, |sum, claim| claim.price.saturating_add(sum))
    }
}

/// A node is worth so much less to the plan than its price says (10⁻⁶ USD per hour): at the same price, few nodes.
const PREMIUM: u64 = 500;
/// With daemons on every node, at most so many times the nodes of the fullest packing are planned …
const NODES_MAX_FACTOR: usize = 2;
/// … by making every node dearer, at first by this part of the mean node's price, then by twice as much, and so on.
const PREMIUM_FIRST: u64 = 16;
const PREMIUM_STEPS: u32 = 8;
/// A packing that costs no more than its plan by this factor (in percent) is as good as planned.
const AS_PLANNED_PERCENT: u64 = 125;

/// So many levels of importance have a plan of their own.
const LEVELS_MAX: usize = 8;

/// Places every pod that can be placed.
///
/// *Price* comes first: a plan of what to buy is followed as far as it is legal, and made anew for what the limits of
/// pools leave out of it, at most [`PLANS_MAX`] times. It is weighed against nodes bought as
/// pods come, each filled as far as any type goes: fewest pods without a place, the most important first, then the
/// lowest price, then the fewest nodes. Where pods differ in importance and some find no place, a packing strictly in
/// their order is weighed as well, and one that plans for the more important ones first.
///
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
    let mut best = cheapest(problem, filled);
    if !problem.levels.is_empty() && best.unplaced.iter().any(|pods| *pods > 0) {
        best = best.or(Packed::new(Packer::new(problem))).or(by_levels(problem));
    }
    best.solution()
}

/// What the most important pods need is planned before anybody else is looked at, and so on, level by level; after
/// [`LEVELS_MAX`] of them, all that are left together.
fn by_levels(problem: &Problem) -> Packed<'_> {
    let mut packer = Packer::new(problem);
    for end in problem.levels.iter().copied().take(LEVELS_MAX).chain(std::iter::once(problem.pods.len())) {
        packer.end = end;
        packer.fill_nodes();
        let plan = Planner::new(problem, &mut packer).plan(&packer, PREMIUM);
        packer = follow(problem, &packer, plan, PREMIUM).0.packer;
    }
    Packed::new(packer)
}

fn cheapest<'p>(problem: &'p Problem, mut filled: Packer<'p>) -> Packed<'p> {
    let planner = Planner::new(problem, &mut filled);
    let mut plan = planner.plan(&filled, PREMIUM);
    let price = plan.price;
    let daemons = problem.pools.iter().flat_map(|pool| pool.overheads.iter()).flatten().any(|amount| *amount > 0);
    if !daemons {
        let (planned, price) = follow(problem, &filled, plan, PREMIUM);
        let as_planned = planned.price <= price.saturating_mul(AS_PLANNED_PERCENT) / 100;
        let is_good = as_planned && planned.unplaced.iter().all(|pods| *pods == 0);
        return if is_good { planned } else { planned.or(Packed::new(filled)) };
    }
    let plain = Packed::new(filled.clone());
    let nodes_max = plain.nodes * NODES_MAX_FACTOR;
    let mut premium = price / u64::try_from(plan.bins.len().max(1)).unwrap_or(u64::MAX) / PREMIUM_FIRST + PREMIUM;
    let is_whole = plan.beyond == 0;
    let mut paid = PREMIUM;
    for _ in 0..PREMIUM_STEPS {
        let few = |nodes: usize| nodes <= nodes_max;
        if few(plan.bins.len()) && (is_whole || few(follow(problem, &filled, plan.clone(), paid).0.nodes)) {
            break;
        }
        paid = premium;
        plan = planner.plan(&filled, paid);
        premium = premium.saturating_mul(2);
    }
    follow(problem, &filled, plan, paid).0.or(plain)
}

/// A packing that follows a plan, and what the plan costs. What limits or the number of demands leave out of it is planned
/// anew, for what is left then: a pool's turn comes when the one before it is used up, and what fits beside the pods
/// that are placed needs no plan.
fn follow<'p>(problem: &'p Problem, filled: &Packer<'p>, plan: Suggestion, premium: u64) -> (Packed<'p>, u64) {
    let mut packer = filled.clone();
    let (mut plan, mut price) = (plan, 0_u64);
    for round in 1..=PLANS_MAX {
        let (bins, placed, beyond, whole_price) = (packer.bins.len(), packer.order.len(), plan.beyond, plan.price);
        let is_last = packer.suggest(plan) && beyond == 0 || round == PLANS_MAX;
        packer.fill_planned(is_last);
        price = price.saturating_add(if is_last { whole_price } else { packer.planned_price(bins) });
        if is_last || packer.order.len() == placed {
            break;
        }
        packer.fill_opened();
        plan = Planner::new(problem, &mut packer).plan(&packer, premium);
    }
    (Packed::new(packer), price)
}

/// Every pod that finds a place has one.
struct Packed<'p> {
    packer: Packer<'p>,
    /// Pods without a place by level, the most important first.
    unplaced: Vec<usize>,
    /// Sum of the cheapest offerings of all nodes to buy.
    price: u64,
    nodes: usize,
}

impl<'p> Packed<'p> {
    fn new(mut packer: Packer<'p>) -> Self {
        packer.fill();
        packer.fill_dearer();
        let problem = packer.problem;
        let bought = packer.bins.iter().filter(|bin| !bin.pods.is_empty());
        let (mut price, mut nodes) = (0_u64, 0);
        for cheapest in bought.filter_map(|bin| choices(&packer, bin)?.next()) {
            price = cheapest.price.saturating_add(price);
            nodes += 1;
        }
        let starts = std::iter::once(0).chain(problem.levels.iter().copied());
        let ends = problem.levels.iter().copied().chain(std::iter::once(problem.pods.len()));
        let nowhere = |bins: &[Option<usize>]| bins.iter().filter(|bin| bin.is_none()).count();
        let unplaced = starts.zip(ends).map(|(start, end)| nowhere(&packer.bin_of[start..end])).collect();
        Self { packer, unplaced, price, nodes }
    }

    /// The better one.
    fn or(self, other: Self) -> Self {
        let rank = |of: &Self| (of.unplaced.clone(), of.price, of.nodes);
        if rank(&self) <= rank(&other) { self } else { other }
    }

    fn solution(self) -> Solution {
        let mut packer = self.packer;
        let problem = packer.problem;
        let verdicts = verdicts(&packer);
        packer.loosen();
        let mut claim_of = vec![usize::MAX; packer.bins.len()];
        let mut claims = Vec::with_capacity(self.nodes);
        for (at, bin) in packer.bins.iter().enumerate().filter(|(_, bin)| !bin.pods.is_empty()) {
            if let Some(claim) = claim(&packer, bin) {
                claim_of[at] = claims.len();
                claims.push(claim);
            }
        }
        let places = packer.bin_of.iter().map(|bin| match bin {
            None => Place::Nowhere,
            Some(bin) if *bin < problem.nodes.len() => Place::Node(*bin),
            Some(bin) => Place::Claim(claim_of[*bin]),
        });
        Solution { places: places.collect(), order: packer.order, claims, verdicts }
    }
}

fn verdicts(packer: &Packer<'_>) -> Vec<(usize, Verdicts)> {
    let failed = packer.bin_of.iter().zip(&packer.problem.pods).filter(|(bin, _)| bin.is_none());
    let mut failed: Vec<usize> = failed.map(|(_, class)| *class).collect();
    failed.sort_unstable();
    failed.dedup();
    if failed.is_empty() {
        return Vec::new();
    }
    let mut explainer = Explainer::new(packer.problem, packer);
    failed.into_iter().map(|class| (class, explainer.explain(class))).collect()
}

/// What a node to buy may become, cheapest first; `None`: it exists already. A bin only ever takes pods that some
/// type of it holds.
fn choices<'a>(packer: &'a Packer<'_>, bin: &'a Bin) -> Option<impl Iterator<Item = &'a Choice>> {
    let open = bin.open.as_ref()?;
    let shape = packer.shapes.get(open.shape);
    let pool = &packer.problem.pools[shape.pool];
    let within = shape.types.iter().filter(|choice| open.may_be(packer.problem, choice));
    Some(within.filter(|choice| holds(packer.problem, pool, **choice, &bin.requests)))
}

/// Which of these types a node keeps.
fn keep<'a>(problem: &Problem, all: &[&'a Choice], min_values: &[(usize, usize)]) -> Vec<&'a Choice> {
    let price = all.first().map_or(0, |choice| choice.price);
    let dearest = price.saturating_add(price.saturating_mul(DEARER_MAX_PERCENT) / 100);
    let mut keep = all.partition_point(|choice| choice.price <= dearest).max(TYPES_MIN).min(all.len());
    let enough = |keep: usize| min_values.iter().all(|(key, wanted)| values(problem, &all[..keep], *key) >= *wanted);
    while keep < all.len() && !enough(keep) {
        keep += 1;
    }
    if keep <= TYPES_MAX {
        return all[..keep].to_vec();
    }
    // Those that `minValues` cannot do without, then the cheapest.
    let wanted: Vec<usize> = needed(problem, &all[..keep], min_values).iter().map(|choice| choice.kind).collect();
    let mut others = TYPES_MAX.saturating_sub(wanted.len());
    let mut kept = all[..keep].to_vec();
    kept.retain(|choice| {
        let is_wanted = wanted.contains(&choice.kind);
        let stays = is_wanted || others > 0;
        others -= usize::from(stays && !is_wanted);
        stays
    });
    kept
}

fn claim(packer: &Packer<'_>, bin: &Bin) -> Option<Claim> {
    let open = bin.open.as_ref()?;
    let shape = packer.shapes.get(open.shape);
    let all: Vec<&Choice> = choices(packer, bin)?.collect();
    let kept = keep(packer.problem, &all, &open.min_values);
    Some(Claim {
        pool: shape.pool,
        row: shape.row.clone(),
        types: kept.iter().map(|choice| choice.kind).collect(),
        requests: bin.requests.clone(),
        pods: bin.pods.clone(),
        price: all.first()?.price,
        reservation: open.hold,
        min_values: open.min_values.clone(),
        min_values_relaxed: open.min_values_relaxed,
    })
}

impl Packer<'_> {
    /// Once every pod has its place: what the limits still leave goes to the nodes that were charged to them, in
    /// equal parts, so that each may become larger types as well.
    fn loosen(&mut self) {
        let charged = |bin: &Bin| bin.open.as_ref().is_some_and(|open| open.most.is_some()) && !bin.pods.is_empty();
        let mut waiting = vec![0_i64; self.problem.pools.len()];
        let all: Vec<usize> = (0..self.bins.len()).filter(|at| charged(&self.bins[*at])).collect();
        let pool_of = |packer: &Self, at: usize| {
            packer.bins[at].open.as_ref().map_or(0, |open| packer.shapes.get(open.shape).pool)
        };
        for at in &all {
            waiting[pool_of(self, *at)] += 1;
        }
        for at in all {
            let pool = pool_of(self, at);
            let share = |left: &Option<i64>| left.map_or(i64::MAX, |left| left.max(0) / waiting[pool].max(1));
            let shares: Vec<i64> = self.limits[pool].0.iter().map(share).collect();
            waiting[pool] -= 1;
            self.loosen_one(at, pool, &shares);
        }
    }

    fn loosen_one(&mut self, at: usize, pool: usize, shares: &[i64]) {
        let problem = self.problem;
        let Some(open) = self.bins[at].open.as_ref() else { return };
        let Some(most) = open.most.clone() else { return };
        let shape = self.shapes.get(open.shape);
        let fits = |choice: &&Choice| holds(problem, &problem.pools[pool], **choice, &self.bins[at].requests);
        let all: Vec<&Choice> = shape.types.iter().filter(fits).collect();
        let mut grown = most.to_vec();
        for choice in keep(problem, &all, &open.min_values) {
            let capacity = &problem.types[choice.kind].capacity;
            let allowed = most.iter().zip(shares).map(|(most, share)| most.saturating_add(*share));
            if capacity.iter().zip(allowed).all(|(amount, allowed)| *amount <= allowed) {
                for (grown, amount) in grown.iter_mut().zip(capacity) {
                    *grown = (*grown).max(*amount);
                }
            }
        }
        for ((limit, grown), most) in self.limits[pool].0.iter_mut().zip(&grown).zip(most.iter()) {
            if let Some(limit) = limit {
                *limit -= grown - most;
            }
        }
        if let Some(open) = &mut self.bins[at].open {
            open.most = Some(grown.into());
        }
    }
}
