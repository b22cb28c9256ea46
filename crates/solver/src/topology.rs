//! Topology: how many counted pods each domain holds, updated in place, and what the rules make of it.
//!
//! Where a new node's labels are open, it is not known whether a spread's filter lets its pods count, and both may come
//! true: such a pod counts for the domain it is in, and not for the least of all. That errs on the safe side alone: a
//! later pod may be kept off a domain that would have been open. To be exact the node would have to be narrowed, to what
//! passes or to what does not, and lose types that its own pods have no reason to refuse. It concerns pods that a
//! spread of *others*, with needs of their own, counts: a pod that its own spread counts is on a node that meets its
//! needs, and so passes.

use crate::problem::{Alternative, Problem, Rule};
use crate::row::{Layout, Row};

/// The state of one counter.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    /// By bit of the key.
    by_bit: Vec<u32>,
    /// Of these, pods on nodes that count whatever becomes of them: a spread's least is no more than that.
    surely: Vec<u32>,
    /// By bin, for hostname.
    by_bin: Vec<u32>,
    total: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Counts<'p> {
    problem: &'p Problem,
    all: Vec<Count>,
}

impl<'p> Counts<'p> {
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let count = |counter: &crate::problem::Counter| {
            let at = |of: &[u32], bit: usize| of.get(bit).copied().unwrap_or(0);
            let bits = 0..counter.counts.len().max(counter.open.len());
            let by_bit: Vec<u32> = bits.map(|bit| at(&counter.counts, bit) + at(&counter.open, bit)).collect();
            let total = if counter.key.is_some() { &by_bit } else { &counter.on_nodes };
            Count {
                total: total.iter().map(|n| u64::from(*n)).sum(),
                by_bit,
                surely: counter.counts.clone(),
                by_bin: counter.on_nodes.clone(),
            }
        };
        Self { problem, all: problem.counters.iter().map(count).collect() }
    }

    pub(crate) fn at_bit(&self, counter: usize, bit: usize) -> u32 {
        self.all[counter].by_bit.get(bit).copied().unwrap_or(0)
    }

    fn at_bin(&self, counter: usize, bin: usize) -> u32 {
        self.all[counter].by_bin.get(bin).copied().unwrap_or(0)
    }

    /// Whether a rule about single nodes lets a pod on this bin, and if not, whether that is for good:
    /// counts only grow, so a node that is too full stays so.
    pub(crate) fn host_allows(&self, rule: &Rule, bin: usize) -> Fit<()> {
        let held = self.at_bin(rule.counter(), bin);
        let (yes, for_good) = match rule {
            Rule::Spread { max_skew, counts_self, .. } => (held + u32::from(*counts_self) <= *max_skew, true),
            Rule::Apart { .. } => (held == 0, true),
            Rule::Together { .. } => (held > 0 || self.is_first(rule), false),
        };
        match (yes, for_good) {
            (true, _) => Fit::Yes(()),
            (false, true) => Fit::Never,
            (false, false) => Fit::NotNow,
        }
    }

    fn is_first(&self, rule: &Rule) -> bool {
        let Rule::Together { counter, counts_self: true, others } = rule else { return false };
        others.iter().chain([counter]).all(|counter| self.all[*counter].total == 0)
    }

    /// The domains of `key` that every rule of this alternative about it allows, the best first: fewest
    /// counted pods for a spread, most for an affinity. `None`: no rule is about this key.
    pub(crate) fn domains(&self, alternative: &Alternative, key: usize) -> Option<Vec<usize>> {
        let mut allowed: Option<Vec<(u32, usize)>> = None;
        for rule in &alternative.rules {
            let counter = rule.counter();
            if self.problem.counters[counter].key != Some(key) {
                continue;
            }
            let own = self.open(rule);
            allowed = Some(match allowed {
                None => own,
                Some(known) => known.into_iter().filter(|(_, bit)| own.iter().any(|(_, b)| b == bit)).collect(),
            });
        }
        let mut allowed = allowed?;
        allowed.sort_unstable();
        Some(allowed.into_iter().map(|(_, bit)| bit).collect())
    }

    /// The domains one rule allows, each with what makes it less welcome.
    fn open(&self, rule: &Rule) -> Vec<(u32, usize)> {
        let counter = rule.counter();
        let domains = || self.problem.counters[counter].domains.iter().map(|bit| (self.at_bit(counter, *bit), *bit));
        match rule {
            Rule::Spread { max_skew, min_domains, counts_self, .. } => {
                let surely = |bit: &usize| self.all[counter].surely.get(*bit).copied().unwrap_or(0);
                let least = match min_domains {
                    Some(wanted) if domains().count() < *wanted as usize => 0,
                    _ => self.problem.counters[counter].domains.iter().map(surely).min().unwrap_or(0),
                };
                let own = u32::from(*counts_self);
                domains().filter(|(held, _)| (held + own).saturating_sub(least) <= *max_skew).collect()
            }
            Rule::Together { .. } if self.is_first(rule) => domains().collect(),
            Rule::Together { .. } => {
                let surely = |bit: usize| self.all[counter].surely.get(bit).copied().unwrap_or(0);
                domains().filter(|(_, bit)| surely(*bit) > 0).map(|(held, bit)| (u32::MAX - held, bit)).collect()
            }
            Rule::Apart { .. } => domains().filter(|(held, _)| *held == 0).collect(),
        }
    }

    /// Whether a node that lacks the label `key` altogether may take the pod: it is in no domain.
    pub(crate) fn allows_no_domain(&self, alternative: &Alternative, key: usize) -> bool {
        let of_key = |rule: &&Rule| self.problem.counters[rule.counter()].key == Some(key);
        alternative.rules.iter().filter(of_key).all(|rule| matches!(rule, Rule::Apart { .. }))
    }

    /// Whether the rules about `key` let a pod into each of these domains; [`Layout::ABSENT`] is a node that is in none.
    pub(crate) fn allows(&self, alternative: &Alternative, key: usize, bits: impl IntoIterator<Item = usize>) -> bool {
        let Some(allowed) = self.domains(alternative, key) else { return true };
        bits.into_iter().all(|bit| match bit {
            Layout::ABSENT => self.allows_no_domain(alternative, key),
            bit => allowed.contains(&bit),
        })
    }

    /// A pod was placed on a bin with this row.
    pub(crate) fn add(&mut self, counter: usize, bin: usize, row: &Row, taints: &[usize]) {
        let of = &self.problem.counters[counter];
        if of.filter.as_ref().is_some_and(|filter| !filter.passes(&self.problem.layout, row, taints)) {
            return;
        }
        let surely = of.filter.as_ref().is_none_or(|filter| filter.surely_passes(row, taints));
        let count = &mut self.all[counter];
        let one_more = |cells: &mut Vec<u32>, at: usize| {
            if cells.len() <= at {
                cells.resize(at + 1, 0);
            }
            cells[at] += 1;
        };
        let layout = &self.problem.layout;
        match of.key.map(|key| (key, layout.single(row, key))) {
            None => one_more(&mut count.by_bin, bin),
            // A node without the label is in no domain.
            Some((_, Some(Layout::ABSENT))) => return,
            // It may turn out to be in any of these.
            Some((key, None)) => {
                for bit in of.domains.iter().filter(|bit| layout.has(row, key, **bit)) {
                    one_more(&mut count.by_bit, *bit);
                }
            }
            Some((_, Some(bit))) => {
                one_more(&mut count.by_bit, bit);
                if surely {
                    one_more(&mut count.surely, bit);
                }
            }
        }
        count.total += 1;
    }
}

/// May it, how, and if not, may it ever?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit<T> {
    Yes(T),
    NotNow,
    Never,
}
