//! Amounts by resource name: cpu in millicores, everything else in its base unit (bytes, pieces).
//!
//! Fractions of a base unit round up, as Kubernetes' scheduler does.

use std::collections::BTreeMap;

/// Amounts by resource name. A resource that is absent is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(pub BTreeMap<String, i64>);

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const PODS: &str = "pods";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// Not a kubelet resource: NodePool limits count nodes under this name.
pub const NODES: &str = "nodes";

impl Resources {
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn set(&mut self, name: impl Into<String>, amount: i64) {
        self.0.insert(name.into(), amount);
    }

    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_insert(0);
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Element-wise maximum.
    pub fn max(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_insert(*amount);
            *most = (*most).max(*amount);
        }
    }

    /// Whether every amount asked for is there.
    pub fn fits(&self, available: &Self) -> bool {
        self.0.iter().all(|(name, amount)| *amount <= 0 || *amount <= available.get(name))
    }
}

impl<N: Into<String>> FromIterator<(N, i64)> for Resources {
    fn from_iter<T: IntoIterator<Item = (N, i64)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, amount)| (name.into(), amount)).collect())
    }
}
