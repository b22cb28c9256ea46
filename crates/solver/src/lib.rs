//! Bin packing on interned tables: which pods go where, and which nodes to buy.
//!
//! ```text
//! Problem ─▶ plan (what to buy, cheapest; a hint) ─▶ pack (every pod, exactly) ─▶ Solution ─▶ check: is it legal?
//! ```
//!
//! Nothing here knows Kubernetes: a label is a [`Row`] of bits, an amount an integer, a name an
//! index. Deterministic: the same problem gives the same solution, ties go to the lowest index.
//!
//! How price, number of nodes and flexibility are traded: [`solve`].
//!
//! What is interned: label keys and values (bits), rows, *shapes* (a pool with what its node's labels
//! may still be), *classes* of pods that are alike, *demands* of classes that are alike to the plan.
//! What is a bit set: the allowed values of every key; narrowing is AND, a conflict an empty run. What
//! is recomputed when a pod is added: the sums of one bin and the counts of the domains it is in.

mod bin;
mod check;
mod pack;
mod plan;
mod problem;
mod row;
mod shape;
mod solution;
mod topology;
mod verdict;

pub use check::Illegal;
pub use problem::{Alternative, Class, Counter, Filter, InstanceType, Node, Offering, Pool, Problem, Rule};
pub use row::{Layout, Row};
pub use solution::{Claim, Place, Solution, solve};
pub use verdict::{Constraint, PoolVerdict, Verdicts};
