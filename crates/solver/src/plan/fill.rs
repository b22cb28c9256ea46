//! The most valuable filling of one node: a bounded knapsack with several resources.
//!
//! Lagrange multipliers, one per resource, price what a resource of this node is worth to the pods at
//! hand; pods are tried in the order of value per priced need, depth first, and a branch ends when the
//! rest of the room, at the best ratio that is left, cannot beat what is known (branch and bound, with
//! a budget of steps: the first dive is greedy, the rest improves on it).

/// Steps of one search: candidates tried or found not to fit.
const STEPS_MAX: usize = 800;
const STEPS_QUICK: usize = 300;
/// Of those that begin with one pod of a given candidate.
const STEPS_FROM_ONE: usize = 40;
/// Steps of the first search for multipliers of a kind, and of those that start from an earlier one.
const DESCENTS: u32 = 60;
const DESCENTS_AGAIN: u32 = 30;

/// Pods that are alike to the plan.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) need: Vec<f64>,
    pub(super) count: u32,
    /// At most so many pods of a group share a node.
    pub(super) group: Option<(usize, u32)>,
}

/// A node that can be bought.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) room: Vec<f64>,
    pub(super) price: f64,
    /// Items whose labels it meets and that fit alone.
    pub(super) items: Vec<u32>,
    /// Multipliers of the latest search, per capacity: where the next one starts.
    pub(super) multipliers: Vec<f64>,
    /// A search was made.
    pub(super) searched: bool,
}

impl Kind {
    pub(super) fn new(room: Vec<f64>, price: f64, items: Vec<u32>) -> Self {
        let share = price / f64::from(u32::try_from(room.len()).unwrap_or(u32::MAX));
        let multipliers = vec![share; room.len()];
        Self { room, price, items, multipliers, searched: false }
    }
}

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    Quick,
    Thorough,
}

/// (item, pods), and what they are worth.
pub(super) type Pattern = Vec<(u32, u32)>;

#[derive(Debug, Default)]
pub(super) struct Filler {
    candidates: Vec<Candidate>,
    /// By candidate and resource: the share of the node's room that one pod takes.
    shares: Vec<f64>,
    /// As `candidates`, in the order of their ratio: what one pod needs.
    needs: Vec<f64>,
    current: Pattern,
    best: Pattern,
    best_value: f64,
    in_group: Vec<u32>,
    rooms: Vec<f64>,
    /// By resource: what a whole room of it is worth per unit.
    unit_prices: Vec<f64>,
    steps: usize,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    item: u32,
    value: f64,
    most: u32,
    ratio: f64,
}

impl Filler {
    /// No filling of `kind` is worth more than this (the Lagrange bound).
    pub(super) fn bound(&mut self, items: &[Item], kind: &mut Kind, values: &[f64], left: &[u32]) -> f64 {
        self.collect(items, kind, values, left);
        self.find_multipliers(kind)
    }

    /// The best pattern found for `kind` when an item is worth `values` and `left` pods of it wait.
    pub(super) fn best(
        &mut self,
        items: &[Item],
        kind: &mut Kind,
        values: &[f64],
        left: &[u32],
        effort: Effort,
    ) -> (f64, Pattern) {
        let resources = kind.room.len();
        self.collect(items, kind, values, left);
        if self.candidates.is_empty() {
            return (0.0, Vec::new());
        }
        self.find_multipliers(kind);
        let floor = 1e-4 * kind.price;
        for (candidate, share) in self.candidates.iter_mut().zip(self.shares.chunks_exact(resources)) {
            let cost: f64 = share.iter().zip(&kind.multipliers).map(|(share, price)| share * price.max(floor)).sum();
            candidate.ratio = candidate.value / cost.max(f64::MIN_POSITIVE);
        }
        self.candidates.sort_unstable_by(|a, b| b.ratio.total_cmp(&a.ratio).then(a.item.cmp(&b.item)));
        self.needs.clear();
        for candidate in &self.candidates {
            self.needs.extend(&items[candidate.item as usize].need);
        }
        self.unit_prices.clear();
        let unit = |(room, price): (&f64, &f64)| if *room > 0.0 { price.max(floor) / room } else { 0.0 };
        self.unit_prices.extend(kind.room.iter().zip(&kind.multipliers).map(unit));
        self.current.clear();
        self.best.clear();
        self.best_value = 0.0;
        self.steps = match effort {
            Effort::Quick => STEPS_QUICK,
            Effort::Thorough => STEPS_MAX,
        };
        self.rooms.clear();
        self.rooms.extend(&kind.room);
        let group = |candidate: &Candidate| items[candidate.item as usize].group.map_or(0, |(group, _)| group + 1);
        self.in_group.clear();
        self.in_group.resize(self.candidates.iter().map(group).max().unwrap_or(0), 0);
        self.dive(items, resources, 0, 0.0);
        let others = if effort == Effort::Thorough { 1..self.candidates.len() } else { 0..0 };
        for first in others {
            self.start_with(items, resources, first);
        }
        self.best.sort_unstable();
        self.best.dedup_by(|again, known| {
            let same = again.0 == known.0;
            known.1 += if same { again.1 } else { 0 };
            same
        });
        (self.best_value, self.best.clone())
    }

    /// Searches on with one pod of a candidate set: the depth-first search hardly ever takes back its first choices.
    fn start_with(&mut self, items: &[Item], resources: usize, first: usize) {
        let candidate = self.candidates[first];
        let item = &items[candidate.item as usize];
        self.steps = STEPS_FROM_ONE;
        for (room, need) in self.rooms.iter_mut().zip(&item.need) {
            *room -= need;
        }
        self.candidates[first].most -= 1;
        if let Some((group, _)) = item.group {
            self.in_group[group] += 1;
        }
        self.current.push((candidate.item, 1));
        self.dive(items, resources, 0, candidate.value);
        self.current.pop();
        if let Some((group, _)) = item.group {
            self.in_group[group] -= 1;
        }
        self.candidates[first].most += 1;
        for (room, need) in self.rooms.iter_mut().zip(&item.need) {
            *room += need;
        }
    }

    fn collect(&mut self, items: &[Item], kind: &Kind, values: &[f64], left: &[u32]) {
        self.candidates.clear();
        self.shares.clear();
        for item in &kind.items {
            let at = *item as usize;
            if left[at] == 0 || values[at] <= 0.0 {
                continue;
            }
            let most = most(&items[at], &kind.room, left[at]);
            if most > 0 {
                self.candidates.push(Candidate { item: *item, value: values[at], most, ratio: 0.0 });
                let share = |(need, room): (&f64, &f64)| if *room > 0.0 { need / room } else { 0.0 };
                self.shares.extend(items[at].need.iter().zip(&kind.room).map(share));
            }
        }
    }

    /// Minimises the Lagrange bound by subgradient steps from the multipliers of the last search.
    fn find_multipliers(&mut self, kind: &mut Kind) -> f64 {
        let resources = kind.room.len();
        let mut at = kind.multipliers.clone();
        let mut gradient = vec![0.0; resources];
        let mut best = f64::MAX;
        let descents = if kind.searched { DESCENTS_AGAIN } else { DESCENTS };
        kind.searched = true;
        for descent in 0..descents {
            let mut bound = 0.0;
            for ((slope, room), price) in gradient.iter_mut().zip(&kind.room).zip(&at) {
                *slope = if *room > 0.0 { 1.0 } else { 0.0 };
                bound += price * *slope;
            }
            for (candidate, share) in self.candidates.iter().zip(self.shares.chunks_exact(resources)) {
                let cost: f64 = share.iter().zip(&at).map(|(share, price)| share * price).sum();
                if candidate.value > cost {
                    let most = f64::from(candidate.most);
                    bound += (candidate.value - cost) * most;
                    for (slope, share) in gradient.iter_mut().zip(share) {
                        *slope -= share * most;
                    }
                }
            }
            if bound < best {
                best = bound;
                kind.multipliers.clone_from(&at);
            }
            let norm: f64 = gradient.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
            if norm < 1e-9 {
                break;
            }
            let step = bound * 0.03 / (1.0 + 0.3 * f64::from(descent)) / norm;
            for (price, slope) in at.iter_mut().zip(&gradient) {
                *price = (*price - step * slope).max(0.0);
            }
        }
        best
    }

    fn dive(&mut self, items: &[Item], resources: usize, from: usize, value: f64) {
        if value > self.best_value + 1e-9 {
            self.best_value = value;
            self.best.clone_from(&self.current);
        }
        let base = self.rooms.len() - resources;
        let slack: f64 = self.rooms[base..].iter().zip(&self.unit_prices).map(|(left, price)| left * price).sum();
        for at in from..self.candidates.len() {
            let candidate = self.candidates[at];
            if self.steps == 0 || value + candidate.ratio * slack <= self.best_value + 1e-9 {
                return;
            }
            self.steps -= 1;
            let need = &self.needs[at * resources..(at + 1) * resources];
            if need.iter().zip(&self.rooms[base..]).any(|(need, room)| need > room) {
                continue;
            }
            let item = &items[candidate.item as usize];
            let mut most = most(item, &self.rooms[base..], candidate.most);
            if let Some((group, cap)) = item.group {
                most = most.min(cap.saturating_sub(self.in_group[group]));
            }
            for pods in (1..=most).rev() {
                if self.steps == 0 {
                    return;
                }
                self.steps -= 1;
                for resource in 0..resources {
                    let left = self.rooms[base + resource] - item.need[resource] * f64::from(pods);
                    self.rooms.push(left);
                }
                if let Some((group, _)) = item.group {
                    self.in_group[group] += pods;
                }
                self.current.push((candidate.item, pods));
                self.dive(items, resources, at + 1, value + candidate.value * f64::from(pods));
                self.current.pop();
                if let Some((group, _)) = item.group {
                    self.in_group[group] -= pods;
                }
                self.rooms.truncate(base + resources);
            }
        }
    }
}

/// How many pods of an item the room holds, up to `limit`.
pub(super) fn most(item: &Item, room: &[f64], limit: u32) -> u32 {
    let mut most = limit;
    if let Some((_, cap)) = item.group {
        most = most.min(cap);
    }
    for (need, room) in item.need.iter().zip(room) {
        if need * f64::from(most) > *room {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `most`")]
            {
                most = (room / need).max(0.0) as u32;
            }
        }
    }
    most
}
