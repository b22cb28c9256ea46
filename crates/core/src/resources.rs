//! Amounts by resource name: cpu in millicores, everything else in its base unit (bytes, pieces).
//!
//! Fractions of a base unit round up, as Kubernetes' scheduler does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

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
    /// Reads what is asked for. An amount that cannot be read, or is negative, counts as more than any node has: the
    /// object waits with a reason rather than being placed where it cannot run.
    pub fn from_quantities(list: &BTreeMap<String, Quantity>) -> Self {
        let read = |name: &str, text: &str| amount(name, text).filter(|amount| *amount >= 0).unwrap_or(i64::MAX);
        list.iter().map(|(name, quantity)| (name.clone(), read(name, &quantity.0))).collect()
    }

    /// Reads what there is. An amount that cannot be read is nothing.
    pub fn offered(list: &BTreeMap<String, Quantity>) -> Self {
        list.iter().map(|(name, quantity)| (name.clone(), amount(name, &quantity.0).unwrap_or(0))).collect()
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn set(&mut self, name: impl Into<String>, amount: i64) {
        self.0.insert(name.into(), amount);
    }

    /// A name is copied only where it is new: this is done for every pod of a round.
    fn change(&mut self, name: &String, to: impl Fn(i64) -> i64) {
        match self.0.get_mut(name) {
            Some(amount) => *amount = to(*amount),
            None => drop(self.0.insert(name.clone(), to(0))),
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.change(name, |sum| sum.saturating_add(*amount));
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.change(name, |rest| rest.saturating_sub(*amount));
        }
    }

    /// Element-wise maximum.
    pub fn max(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_insert(*amount);
            *most = (*most).max(*amount);
        }
    }

    /// Element-wise minimum.
    pub fn min(&mut self, other: &Self) {
        for (name, amount) in &mut self.0 {
            *amount = (*amount).min(other.get(name));
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

/// The amount of a quantity's text in the unit of its resource: millicores for cpu, whole units else, rounded up.
pub fn amount(resource: &str, text: &str) -> Option<i64> {
    let parsed =
        if resource == CPU { karpenter_api::quantity::milli(text) } else { karpenter_api::quantity::units(text) };
    parsed.ok()
}

/// An amount as the API has it.
pub fn quantity(resource: &str, amount: i64) -> karpenter_api::Quantity {
    let text = match resource {
        CPU => karpenter_api::quantity::format_milli(amount),
        MEMORY | EPHEMERAL_STORAGE => karpenter_api::quantity::format_bytes(amount),
        _ => amount.to_string(),
    };
    karpenter_api::Quantity::Text(text)
}

/// Whether a quantity is zero, or no quantity at all.
pub fn is_zero(quantity: &karpenter_api::Quantity) -> bool {
    quantity.milli().is_ok_and(|milli| milli == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_their_unit_and_rounded_up() {
        let cases = [
            ("cpu", "1", Some(1000)),
            ("cpu", "250m", Some(250)),
            ("cpu", "0.5", Some(500)),
            ("cpu", "1n", Some(1)),
            ("cpu", "2e3", Some(2_000_000)),
            ("memory", "1Gi", Some(1 << 30)),
            ("memory", "1.5Gi", Some(3 << 29)),
            ("memory", "128974848", Some(128_974_848)),
            ("memory", "129e6", Some(129_000_000)),
            ("memory", "129M", Some(129_000_000)),
            ("memory", "100m", Some(1)),
            ("memory", "1E", Some(1_000_000_000_000_000_000)),
            ("memory", "-1Ki", Some(-1024)),
            ("memory", "16Ei", Some(i64::MAX)),
            ("pods", "0", Some(0)),
            ("memory", "0e2150000000", Some(0)),
            ("memory", "", None),
            ("memory", "1Xi", None),
            ("memory", "1.2.3", None),
            ("memory", ".", None),
        ];
        for (resource, text, expected) in cases {
            assert_eq!(amount(resource, text), expected, "{resource} {text}");
        }
    }
}
