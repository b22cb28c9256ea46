//! The plan: which nodes to buy for the pods that no existing node takes, as a hint to the packer.
//!
//! Pods that are alike become demands, (shape, type) pairs become kinds of nodes. What to buy is a cutting stock
//! problem with several resources (Gilmore and Gomory, 1961), solved in three steps:
//!
//! 1. *Fill and buy*, a few times: with a value for every demand, the kind whose best filling is worth most per
//!    dollar is bought, as often as the demand lasts, until nothing is left. A kind is searched only when its bound
//!    comes to the top of the queue, again only when the demand it used has run out (a lazy greedy: worth only
//!    falls). The fillings become columns of a covering linear program; its duals are what a pod of each demand
//!    really costs, and move the values for the next time.
//! 2. *Generate* columns for these duals until none lowers the program's cost, or often enough.
//! 3. *Round*: the program's columns are bought in whole numbers, the rest as in step 1.
//!
//! The cheapest of these plans is kept; the first that costs hardly more than the program is good enough. Rules
//! between pods are not looked at, but for limits per node, and spreads, which divide the pods of a class over the
//! domains beforehand. The packer decides what is legal.
//!
//! Cost: a search is bounded ([`fill`]); step 1 takes O(kinds + bought) searches, step 2 O(kinds) for each
//! generation, a column O(demands²). Kinds × demands are bounded, so the plan's cost does not grow with the number
//! of pods. Of more than [`DEMANDS_MAX`] demands those with the most pods are planned first, and the others once these
//! are placed, for what does not fit beside them: at most [`PLANS_MAX`] times. Where that is not enough for all, the
//! ones that are nearly alike become one that asks for the most of each resource; only what differs in more than size
//! (labels, rules per node) and is still too much is left to the packer.

mod fill;
mod master;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use self::fill::{Effort, Filler, Item, Kind, Pattern, most};
use self::master::{Column, Master};
use crate::pack::{EVERYWHERE, Packer, Suggested};
use crate::problem::{Problem, Rule};
use crate::shape::{Choice, ShapeId, holds, room};

/// Rows of the linear program: of more demands, those with the most pods are planned first.
const DEMANDS_MAX: usize = 192;
/// So many plans are made for what limits, or the number of demands, leave out of the one before. With more demands
/// than these have rows, those that are nearly alike are merged.
pub(crate) const PLANS_MAX: usize = 8;
/// They agree in so many bits after the highest, and in fewer if there are still too many.
const BITS_MAX: u32 = 6;
/// For fewer than this part of the pods (in percent) there is no further plan.
const FEW_PERCENT: u64 = 2;
/// A type that is dearer than another by less than this factor …
const SIZE_STEP: f64 = 1.1;
/// … and that holds, per dollar, at most so much more than that, is not considered.
const SAME: f64 = 1.01;
/// With many demands the factor grows, until kinds × demands are no more than this …
const KINDS_TIMES_ITEMS: usize = 6_500;
/// … or it is this large.
const SIZE_STEP_MAX: f64 = 1.9;
/// A filling is bought if none can be better by more than this factor.
const CLOSE: f64 = 1.01;
/// Plans bought before columns are generated.
const ROUNDS: usize = 4;
/// A plan within this factor of the linear program's cost is good enough.
const GOOD_ENOUGH: f64 = 1.005;
/// How often columns are generated for all kinds, and how many in all.
const GENERATIONS_MAX: usize = 24;
const GENERATED_MAX: usize = 600;
/// From which fraction on a basic column is bought once more.
const ROUND_UP: [f64; 3] = [1.0, 0.8, 0.6];
/// How far values move towards the duals between two plans.
const STEP: f64 = 0.3;

/// At most so many pods of a counter share a node.
type Group = Option<(usize, u32)>;

/// A plan for the pods that an already filled packer has not placed.
#[derive(Clone, Debug)]
pub(crate) struct Suggestion {
    /// What a pod of each demand asks for.
    pub(crate) demands: Rc<[Vec<i64>]>,
    pub(crate) bins: Vec<Suggested>,
    /// What its nodes cost, in 10⁻⁶ USD per hour.
    pub(crate) price: u64,
    /// Pods that it leaves to a later plan.
    pub(crate) beyond: u64,
}

/// What is to be bought, as the plan sees it.
pub(crate) struct Planner {
    demands: Vec<Demand>,
    beyond: u64,
    items: Vec<Item>,
    kinds: Vec<Kind>,
    choices: Vec<(ShapeId, Choice)>,
    /// Nodes of capacity that is paid for already: whatever the premium, these come first.
    reserved: Vec<Suggested>,
    /// By item: the pods that these leave.
    counts: Vec<u32>,
}

impl Planner {
    pub(crate) fn new(problem: &Problem, packer: &mut Packer<'_>) -> Self {
        let (demands, beyond) = demands(problem, packer);
        let asked = asked(problem, &demands);
        let needs = |demand: &Demand| asked.iter().map(|at| float(demand.requests[*at])).collect();
        let item = |demand: &Demand| Item { need: needs(demand), count: demand.count, group: demand.group };
        // Pods that ask for nothing need no plan.
        let items: Vec<Item> = demands.iter().filter(|_| !asked.is_empty()).map(item).collect();
        let (kinds, choices) = kinds(problem, packer, &demands, &items, &asked);
        let mut counts: Vec<u32> = items.iter().map(|item| item.count).collect();
        let paid = reserved(problem, packer, &demands, &items, &asked);
        let reserved = take_reserved(paid, &items, &kinds, packer.reservations.clone(), &mut counts);
        Self { demands, beyond, items, kinds, choices, reserved, counts }
    }

    /// The cheapest plan, if every node cost `premium` (10⁻⁶ USD per hour) beside its price.
    pub(crate) fn plan(&self, packer: &Packer<'_>, premium: u64) -> Suggestion {
        let mut kinds = self.kinds.clone();
        for kind in &mut kinds {
            kind.price += float(premium);
        }
        let demands = self.demands.iter().map(|demand| demand.requests.clone()).collect();
        let mut suggestion = Suggestion { demands, bins: self.reserved.clone(), price: 0, beyond: self.beyond };
        for (kind, pattern, copies) in cheapest(&self.items, &mut kinds, self.counts.clone()) {
            let (shape, choice) = self.choices[kind];
            let shape = loosest(packer, &self.demands, shape, &pattern);
            let bin = (shape, choice, None, slots(&pattern));
            suggestion.bins.extend(std::iter::repeat_n(bin, copies as usize));
            suggestion.price = suggestion.price.saturating_add(choice.price.saturating_mul(u64::from(copies)));
        }
        suggestion
    }
}

/// Reserved capacity goes to the pods that would cost most otherwise, before anything is bought: as far as it is
/// `left`, by reservation.
fn take_reserved(
    paid: Vec<Paid>,
    items: &[Item],
    kinds: &[Kind],
    mut left: Vec<u32>,
    counts: &mut [u32],
) -> Vec<Suggested> {
    if paid.is_empty() {
        return Vec::new();
    }
    let worth = |at: usize| single(items, kinds, at).map_or(1e6, |column| column.worth());
    let values: Vec<f64> = (0..items.len()).map(worth).collect();
    let (mut filler, mut all) = (Filler::default(), Vec::new());
    for (mut kind, shape, choice, reservation) in paid {
        while left[reservation] > 0 {
            let (_, pattern) = filler.best(items, &mut kind, &values, counts, Effort::Thorough);
            let Some(most) = pattern.iter().map(|(item, pods)| counts[*item as usize] / pods).min() else { break };
            let copies = most.clamp(1, left[reservation]);
            for (item, pods) in &pattern {
                counts[*item as usize] -= pods * copies;
            }
            left[reservation] -= copies;
            let bin = (shape, choice, Some(reservation), slots(&pattern));
            all.extend(std::iter::repeat_n(bin, copies as usize));
        }
    }
    all
}

fn slots(pattern: &Pattern) -> Vec<(usize, u32)> {
    pattern.iter().map(|(item, pods)| (*item as usize, *pods)).collect()
}

/// The shape that meets all demands of a filling and is the widest of theirs.
fn loosest(packer: &Packer<'_>, demands: &[Demand], bought: ShapeId, pattern: &Pattern) -> ShapeId {
    let shapes = || pattern.iter().map(|(item, _)| demands[*item as usize].shape);
    shapes().find(|shape| shapes().all(|other| packer.shapes.meets(*shape, other))).unwrap_or(bought)
}

/// Pods that ask the same of the same pool.
struct Demand {
    shape: ShapeId,
    requests: Vec<i64>,
    count: u32,
    group: Group,
}

/// At most [`DEMANDS_MAX`] demands, and how many pods are in none of them, if that is worth another plan.
fn demands(problem: &Problem, packer: &mut Packer<'_>) -> (Vec<Demand>, u64) {
    packer.demand_of.iter_mut().for_each(Vec::clear);
    let mut waiting = vec![0_u32; problem.classes.len()];
    for (pod, class) in problem.pods[..packer.end].iter().enumerate() {
        waiting[*class] += u32::from(packer.bin_of[pod].is_none());
    }
    let mut all: Vec<Demand> = Vec::new();
    let mut known: FxHashMap<(ShapeId, &[i64], Group), usize> = FxHashMap::default();
    let mut held: Vec<Option<Vec<(u32, usize)>>> = vec![None; problem.counters.len()];
    for (class, count) in waiting.iter().enumerate().filter(|(_, count)| **count > 0) {
        let shapes = shapes_of(problem, packer, class);
        let requests = problem.classes[class].requests.as_slice();
        let group = group(problem, class);
        for (domain, shape, count) in divide(problem, packer, class, &shapes, *count, &mut held) {
            let at = *known.entry((shape, requests, group)).or_insert_with(|| {
                all.push(Demand { shape, requests: requests.to_vec(), count: 0, group });
                all.len() - 1
            });
            all[at].count += count;
            packer.demand_of[class].push((domain, at));
        }
    }
    for bits in (0..=BITS_MAX).rev() {
        if all.len() <= DEMANDS_MAX * PLANS_MAX {
            break;
        }
        all = merge(all, packer, bits);
    }
    let pods = |all: &[Demand]| all.iter().map(|demand| u64::from(demand.count)).sum::<u64>();
    let total = pods(&all);
    if all.len() > DEMANDS_MAX {
        keep_largest(&mut all, packer);
    }
    let beyond = total - pods(&all);
    (all, if beyond.saturating_mul(100) > total.saturating_mul(FEW_PERCENT) { beyond } else { 0 })
}

/// Demands whose amounts agree in their first bits after the highest become one, which asks for the most that any of
/// them does.
fn merge(all: Vec<Demand>, packer: &mut Packer<'_>, bits: u32) -> Vec<Demand> {
    let coarse = |amount: &i64| {
        let drop = (i64::BITS - amount.leading_zeros()).saturating_sub(bits + 1);
        amount >> drop << drop
    };
    let mut merged: Vec<Demand> = Vec::new();
    let mut known: FxHashMap<(ShapeId, Vec<i64>, Group), usize> = FxHashMap::default();
    let mut numbers = Vec::with_capacity(all.len());
    for demand in all {
        let key = (demand.shape, demand.requests.iter().map(coarse).collect(), demand.group);
        let at = *known.entry(key).or_insert(merged.len());
        numbers.push(at);
        match merged.get_mut(at) {
            None => merged.push(demand),
            Some(one) => {
                one.count += demand.count;
                for (most, amount) in one.requests.iter_mut().zip(&demand.requests) {
                    *most = (*most).max(*amount);
                }
            }
        }
    }
    for (_, at) in packer.demand_of.iter_mut().flatten() {
        *at = numbers[*at];
    }
    merged
}

/// The pods of a class by domain, if a spread divides them: as evenly as what is there already allows.
fn divide(
    problem: &Problem,
    packer: &mut Packer<'_>,
    class: usize,
    of: &[ShapeId],
    count: u32,
    held: &mut [Option<Vec<(u32, usize)>>],
) -> Vec<(usize, ShapeId, u32)> {
    let whole: Vec<(usize, ShapeId, u32)> = of.first().map(|shape| (EVERYWHERE, *shape, count)).into_iter().collect();
    let rules = problem.classes[class].alternatives.first().map(|of| of.rules.as_slice()).unwrap_or_default();
    let spread = rules.iter().find_map(|rule| match rule {
        Rule::Spread { counter, max_skew, .. } => Some((*counter, problem.counters[*counter].key?, *max_skew)),
        _ => None,
    });
    let Some((counter, key, max_skew)) = spread else { return whole };
    let mut domains: Vec<(u32, usize)> = held[counter].take().unwrap_or_else(|| packer.held(counter));
    let mut shapes: FxHashMap<usize, (ShapeId, u32)> = FxHashMap::default();
    for (_, bit) in &domains {
        let pin = packer.pin(key, *bit);
        if let Some(pinned) = of.iter().find_map(|shape| packer.shapes.narrow(*shape, pin)) {
            shapes.insert(*bit, (pinned, 0));
        }
    }
    let fullest = domains.iter().map(|(held, _)| *held).max().unwrap_or(0);
    let emptiest = domains.iter().map(|(held, _)| *held).min().unwrap_or(0);
    // They may all be in one domain, if that is cheapest.
    let is_free = (fullest - emptiest).saturating_add(count) <= max_skew;
    if shapes.is_empty() || is_free {
        held[counter] = Some(domains);
        return whole;
    }
    for _ in 0..count {
        let least = domains.iter_mut().filter(|(_, bit)| shapes.contains_key(bit)).min();
        if let Some((held, bit)) = least
            && let Some((_, pods)) = shapes.get_mut(bit)
        {
            *held += 1;
            *pods += 1;
        }
    }
    let divided = domains.iter().filter_map(|(_, bit)| {
        let (pinned, pods) = shapes.get(bit)?;
        (*pods > 0).then_some((*bit, *pinned, *pods))
    });
    let divided = divided.collect();
    held[counter] = Some(domains);
    divided
}

/// The demands with the most pods stay, of equals some of every size: multiples of the golden ratio are spread evenly.
fn keep_largest(all: &mut Vec<Demand>, packer: &mut Packer<'_>) {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let spread = |at: usize| u64::try_from(at).unwrap_or_default().wrapping_mul(GOLDEN);
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| (Reverse(all[*at].count), spread(*at)));
    order.truncate(DEMANDS_MAX);
    order.sort_unstable();
    let kept = std::mem::take(all);
    for of in &mut packer.demand_of {
        of.retain_mut(|(_, at)| match order.binary_search(at) {
            Ok(new) => {
                *at = new;
                true
            }
            Err(_) => false,
        });
    }
    let mut at = 0;
    *all = kept
        .into_iter()
        .filter(|_| {
            at += 1;
            order.binary_search(&(at - 1)).is_ok()
        })
        .collect();
}

/// The shapes of a node for a class: of the first pool that has a type with room for one pod, one for each home of its
/// volumes. The first will do, unless the pods are divided.
fn shapes_of(problem: &Problem, packer: &mut Packer<'_>, class: usize) -> Vec<ShapeId> {
    let requests = &problem.classes[class].requests;
    for alternative in 0..problem.classes[class].alternatives.len() {
        let mut all: Vec<ShapeId> = Vec::new();
        for (row, base) in packer.shapes_for(class, alternative).iter() {
            let pool_of = |shape: &ShapeId| packer.shapes.get(*shape).pool;
            if all.first().is_some_and(|first| pool_of(first) != pool_of(base)) {
                break;
            }
            let Some(shape) = packer.shapes.narrow(*base, *row) else { continue };
            let of = packer.shapes.get(shape);
            let pool = &problem.pools[of.pool];
            // A pool that may buy nothing more for these pods leaves them to the next.
            let fits =
                |choice: &Choice| packer.within_limits(of.pool, choice.kind) && holds(problem, pool, *choice, requests);
            let open = packer.limits[of.pool].1.is_none_or(|left| left > 0);
            if open && of.types.iter().any(fits) {
                all.push(shape);
            }
        }
        if !all.is_empty() {
            return all;
        }
    }
    Vec::new()
}

/// How many pods of a class may share a node, if a rule about single nodes says so.
fn group(problem: &Problem, class: usize) -> Group {
    let class = &problem.classes[class];
    let rules = class.alternatives.first().map(|of| of.rules.as_slice()).unwrap_or_default();
    let cap = |rule: &Rule| match rule {
        _ if problem.counters[rule.counter()].key.is_some() => None,
        Rule::Spread { counter, max_skew, counts_self: true, .. } => Some((*counter, *max_skew)),
        Rule::Apart { counter } if class.counted_by.contains(counter) => Some((*counter, 1)),
        _ => None,
    };
    rules.iter().filter_map(cap).min_by_key(|(counter, cap)| (*cap, *counter))
}

/// A type under a shape that demands ask for, as the plan sees it.
struct Candidate {
    shape: ShapeId,
    choice: Choice,
    room: Vec<f64>,
    price: f64,
}

/// Resources that nobody asks for do not matter.
fn asked(problem: &Problem, demands: &[Demand]) -> Vec<usize> {
    (0..problem.resources()).filter(|at| demands.iter().any(|demand| demand.requests[*at] > 0)).collect()
}

/// The shapes that demands ask for, each once.
fn shapes(demands: &[Demand]) -> Vec<ShapeId> {
    let mut shapes: Vec<ShapeId> = demands.iter().map(|demand| demand.shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

fn candidates(problem: &Problem, packer: &Packer<'_>, shape: ShapeId, asked: &[usize]) -> Vec<Candidate> {
    let of = packer.shapes.get(shape);
    let pool = &problem.pools[of.pool];
    let candidate = |choice: &Choice| {
        let room: Vec<i64> = room(problem, pool, *choice).collect();
        let fits = room.iter().all(|room| *room >= 0);
        let room = asked.iter().map(|at| float(room[*at])).collect();
        fits.then(|| Candidate { shape, choice: *choice, room, price: float(choice.price) })
    };
    let within = of.types.iter().filter(|choice| packer.within_limits(of.pool, choice.kind));
    within.filter_map(candidate).collect()
}

/// A node of this shape takes every demand whose labels it meets already.
fn fitting(packer: &Packer<'_>, demands: &[Demand], items: &[Item], of: &Candidate) -> Vec<u32> {
    let fits = |at: &usize| packer.shapes.meets(of.shape, demands[*at].shape) && most(&items[*at], &of.room, 1) > 0;
    (0..items.len()).filter(fits).filter_map(|at| u32::try_from(at).ok()).collect()
}

/// Capacity that is paid for already: a kind, what it stands for, and the reservation.
type Paid = (Kind, ShapeId, Choice, usize);

/// Reserved capacity as kinds of nodes, what would cost most otherwise first.
fn reserved(
    problem: &Problem,
    packer: &mut Packer<'_>,
    demands: &[Demand],
    items: &[Item],
    asked: &[usize],
) -> Vec<Paid> {
    let mut all = Vec::new();
    for one in Rc::clone(&packer.reserved).iter() {
        for shape in shapes(demands) {
            let Some(pinned) = packer.shapes.narrow(shape, one.pin) else { continue };
            for candidate in
                candidates(problem, packer, pinned, asked).into_iter().filter(|c| c.choice.kind == one.kind)
            {
                let fitting = fitting(packer, demands, items, &candidate);
                if !fitting.is_empty() {
                    let kind = Kind::new(candidate.room, 1.0, fitting);
                    all.push((kind, pinned, candidate.choice, one.reservation));
                }
            }
        }
    }
    all
}

/// What can be bought for these demands: kinds of nodes, each with the shape and type it stands for.
fn kinds(
    problem: &Problem,
    packer: &Packer<'_>,
    demands: &[Demand],
    items: &[Item],
    asked: &[usize],
) -> (Vec<Kind>, Vec<(ShapeId, Choice)>) {
    let mut all: Vec<Candidate> = Vec::new();
    for shape in shapes(demands).into_iter().filter(|shape| !packer.shapes.get(*shape).reserved) {
        all.extend(candidates(problem, packer, shape, asked));
    }
    let mut step = 1.0;
    loop {
        thin(&mut all, step);
        if step >= SIZE_STEP && all.len() * items.len() <= KINDS_TIMES_ITEMS || step > SIZE_STEP_MAX {
            break;
        }
        step *= SIZE_STEP;
    }
    let (mut kinds, mut choices): (Vec<Kind>, Vec<(ShapeId, Choice)>) = (Vec::new(), Vec::new());
    for candidate in all {
        let fitting = fitting(packer, demands, items, &candidate);
        if !fitting.is_empty() {
            kinds.push(Kind::new(candidate.room, candidate.price, fitting));
            choices.push((candidate.shape, candidate.choice));
        }
    }
    (kinds, choices)
}

/// Types of a shape come cheapest first: one that holds no more than an earlier one is never needed, nor one
/// that is larger by less than `step` and holds no more for the money: a node is bought as the cheapest type
/// that holds its pods, whatever it was meant to be.
fn thin(all: &mut Vec<Candidate>, step: f64) {
    let mut kept: Vec<Candidate> = Vec::new();
    for one in all.drain(..) {
        let needless = |known: &&Candidate| {
            let scale = if one.price <= known.price * step { one.price / known.price * SAME } else { 1.0 };
            known.room.iter().zip(&one.room).all(|(known, room)| known * scale >= *room)
        };
        let mut same_shape = kept.iter().rev().take_while(|known| known.shape == one.shape);
        if !same_shape.any(|known| needless(&known)) {
            kept.push(one);
        }
    }
    *all = kept;
}

#[expect(clippy::cast_precision_loss, reason = "amounts and prices are far below 2^52, and this is a hint")]
fn float(amount: impl TryInto<i64>) -> f64 {
    amount.try_into().map_or(f64::MAX, |amount| amount as f64)
}

/// A bought kind, its filling, and how often.
type Bought = (usize, Pattern, u32);

fn cheapest(items: &[Item], kinds: &mut [Kind], mut counts: Vec<u32>) -> Vec<Bought> {
    let mut singles = Vec::with_capacity(items.len());
    for (at, count) in counts.iter_mut().enumerate() {
        // What no kind can hold (it waits for reserved capacity) is left out.
        let found = single(items, kinds, at).filter(|_| *count > 0);
        let item = u32::try_from(at).unwrap_or_default();
        *count = found.as_ref().map_or(0, |_| *count);
        singles.push(found.unwrap_or(Column { kind: 0, pattern: vec![(item, 1)], price: 0.0 }));
    }
    if counts.iter().all(|pods| *pods == 0) {
        return Vec::new();
    }
    let mut master = Master::new(singles, &counts);
    let mut values = master.duals.clone();
    let alone = values.clone();
    let mut best = Plan { cost: f64::MAX, bought: Vec::new() };
    let mut filler = Filler::default();
    for round in 0..ROUNDS {
        let plan = buy(items, kinds, &values, counts.clone(), &mut filler);
        let columns: Vec<Column> = plan.bought.iter().map(|(kind, pattern, _)| column(kinds, *kind, pattern)).collect();
        best = best.min(plan);
        if !master.offer_once(&columns) {
            break;
        }
        if round > 0 && best.cost <= master.cost() * GOOD_ENOUGH {
            return best.bought;
        }
        master.offer_all(&columns);
        follow(&mut values, &master.duals);
    }
    let mut generated = 0;
    for _ in 0..GENERATIONS_MAX {
        let columns = generate(items, kinds, &values, &counts, &mut filler);
        generated += columns.len();
        if !master.offer_all(&columns) {
            let columns = generate(items, kinds, &master.duals, &counts, &mut filler);
            if !master.offer_all(&columns) {
                break;
            }
        }
        if generated >= GENERATED_MAX {
            break;
        }
        follow(&mut values, &master.duals);
    }
    for up in ROUND_UP {
        let (mut plan, left) = master.rounded(up, &counts);
        // What is in surplus is worth nothing to the program, but must be bought all the same.
        let worth = master.duals.iter().zip(&alone).map(|(dual, alone)| dual.max(alone * 0.01));
        let rest = buy(items, kinds, &worth.collect::<Vec<_>>(), left, &mut filler);
        plan.cost += rest.cost;
        plan.bought.extend(rest.bought);
        best = best.min(plan);
    }
    best.bought
}

/// What is bought, and for how much.
struct Plan {
    cost: f64,
    bought: Vec<Bought>,
}

impl Plan {
    fn min(self, other: Self) -> Self {
        if other.cost < self.cost { other } else { self }
    }
}

/// Values move towards the duals by a part of the way: duals jump from one program to the next (smoothing of
/// column generation).
fn follow(values: &mut [f64], duals: &[f64]) {
    for (value, dual) in values.iter_mut().zip(duals) {
        *value += STEP * (dual - *value);
    }
}

fn column(kinds: &[Kind], kind: usize, pattern: &Pattern) -> Column {
    Column { kind, pattern: pattern.clone(), price: kinds[kind].price }
}

/// For every kind the filling that is worth most at these duals, if it is worth its price.
fn generate(items: &[Item], kinds: &mut [Kind], duals: &[f64], counts: &[u32], filler: &mut Filler) -> Vec<Column> {
    let mut all = Vec::new();
    for at in 0..kinds.len() {
        if filler.bound(items, &mut kinds[at], duals, counts) > kinds[at].price {
            let (_, pattern) = filler.best(items, &mut kinds[at], duals, counts, Effort::Thorough);
            all.push(column(kinds, at, &pattern));
        }
    }
    all
}

/// The cheapest way to serve a demand with nodes of its own.
fn single(items: &[Item], kinds: &[Kind], at: usize) -> Option<Column> {
    let wanted = u32::try_from(at).ok()?;
    let ways = kinds.iter().enumerate().filter(|(_, kind)| kind.items.binary_search(&wanted).is_ok());
    let ways = ways.map(|(number, kind)| (number, kind.price, most(&items[at], &kind.room, items[at].count)));
    let (kind, price, pods) = ways.min_by(|a, b| (a.1 / f64::from(a.2)).total_cmp(&(b.1 / f64::from(b.2))))?;
    Some(Column { kind, pattern: vec![(wanted, pods)], price })
}

/// Buys the filling that is worth most per dollar until no pod of `left` is left.
fn buy(items: &[Item], kinds: &mut [Kind], values: &[f64], mut left: Vec<u32>, filler: &mut Filler) -> Plan {
    let mut waiting: u64 = left.iter().map(|n| u64::from(*n)).sum();
    let mut fillings: Vec<Option<Pattern>> = vec![None; kinds.len()];
    let mut queue: BinaryHeap<(u64, Reverse<usize>)> = BinaryHeap::with_capacity(kinds.len());
    for at in 0..kinds.len() {
        start_like_the_last(kinds, at);
        let bound = filler.bound(items, &mut kinds[at], values, &left);
        queue.push((order(bound / kinds[at].price), Reverse(at)));
    }
    let mut plan = Plan { cost: 0.0, bought: Vec::new() };
    while waiting > 0
        && let Some((_, Reverse(at))) = queue.pop()
    {
        let fresh = fillings[at].take().filter(|pattern| pattern.iter().all(|(item, n)| left[*item as usize] >= *n));
        if let Some(pattern) = fresh {
            let copies = pattern.iter().map(|(item, n)| left[*item as usize] / n).min().unwrap_or(0);
            for (item, n) in &pattern {
                left[*item as usize] -= n * copies;
                waiting -= u64::from(n * copies);
            }
            plan.cost += kinds[at].price * f64::from(copies);
            plan.bought.push((at, pattern, copies));
        }
        let (value, pattern) = filler.best(items, &mut kinds[at], values, &left, Effort::Quick);
        if !pattern.is_empty() {
            queue.push((order(value * CLOSE / kinds[at].price), Reverse(at)));
            fillings[at] = Some(pattern);
        }
    }
    plan
}

/// Positive floats order as their bits.
fn order(ratio: f64) -> u64 {
    ratio.max(0.0).to_bits()
}

/// Kinds of one shape come by price: what resources are worth hardly differs from one to the next.
fn start_like_the_last(kinds: &mut [Kind], at: usize) {
    let Some((last, rest)) = at.checked_sub(1).map(|before| kinds.split_at_mut(before + 1)) else { return };
    let (Some(last), Some(kind)) = (last.last(), rest.first_mut()) else { return };
    if last.searched && !kind.searched && last.room.len() == kind.room.len() {
        let scale = kind.price / last.price;
        kind.multipliers = last.multipliers.iter().map(|price| price * scale).collect();
    }
}
