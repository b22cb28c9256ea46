//! What is given.

use crate::row::{Layout, Row};
use crate::spread::Spread;

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
    pub spreads: Vec<Spread>,
    pub classes: Vec<Class>,
    /// Class of each pod, in the order in which they are placed.
    pub pods: Vec<usize>,
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
    pub price: u64,
}

/// Whence nodes are bought.
#[derive(Clone, Debug)]
pub struct Pool {
    pub row: Row,
    /// Taints of its nodes.
    pub taints: Vec<usize>,
    /// Types it may buy, with what daemons take of each.
    pub types: Vec<(usize, Vec<i64>)>,
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
    pub row: Row,
    pub taints: Vec<usize>,
    pub available: Vec<i64>,
}

/// Pods that are alike in everything that matters to placing.
#[derive(Clone, Debug)]
pub struct Class {
    pub requests: Vec<i64>,
    /// By taint: whether it is tolerated.
    pub tolerates: Vec<bool>,
    /// From the one with all preferences to the one with none; the first that fits is taken.
    pub alternatives: Vec<Alternative>,
    /// Spreads that count its pods.
    pub counted_by: Vec<usize>,
}

/// One way to read a pod's constraints.
#[derive(Clone, Debug)]
pub struct Alternative {
    pub row: Row,
    /// Spreads that bind it.
    pub spreads: Vec<usize>,
}
