//! What is given.

use std::sync::Arc;

use crate::row::{Layout, Row};

/// Everything a solution depends on. Amounts are vectors with one entry per resource, in the same
/// order everywhere.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    pub layout: Layout,
    pub types: Vec<InstanceType>,
    /// In the order in which they are tried.
    pub pools: Vec<Pool>,
    /// In the order in which they are filled.
    pub nodes: Vec<Node>,
    pub counters: Vec<Counter>,
    pub classes: Vec<Class>,
    /// Class of each pod, in the order in which they are placed.
    pub pods: Vec<usize>,
    /// Pods before a position given here are more important than those from it on. Ascending; none: all are alike.
    pub levels: Vec<usize>,
    /// By reservation of capacity: how many nodes it has left.
    pub reservations: Vec<u32>,
    /// By host port: the ports it cannot share a node with (itself included).
    pub port_conflicts: Vec<Vec<usize>>,
    /// By volume: the driver whose attach limit it counts for.
    pub volume_drivers: Vec<usize>,
    /// A pool's `min_values` that cannot be reached when a claim is opened are lowered, not refused.
    pub relax_min_values: bool,
}

impl Problem {
    /// Length of every vector of amounts.
    pub fn resources(&self) -> usize {
        let of_class = || self.classes.first().map(|class| class.requests.len());
        self.types.first().map(|kind| kind.capacity.len()).or_else(of_class).unwrap_or(0)
    }

    /// Keys that types or offerings say something about: of the others, what a row allows changes nothing of what can
    /// be had under it. O(types × keys).
    pub(crate) fn keys_of_types(&self) -> Vec<usize> {
        let mut spoken = vec![false; self.layout.keys()];
        for kind in &self.types {
            for (key, spoken) in spoken.iter_mut().enumerate() {
                *spoken |= !self.layout.is_open(&kind.row, key);
            }
            for (key, _) in kind.offerings.iter().flat_map(|offering| &offering.labels) {
                spoken[*key] = true;
            }
        }
        (0..spoken.len()).filter(|key| spoken[*key]).collect()
    }
}

/// A kind of node that can be bought.
#[derive(Clone, Debug)]
pub struct InstanceType {
    pub row: Row,
    pub capacity: Vec<i64>,
    pub allocatable: Vec<i64>,
    pub offerings: Vec<Offering>,
}

/// A way to buy it: available offerings only.
#[derive(Clone, Debug)]
pub struct Offering {
    /// (key, bit) of each label the offering settles: zone, capacity type, …
    pub labels: Vec<(usize, usize)>,
    /// 10⁻⁶ USD per hour.
    pub price: u64,
    /// Capacity that is paid for already, by number: each node of it takes one of what is left.
    pub reservation: Option<usize>,
}

/// Whence nodes are bought.
#[derive(Clone, Debug)]
pub struct Pool {
    pub row: Row,
    /// Taints of its nodes.
    pub taints: Vec<usize>,
    /// Types it may buy, ascending, each with the number of its entry in `overheads`. Shared by pools
    /// that are alike.
    pub types: Arc<[(usize, usize)]>,
    /// What daemons take of a type.
    pub overheads: Arc<[Vec<i64>]>,
    /// What it may still add, by resource; `None` is unlimited.
    pub limits: Vec<Option<i64>>,
    /// How many nodes it may still add.
    pub nodes_left: Option<i64>,
    /// Keys of which at least so many values must stay open.
    pub min_values: Vec<(usize, usize)>,
}

/// A node that exists or is on its way.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its labels. One on its way may still become any of what is allowed here: what is placed there must hold for all
    /// of them, and nothing narrows them.
    pub row: Row,
    pub taints: Vec<usize>,
    pub available: Vec<i64>,
    /// Host ports in use.
    pub ports: Vec<usize>,
    /// Volumes attached already, ascending.
    pub volumes: Vec<usize>,
    /// By driver: how many more volumes may be attached; a driver that is missing has no limit.
    pub volume_room: Vec<Option<i64>>,
}

/// Pods that are alike in everything that matters to placing.
#[derive(Clone, Debug)]
pub struct Class {
    pub requests: Vec<i64>,
    /// From the one with all preferences to the one with none; the first that fits is taken.
    pub alternatives: Vec<Alternative>,
    /// Counters that count its pods.
    pub counted_by: Vec<usize>,
    pub ports: Vec<usize>,
    pub volumes: Vec<usize>,
}

/// One way to read a pod's constraints.
#[derive(Clone, Debug)]
pub struct Alternative {
    pub row: Row,
    /// Where its volumes can be attached: any of these; none if it has no say. They narrow the node,
    /// not the domains that spreads look at.
    pub homes: Vec<Row>,
    /// By taint: whether it is tolerated.
    pub tolerates: Vec<bool>,
    pub rules: Vec<Rule>,
}

/// Pods counted by domain: the values of a label key, or single nodes.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The key whose values are the domains; `None`: each node is a domain (hostname).
    pub key: Option<usize>,
    /// Pods counted so far, by bit of the key.
    pub counts: Vec<u32>,
    /// Pods on nodes that may come to be in any of several domains, or not to count: by each of these.
    pub open: Vec<u32>,
    /// Pods counted so far, by existing node, for hostname.
    pub on_nodes: Vec<u32>,
    /// Domains that exist at all: bits of the key, ascending.
    pub domains: Vec<usize>,
    /// Nodes whose pods count; `None`: all.
    pub filter: Option<Filter>,
}

/// A spread's `nodeAffinityPolicy` and `nodeTaintsPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The node must meet one of these; none listed: any node.
    pub rows: Vec<Row>,
    /// By taint: whether the node may have it.
    pub tolerates: Vec<bool>,
}

impl Filter {
    /// Whether pods on a node with this row and these taints count.
    pub fn passes(&self, layout: &Layout, row: &Row, taints: &[usize]) -> bool {
        (self.rows.is_empty() || self.rows.iter().any(|one| layout.intersects(one, row)))
            && taints.iter().all(|taint| self.tolerates[*taint])
    }

    /// Whether they do whatever becomes of what is still open in the row.
    pub fn surely_passes(&self, row: &Row, taints: &[usize]) -> bool {
        (self.rows.is_empty() || self.rows.iter().any(|one| row.is_within(one)))
            && taints.iter().all(|taint| self.tolerates[*taint])
    }
}

/// What the pods counted in a domain say about one more pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Counting the pod, a domain may hold at most `max_skew` more than the eligible domain with the
    /// fewest; while fewer than `min_domains` are eligible, that fewest is zero (Kubernetes, pod
    /// topology spread constraints).
    Spread { counter: usize, max_skew: u32, min_domains: Option<u32>, counts_self: bool },
    /// The domain must hold a counted pod; if none does anywhere, nor any of the `others`, the counters of the same
    /// affinity's other terms, a pod that counts itself may be the first (Kubernetes, inter-pod affinity).
    Together { counter: usize, counts_self: bool, others: Vec<usize> },
    /// The domain must hold no counted pod.
    Apart { counter: usize },
}

impl Rule {
    pub fn counter(&self) -> usize {
        match self {
            Self::Spread { counter, .. } | Self::Together { counter, .. } | Self::Apart { counter } => *counter,
        }
    }
}
