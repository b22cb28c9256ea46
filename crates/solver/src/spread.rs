//! Topology spread: how many matching pods each domain holds, updated in place.
//!
//! Rule (Kubernetes, pod topology spread constraints): a pod may go to a domain if, counting it,
//! the domain holds at most `max_skew` more matching pods than the eligible domain with the
//! fewest; while there are fewer eligible domains than `min_domains`, that fewest is zero.

use crate::row::{Layout, Row};

/// One constraint, shared by the pods that state it alike.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The key whose values are the domains; `None`: each node is a domain (hostname).
    pub key: Option<usize>,
    pub max_skew: u32,
    pub min_domains: Option<u32>,
    /// Whether the pods it binds count themselves.
    pub counts_self: bool,
    /// Matching pods by bit of the key.
    pub counts: Vec<u32>,
    /// Matching pods by existing node, for hostname.
    pub on_nodes: Vec<u32>,
    /// Domains that exist at all: bits of the key.
    pub domains: Vec<usize>,
}

impl Spread {
    /// The domains a pod may go to among those `row` allows, fewest pods first.
    pub(crate) fn allowed(&self, layout: &Layout, key: usize, own: &Row, row: &Row) -> Vec<usize> {
        let eligible = || self.domains.iter().copied().filter(|bit| layout.has(own, key, *bit));
        let least = match self.min_domains {
            Some(wanted) if eligible().count() < wanted as usize => 0,
            _ => eligible().map(|bit| self.count(bit)).min().unwrap_or(0),
        };
        let own_count = u32::from(self.counts_self);
        let mut all: Vec<usize> = eligible()
            .filter(|bit| layout.has(row, key, *bit))
            .filter(|bit| (self.count(*bit) + own_count).saturating_sub(least) <= self.max_skew)
            .collect();
        all.sort_by_key(|bit| (self.count(*bit), *bit));
        all
    }

    /// A new node could always be added, so the emptiest hostname holds nothing.
    pub(crate) fn allows_host(&self, held: u32) -> bool {
        held + u32::from(self.counts_self) <= self.max_skew
    }

    pub(crate) fn count(&self, bit: usize) -> u32 {
        self.counts.get(bit).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, bit: usize) {
        if self.counts.len() <= bit {
            self.counts.resize(bit + 1, 0);
        }
        self.counts[bit] += 1;
    }
}
