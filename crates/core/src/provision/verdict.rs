//! Why a pod has no place: a tree, NodePool → constraint → how many instance types it removed. Its one-line form is the
//! pod's event.
//!
//! It is bounded, whatever the cluster holds: NodePools with the same reason share a branch, beyond [`BRANCHES_MAX`]
//! branches, [`POOLS_MAX`] names and [`CONSTRAINTS_MAX`] constraints the rest is counted, and words are cut.

use std::fmt;
use std::sync::Arc;

/// Reasons told; NodePools with others are counted.
pub(super) const BRANCHES_MAX: usize = 5;
/// NodePools named under one reason.
pub(super) const POOLS_MAX: usize = 3;
/// Constraints told of one NodePool.
pub(super) const CONSTRAINTS_MAX: usize = 4;
/// Bytes of one word: a name, a list of values.
const WORD_MAX: usize = 120;
/// Bytes of the one-line form: an event's message holds as many.
const LINE_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod's own spec, or a volume claim of it, is wrong: field, found, expected.
    Invalid(String),
    /// There is no NodePool that takes pods.
    NoPools,
    /// A node was planned, of capacity that was refused lately and that another NodeClaim tries first.
    Trial(String),
    /// Pods that are alike share it.
    ByPool(Arc<Tree>),
}

/// Every NodePool is in one branch, or counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In the order in which the first NodePool of each is tried.
    pub branches: Vec<Branch>,
    /// NodePools with reasons that are not told.
    pub more: usize,
}

/// NodePools that cannot host the pod for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The first of them, by name.
    pub pools: Vec<String>,
    /// How many there are beside.
    pub more: usize,
    pub reason: Reason,
}

/// Why a NodePool cannot host the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It can host no pod at all now.
    Barren(String),
    /// A taint that is not tolerated.
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
        /// How many instance types each constraint removed, most first.
        removed: Vec<(Constraint, usize)>,
        /// Removed by further constraints.
        more: usize,
        of: usize,
    },
    /// Nothing that could be named: other pods of the round were there first.
    Crowded,
}

/// What removes instance types from a NodePool's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    Label {
        key: String,
        asked: String,
    },
    Offering,
    Resource {
        name: String,
        asked: String,
        most: String,
    },
    /// A host port that a daemon takes.
    Port(String),
    Limit(String),
}

impl Tree {
    /// Adds a reason with the NodePools it is true of.
    pub(super) fn add<'a>(
        &mut self,
        mut pools: impl ExactSizeIterator<Item = &'a str>,
        reason: impl FnOnce() -> Reason,
    ) {
        let count = pools.len();
        if self.branches.len() >= BRANCHES_MAX {
            self.more += count;
            return;
        }
        let named: Vec<String> = pools.by_ref().take(POOLS_MAX).map(cut).collect();
        self.branches.push(Branch { more: count - named.len(), pools: named, reason: reason() });
    }
}

/// At most so much of a word.
pub(super) fn cut(word: impl Into<String>) -> String {
    cut_to(word.into(), WORD_MAX)
}

fn cut_to(mut word: String, most: usize) -> String {
    const MORE: char = '…';
    if word.len() > most {
        let end = (0..=most - MORE.len_utf8()).rev().find(|at| word.is_char_boundary(*at)).unwrap_or(0);
        word.truncate(end);
        word.push(MORE);
    }
    word
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Self::Invalid(problem) => format!("the pod cannot be planned: {problem}"),
            Self::NoPools => "there is no nodepool that takes pods".to_owned(),
            Self::Trial(capacity) => format!("another NodeClaim tries {capacity} again, which was refused lately"),
            Self::ByPool(tree) => tree.to_string(),
        };
        f.write_str(&cut_to(line, LINE_MAX))
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, branch) in self.branches.iter().enumerate() {
            let semicolon = if at > 0 { "; " } else { "" };
            write!(f, "{semicolon}{branch}")?;
        }
        if self.more > 0 {
            write!(f, "; and {} more nodepools for other reasons", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = if self.pools.len() + self.more > 1 { "s" } else { "" };
        write!(f, "incompatible with nodepool{several} ")?;
        for (at, pool) in self.pools.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{pool:?}")?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Barren(problem) => f.write_str(problem),
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
            Self::Types { removed, more, of } => {
                write!(f, "no instance type is left of {of}")?;
                for (constraint, count) in removed {
                    write!(f, ", {count} removed by {constraint}")?;
                }
                if *more > 0 {
                    write!(f, ", {more} by other constraints")?;
                }
                Ok(())
            }
            Self::Crowded => f.write_str("other pods took what would have held it"),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { key, asked } => write!(f, "requirements ({key:?}: {asked})"),
            Self::Offering => f.write_str("offerings not available"),
            Self::Resource { name, asked, most } => {
                write!(f, "resources ({name}: asked for {asked}, the largest has {most})")
            }
            Self::Port(name) => write!(f, "a daemon that takes {name}"),
            Self::Limit(name) => write!(f, "the nodepool's limits ({name})"),
        }
    }
}
