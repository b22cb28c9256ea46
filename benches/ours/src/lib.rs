//! What both schedulers read and what each prints: the contract of `cargo xtask bench scheduling`.
//!
//! `benches/README.md` describes the format; `benches/karpenter` has the same in Go.

mod cloud;
mod input;
mod plan;

use serde::{Deserialize, Serialize};

pub use cloud::FixedCloud;
pub use input::{Input, OfferingRow, PodGroup, TypeRow, split_mix};
pub use plan::run;

/// What one side prints, as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The decision alone.
    pub seconds: f64,
    /// Taking in the pods (ours), or topology and scheduler (Karpenter's).
    pub setup_seconds: f64,
    pub nodes: usize,
    /// Every new node at its cheapest available offering.
    pub usd_per_hour: f64,
    /// The most memory the process ever held, in 10⁶ bytes.
    pub peak_mb: f64,
    pub unscheduled: usize,
    /// Instance types left to choose from at launch, per node.
    pub types_min: usize,
    pub types_median: usize,
    /// Given up: no other figure counts.
    #[serde(default)]
    pub timed_out: bool,
}
