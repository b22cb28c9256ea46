//! The most valuable filling of one node: a bounded knapsack with several resources.
//!
//! Lagrange multipliers, one per resource, price what a resource of this node is worth to the pods at
//! hand; pods are tried in the order of value per priced need, depth first, and a branch ends when the
//! rest of the room, at the best ratio that is left, cannot beat what is known (branch and bound, with
//! a budget of steps: the first dive is greedy, the rest improves on it).

/// Steps of one search.
const STEPS_MAX: usize = 400;
/// Steps of the search for multipliers.
const DESCENTS: u32 = 25;

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
}

/// (item, pods), and what they are worth.
pub(super) type Pattern = Vec<(u32, u32)>;

#[derive(Debug, Default)]
pub(super) struct Filler {
    candidates: Vec<Candidate>,
    shares: Vec<f64>,
    current: Pattern,
    best: Pattern,
    best_value: f64,
    in_group: Vec<u32>,
    rooms: Vec<f64>,
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
    /// The best pattern found for `kind` when an item is worth `values` and `left` pods of it wait.
    pub(super) fn best(&mut self, items: &[Item], kind: &mut Kind, values: &[f64], left: &[u32]) -> (f64, Pattern) {
        let resources = kind.room.len();
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
        if self.candidates.is_empty() {
            return (0.0, Vec::new());
        }
        self.find_multipliers(kind);
        for (candidate, share) in self.candidates.iter_mut().zip(self.shares.chunks_exact(resources)) {
            let floor = 1e-4 * kind.price;
            let cost: f64 = share.iter().zip(&kind.multipliers).map(|(share, price)| share * price.max(floor)).sum();
            candidate.ratio = candidate.value / cost.max(f64::MIN_POSITIVE);
        }
        self.candidates.sort_unstable_by(|a, b| b.ratio.total_cmp(&a.ratio).then(a.item.cmp(&b.item)));
        self.current.clear();
        self.best.clear();
        self.best_value = 0.0;
        self.steps = STEPS_MAX;
        self.rooms.clear();
        self.rooms.extend(&kind.room);
        let groups = items.iter().filter_map(|item| item.group).map(|(group, _)| group + 1).max().unwrap_or(0);
        self.in_group.clear();
        self.in_group.resize(groups, 0);
        self.dive(items, kind, 0, 0.0);
        (self.best_value, self.best.clone())
    }

    /// Minimises the Lagrange bound by subgradient steps from the multipliers of the last search.
    fn find_multipliers(&mut self, kind: &mut Kind) {
        let resources = kind.room.len();
        let mut at = kind.multipliers.clone();
        let mut gradient = vec![0.0; resources];
        let mut best = f64::MAX;
        for descent in 0..DESCENTS {
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
    }

    fn dive(&mut self, items: &[Item], kind: &Kind, from: usize, value: f64) {
        if value > self.best_value + 1e-9 {
            self.best_value = value;
            self.best.clone_from(&self.current);
        }
        let resources = kind.room.len();
        let base = self.rooms.len() - resources;
        let floor = 1e-4 * kind.price;
        let slack: f64 = self.rooms[base..]
            .iter()
            .zip(&kind.room)
            .zip(&kind.multipliers)
            .map(|((left, room), price)| if *room > 0.0 { left / room * price.max(floor) } else { 0.0 })
            .sum();
        for at in from..self.candidates.len() {
            let candidate = self.candidates[at];
            if self.steps == 0 || value + candidate.ratio * slack <= self.best_value + 1e-9 {
                return;
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
                self.dive(items, kind, at + 1, value + candidate.value * f64::from(pods));
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
        if *need > 0.0 {
            let fit = room / need;
            if fit < f64::from(most) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `most`")]
                {
                    most = fit.max(0.0) as u32;
                }
            }
        }
    }
    most
}
