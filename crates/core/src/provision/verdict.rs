//! Why a pod has no place: a value; its one-line form is the pod's event.

use std::fmt;

use karpenter_solver::Removed;

/// NodePools named in one line; the rest are counted.
const POOLS_TOLD_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod's own spec, or a volume claim of it, is wrong: field, found, expected.
    Invalid(String),
    /// There is no NodePool that is ready.
    NoPools,
    /// By NodePool, in the order tried.
    ByPool(Vec<(String, Reason)>),
}

/// Why one NodePool cannot host the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Taint(String),
    Label {
        key: String,
        asked: String,
    },
    /// No domain of this key is open under the pod's spreads and affinities.
    Topology(String),
    /// The pod's volumes can be attached nowhere the nodepool has nodes: the key that says so.
    Volume(String),
    NodeLimit,
    MinValues(String),
    Types {
        removed: Removed,
        of: usize,
        asked: String,
        most: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problem) => write!(f, "the pod cannot be planned: {problem}"),
            Self::NoPools => f.write_str("no nodepool is ready"),
            Self::ByPool(pools) => {
                for (at, (pool, reason)) in pools.iter().take(POOLS_TOLD_MAX).enumerate() {
                    let comma = if at > 0 { "; " } else { "" };
                    write!(f, "{comma}incompatible with nodepool {pool:?}: {reason}")?;
                }
                match pools.len().saturating_sub(POOLS_TOLD_MAX) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more nodepools"),
                }
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taint(taint) => write!(f, "did not tolerate taint {taint}"),
            Self::Label { key, asked } => {
                write!(f, "label {key:?}: the pod asks for {asked}, the nodepool has none of it")
            }
            Self::Topology(key) => write!(f, "no domain of {key:?} is open under its spreads and affinities"),
            Self::Volume(key) => write!(f, "its volumes allow no {key:?} that the nodepool has"),
            Self::NodeLimit => f.write_str("its limit of nodes is reached"),
            Self::MinValues(key) => {
                write!(f, "fewer values of {key:?} are left than its minValues")
            }
            Self::Types { removed, of, asked, most } => {
                write!(f, "no instance type is left of {of}")?;
                for (count, what) in [
                    (removed.requirements, "by requirements"),
                    (removed.resources, "by resources"),
                    (removed.offerings, "by offerings not available"),
                    (removed.limits, "by the nodepool's limits"),
                ] {
                    if count > 0 {
                        write!(f, ", {count} removed {what}")?;
                    }
                }
                if removed.resources > 0 {
                    write!(f, " (asked for {asked}; the largest has {most})")?;
                }
                Ok(())
            }
        }
    }
}
