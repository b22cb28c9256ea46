//! The plan: which nodes to buy for the pods that no existing node takes, as a hint to the packer.
//!
//! Pods that are alike become demands, (shape, type) pairs become kinds of nodes. Then, a few times:
//!
//! 1. *Fill and buy*: with a value for every demand, the kind whose best filling is worth most per
//!    dollar is bought, as often as the demand lasts, until nothing is left. Fillings are re-computed
//!    only when the demand they used has run out (a lazy greedy: worth only falls).
//! 2. *Re-price*: the fillings become columns of a covering linear program; its duals are what a pod of
//!    each demand really costs, and move the values for the next time.
//!
//! The cheapest of these plans is kept. Rules between pods are not looked at, but for limits per node;
//! the packer decides what is legal. Cost: rounds × (kinds + bought kinds) fillings, and O(demands²) per
//! column; demands beyond [`DEMANDS_MAX`] are left to the packer.

mod fill;
mod master;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use self::fill::{Filler, Item, Kind, Pattern, most};
use self::master::{Column, Master};
use crate::pack::{EVERYWHERE, Packer, Suggested};
use crate::problem::{Problem, Rule};
use crate::shape::{Choice, ShapeId, holds, room};

/// Rows of the linear program.
const DEMANDS_MAX: usize = 192;
/// Kinds of nodes considered.
const KINDS_MAX: usize = 4096;
/// A type that is dearer than another by less than this factor …
const SIZE_STEP: f64 = 1.1;
/// … and that holds, per dollar, at most so much more than that, is not considered.
const SAME: f64 = 1.01;
/// A filling is bought if none can be better by more than this factor.
const CLOSE: f64 = 1.003;
/// Plans bought before columns are generated.
const ROUNDS: usize = 4;
/// A plan within this factor of the linear program's cost is good enough.
const GOOD_ENOUGH: f64 = 1.002;
/// How often columns are generated for all kinds.
const GENERATIONS_MAX: usize = 24;
/// From which fraction on a basic column is bought once more.
const ROUND_UP: [f64; 3] = [1.0, 0.8, 0.6];
/// How far values move towards the duals between two plans.
const STEP: f64 = 0.3;

/// At most so many pods of a counter share a node.
type Group = Option<(usize, u32)>;

/// Suggests nodes to a packer that has filled the existing ones.
pub(crate) fn suggest(problem: &Problem, packer: &mut Packer<'_>) {
    let demands = demands(problem, packer);
    if demands.is_empty() {
        return;
    }
    let (items, mut kinds, choices) = kinds(problem, packer, &demands);
    let bought = cheapest(&items, &mut kinds);
    let mut bins: Vec<Suggested> = Vec::new();
    for (kind, pattern, copies) in bought {
        let (shape, choice) = choices[kind];
        let slots: Vec<(usize, u32)> = pattern.iter().map(|(item, pods)| (*item as usize, *pods)).collect();
        bins.extend(std::iter::repeat_n((shape, choice, slots), copies as usize));
    }
    packer.suggest(demands.len(), bins);
}

/// Pods that ask the same of the same pool.
struct Demand {
    shape: ShapeId,
    requests: Vec<i64>,
    count: u32,
    group: Group,
}

fn demands(problem: &Problem, packer: &mut Packer<'_>) -> Vec<Demand> {
    let mut waiting = vec![0_u32; problem.classes.len()];
    for (pod, class) in problem.pods.iter().enumerate() {
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
    if all.len() > DEMANDS_MAX {
        keep_largest(&mut all, packer);
    }
    all
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
        Rule::Spread { counter, .. } => Some((*counter, problem.counters[*counter].key?)),
        _ => None,
    });
    let Some((counter, key)) = spread else { return whole };
    let mut domains: Vec<(u32, usize)> = held[counter].take().unwrap_or_else(|| packer.held(counter));
    let mut shapes: FxHashMap<usize, (ShapeId, u32)> = FxHashMap::default();
    for (_, bit) in &domains {
        let pin = packer.pin(key, *bit);
        if let Some(pinned) = of.iter().find_map(|shape| packer.shapes.narrow(*shape, pin)) {
            shapes.insert(*bit, (pinned, 0));
        }
    }
    if shapes.is_empty() {
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

/// The demands with the most pods stay; the packer finds places for the others.
fn keep_largest(all: &mut Vec<Demand>, packer: &mut Packer<'_>) {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| (Reverse(all[*at].count), *at));
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
            let fits = |at: &usize| holds(problem, pool, of.types[*at], requests);
            let open = packer.limits[of.pool].1.is_none_or(|left| left > 0);
            if open && of.largest.iter().any(fits) {
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

#[expect(clippy::cast_precision_loss, reason = "amounts and prices are far below 2^52, and this is a hint")]
fn kinds(
    problem: &Problem,
    packer: &mut Packer<'_>,
    demands: &[Demand],
) -> (Vec<Item>, Vec<Kind>, Vec<(ShapeId, Choice)>) {
    // Resources that nobody asks for do not matter.
    let asked: Vec<usize> =
        (0..problem.resources()).filter(|at| demands.iter().any(|demand| demand.requests[*at] > 0)).collect();
    let needs = |demand: &Demand| asked.iter().map(|at| demand.requests[*at] as f64).collect();
    let items: Vec<Item> =
        demands.iter().map(|demand| Item { need: needs(demand), count: demand.count, group: demand.group }).collect();
    let mut shapes: Vec<ShapeId> = demands.iter().map(|demand| demand.shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let (mut kinds, mut choices): (Vec<Kind>, Vec<(ShapeId, Choice)>) = (Vec::new(), Vec::new());
    for id in shapes {
        let shape = std::rc::Rc::clone(packer.shapes.get(id));
        // A node of this shape takes every demand whose labels it meets already.
        let meets: Vec<u32> = (0..demands.len())
            .filter(|at| {
                let of = packer.shapes.get(demands[*at].shape);
                of.pool == shape.pool && shape.row.and(&of.row) == shape.row
            })
            .filter_map(|at| u32::try_from(at).ok())
            .collect();
        let pool = &problem.pools[shape.pool];
        let first = kinds.len();
        for choice in &shape.types {
            let all: Vec<i64> = room(problem, pool, *choice).collect();
            if all.iter().any(|room| *room < 0) || kinds.len() >= KINDS_MAX {
                continue;
            }
            let room: Vec<f64> = asked.iter().map(|at| all[*at] as f64).collect();
            let price = choice.price as f64;
            // Types come cheapest first: one that holds no more than an earlier one is never needed, nor
            // one that is a little larger and holds no more for the money: a node is bought as the
            // cheapest type that holds its pods, whatever it was meant to be.
            let needless = |known: &Kind| {
                let per_dollar = if price <= known.price * SIZE_STEP { price / known.price * SAME } else { 1.0 };
                known.room.iter().zip(&room).all(|(known, new)| known * per_dollar >= *new)
            };
            if kinds[first..].iter().any(needless) {
                continue;
            }
            let fits = |at: &u32| most(&items[*at as usize], &room, 1) > 0;
            let fitting: Vec<u32> = meets.iter().copied().filter(fits).collect();
            if fitting.is_empty() {
                continue;
            }
            let multipliers = vec![price / room.len() as f64; room.len()];
            kinds.push(Kind { room, price, items: fitting, multipliers, searched: false });
            choices.push((id, *choice));
        }
    }
    (items, kinds, choices)
}

/// A bought kind, its filling, and how often.
type Bought = (usize, Pattern, u32);

fn cheapest(items: &[Item], kinds: &mut [Kind]) -> Vec<Bought> {
    let singles: Option<Vec<Column>> = (0..items.len()).map(|at| single(items, kinds, at)).collect();
    // A demand that no kind can hold was left out before; if one is here all the same, there is no plan.
    let Some(singles) = singles else { return Vec::new() };
    let counts: Vec<u32> = items.iter().map(|item| item.count).collect();
    let mut master = Master::new(singles, &counts);
    let mut values = master.duals.clone();
    let alone = values.clone();
    let mut best = Plan { cost: f64::MAX, bought: Vec::new() };
    let mut filler = Filler::default();
    for round in 0..ROUNDS {
        let plan = buy(items, kinds, &values, counts.clone(), &mut filler);
        let columns: Vec<Column> = plan.bought.iter().map(|(kind, pattern, _)| column(kinds, *kind, pattern)).collect();
        best = best.min(plan);
        let entered = master.offer_all(&columns);
        if round > 0 && best.cost <= master.cost() * GOOD_ENOUGH {
            return best.bought;
        }
        if !entered {
            break;
        }
        follow(&mut values, &master.duals);
    }
    for _ in 0..GENERATIONS_MAX {
        let columns = generate(items, kinds, &values, &counts, &mut filler);
        if !master.offer_all(&columns) {
            let columns = generate(items, kinds, &master.duals, &counts, &mut filler);
            if !master.offer_all(&columns) {
                break;
            }
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
        if filler.bound(items, &kinds[at], duals, counts) > kinds[at].price {
            let (_, pattern) = filler.best(items, &mut kinds[at], duals, counts);
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
        let bound = filler.bound(items, &kinds[at], values, &left);
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
        let (value, pattern) = filler.best(items, &mut kinds[at], values, &left);
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
