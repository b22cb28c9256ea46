//! The passes over all pods, in their order: each places those that it is for.

use super::{List, Packer, planned_requests};
use crate::bin::{Bin, Open};
use crate::plan::Suggestion;

impl Packer<'_> {
    /// Bins that the plan would like to buy: shape, type, and how many pods of which demand. Says whether the limits of
    /// their pools can pay for all of them; if not, those are bought that a pod asks for first.
    pub(crate) fn suggest(&mut self, suggestion: Suggestion) -> bool {
        self.planned = vec![Vec::new(); suggestion.demands.len()];
        self.cursors.values_mut().for_each(|cursors| cursors.planned = 0);
        let limits = self.limits.clone();
        let mut whole = true;
        for (shape, meant, hold, slots) in suggestion.bins {
            let requests = planned_requests(self.problem.resources(), &suggestion.demands, &slots);
            let open = self.open_for(shape, &requests, Some(meant), hold);
            let pool = self.shapes.get(shape).pool;
            whole &= self.may_open(pool, &open);
            self.pay(pool, &open);
            for (demand, _) in &slots {
                self.planned[*demand].push(self.bins.len());
            }
            self.bins.push(Bin::to_buy(self.problem, open, slots));
        }
        // They are charged when they are bought.
        self.limits = limits;
        whole
    }

    /// What the planned bins from number `from` on that are bought were to cost.
    pub(crate) fn planned_price(&self, from: usize) -> u64 {
        let bought = self.bins[from..].iter().filter(|bin| !bin.pods.is_empty()).filter_map(|bin| bin.open.as_ref());
        let prices = bought.filter(|open| open.hold.is_none()).filter_map(|open| Some(open.meant?.price));
        prices.fold(0, u64::saturating_add)
    }

    /// Places on existing nodes what fits there as its first alternative asks.
    pub(crate) fn fill_nodes(&mut self) {
        for pod in 0..self.end {
            let class = self.problem.pods[pod];
            let waits = self.bin_of[pod].is_none() && !self.problem.classes[class].alternatives.is_empty();
            if waits && !self.problem.nodes.is_empty() {
                self.search(pod, class, 0, List::Nodes);
            }
        }
    }

    /// Places pods where the plan has slots for them. Pods with rules take whatever place they find,
    /// since the next of them depends on it; the others wait, so as not to take planned room. Unless this is the `last`
    /// plan, nobody buys a node that is in none.
    pub(crate) fn fill_planned(&mut self, last: bool) {
        for pod in 0..self.end {
            let class = self.problem.pods[pod];
            if self.bin_of[pod].is_some() || self.demand_of[class].is_empty() {
                continue;
            }
            let free = self.problem.classes[class].alternatives.iter().all(|of| of.rules.is_empty());
            if free {
                self.search(pod, class, 0, List::Planned);
            } else {
                self.place(pod, class, last);
            }
        }
    }

    /// Places pods without rules of their own beside those that are placed.
    pub(crate) fn fill_opened(&mut self) {
        for pod in 0..self.end {
            let class = self.problem.pods[pod];
            let alternatives = &self.problem.classes[class].alternatives;
            if self.bin_of[pod].is_none() && alternatives.first().is_some_and(|of| of.rules.is_empty()) {
                self.search(pod, class, 0, List::Opened);
            }
        }
    }

    /// Places every pod that has no place yet, again and again while that gets further.
    pub(crate) fn fill(&mut self) {
        let mut waiting: Vec<usize> = (0..self.end).filter(|pod| self.bin_of[*pod].is_none()).collect();
        // Pods that bind others wait for the others: rules look at what is placed.
        loop {
            let before = waiting.len();
            // By class: nothing was placed since a pod of it found no place.
            let mut stuck: Vec<usize> = vec![usize::MAX; self.problem.classes.len()];
            let mut placed = 0;
            waiting.retain(|pod| {
                let class = self.problem.pods[*pod];
                if stuck[class] == placed {
                    return true;
                }
                let found = self.place(*pod, class, true);
                if found {
                    placed += 1;
                } else {
                    stuck[class] = placed;
                }
                !found
            });
            if waiting.is_empty() || waiting.len() == before {
                return;
            }
        }
    }

    /// Rather than that a pod has no place, a node may come to be dearer than it was meant to be, as far as what is charged
    /// for it to its pool's limits allows.
    pub(crate) fn fill_dearer(&mut self) {
        if self.bin_of.iter().all(Option::is_some) {
            return;
        }
        let is_limited = |open: &&mut Open| open.most.is_some() && open.hold.is_none();
        let limited = self.bins.iter_mut().filter_map(|bin| bin.open.as_mut()).filter(is_limited);
        if limited.filter_map(|open| open.meant.take()).count() == 0 {
            return;
        }
        self.cursors.clear();
        self.ready.iter_mut().flatten().for_each(|ready| ready.exhausted = false);
        self.fill();
    }
}
