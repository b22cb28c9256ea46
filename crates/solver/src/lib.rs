//! Bin packing on interned tables: which pods go where, and which nodes to buy.
//!
//! ```text
//! Problem (layout, types, pools, nodes, spreads, classes, pods) ─▶ solve ─▶ Solution (places, claims, verdicts)
//!                                                                              └─▶ check: is it legal?
//! ```
//!
//! Nothing here knows Kubernetes: a label is a [`Row`] of bits, an amount an integer, a name an
//! index. Deterministic: the same problem gives the same solution, ties go to the lowest index.

mod check;
mod pack;
mod problem;
mod row;
mod spread;

pub use check::Illegal;
pub use pack::{Claim, Place, PoolVerdict, Removed, Solution, solve};
pub use problem::{Alternative, Class, InstanceType, Node, Offering, Pool, Problem};
pub use row::{Layout, Row};
pub use spread::Spread;
