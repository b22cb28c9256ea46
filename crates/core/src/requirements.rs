//! The algebra of label requirements, on words: one [`Requirement`] is a set of label values.
//!
//! A set is either the listed values (`In`, `DoesNotExist` = none) or everything but the listed
//! values (`NotIn`, `Exists` = all but none), optionally bounded to integers in `[gte, lte]`; and a node
//! without the label is in it (`NotIn`, `DoesNotExist`) or not.
//! Semantics: Kubernetes node-affinity operators, plus Gte and Lte as Karpenter's API has them.
//! The solver has the same algebra on interned bit sets; a property test holds the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The values a label may take. `min_values` rides along: it constrains choice, not membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Requirement {
    /// True: every value except `values`. False: exactly `values`.
    pub complement: bool,
    pub values: BTreeSet<String>,
    pub gte: Option<i64>,
    pub lte: Option<i64>,
    pub min_values: Option<u32>,
    /// A node must have the label, whatever else is asked of it.
    pub must_exist: bool,
}

impl Requirement {
    pub fn one_of<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        let values: BTreeSet<String> = values.into_iter().map(Into::into).collect();
        Self { must_exist: !values.is_empty(), values, ..Self::default() }
    }

    pub fn none_of<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        let listed = Self::one_of(values);
        Self { complement: true, must_exist: listed.values.is_empty(), ..listed }
    }

    pub fn exists() -> Self {
        Self { complement: true, must_exist: true, ..Self::default() }
    }

    pub fn does_not_exist() -> Self {
        Self::default()
    }

    /// No node satisfies it, with or without the label.
    pub fn nothing() -> Self {
        Self { must_exist: true, ..Self::default() }
    }

    pub fn at_least(bound: i64) -> Self {
        Self { gte: Some(bound), ..Self::exists() }
    }

    pub fn at_most(bound: i64) -> Self {
        Self { lte: Some(bound), ..Self::exists() }
    }

    /// `Gt n` is `Gte n+1`; nothing is greater than the greatest integer.
    pub fn greater_than(bound: i64) -> Self {
        bound.checked_add(1).map_or_else(Self::nothing, Self::at_least)
    }

    /// `Lt n` is `Lte n-1`.
    pub fn less_than(bound: i64) -> Self {
        bound.checked_sub(1).map_or_else(Self::nothing, Self::at_most)
    }

    /// The set an API requirement describes. A bound that is no integer can never be met.
    pub fn from_spec(spec: &karpenter_api::RequirementSpec) -> Self {
        use karpenter_api::Operator;
        let values = spec.values.clone().unwrap_or_default();
        let bounded = |make: fn(i64) -> Self| {
            values.first().and_then(|value| value.parse().ok()).map_or_else(Self::nothing, make)
        };
        let set = match spec.operator {
            Operator::Gt => bounded(Self::greater_than),
            Operator::Lt => bounded(Self::less_than),
            Operator::Gte => bounded(Self::at_least),
            Operator::Lte => bounded(Self::at_most),
            Operator::In if values.is_empty() => Self::nothing(),
            Operator::In => Self::one_of(values),
            Operator::NotIn => Self { must_exist: false, ..Self::none_of(values) },
            Operator::Exists => Self::exists(),
            Operator::DoesNotExist => Self::does_not_exist(),
        };
        Self { min_values: spec.min_values.and_then(|n| u32::try_from(n).ok()), ..set }
    }

    pub fn has(&self, value: &str) -> bool {
        self.values.contains(value) != self.complement && self.within_bounds(value)
    }

    /// No value satisfies it: a node without the label does, if any.
    pub fn has_no_value(&self) -> bool {
        !self.complement && self.values.is_empty()
    }

    /// The operators that a missing label satisfies: `NotIn` and `DoesNotExist`.
    pub fn allows_absence(&self) -> bool {
        !self.must_exist
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let gte = self.gte.max(other.gte);
        let lte = match (self.lte, other.lte) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let min_values = self.min_values.max(other.min_values);
        let must_exist = self.must_exist || other.must_exist;
        if let (Some(low), Some(high)) = (gte, lte)
            && low > high
        {
            return Self { min_values, must_exist, ..Self::default() };
        }
        let bounds = Self { complement: true, gte, lte, ..Self::default() };
        let keep = |values: BTreeSet<String>| Self {
            values: values.into_iter().filter(|v| bounds.within_bounds(v)).collect(),
            min_values,
            must_exist,
            ..Self::default()
        };
        match (self.complement, other.complement) {
            (true, true) => Self {
                complement: true,
                values: self.values.union(&other.values).cloned().collect(),
                gte,
                lte,
                min_values,
                must_exist,
            },
            (true, false) => keep(other.values.difference(&self.values).cloned().collect()),
            (false, true) => keep(self.values.difference(&other.values).cloned().collect()),
            (false, false) => keep(self.values.intersection(&other.values).cloned().collect()),
        }
    }

    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).has_no_value()
    }

    fn within_bounds(&self, value: &str) -> bool {
        if self.gte.is_none() && self.lte.is_none() {
            return true;
        }
        value
            .parse::<i64>()
            .is_ok_and(|number| self.gte.is_none_or(|low| number >= low) && self.lte.is_none_or(|high| number <= high))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = || self.values.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = self.values.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} others") } else { String::new() };
        match (self.complement, self.values.is_empty()) {
            (false, true) if self.must_exist => f.write_str("nothing"),
            (false, true) => f.write_str("DoesNotExist"),
            (false, false) => write!(f, "In [{}{more}]", list()),
            (true, _) if self.gte.is_some() || self.lte.is_some() => {
                let bound = |op: &str, b: Option<i64>| b.map(|b| format!("{op} {b}"));
                let bounds: Vec<_> = [bound("Gte", self.gte), bound("Lte", self.lte)].into_iter().flatten().collect();
                f.write_str(&bounds.join(" "))
            }
            (true, true) => f.write_str("Exists"),
            (true, false) => write!(f, "NotIn [{}{more}]", list()),
        }
    }
}

/// Whether a key that the other side does not define may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undefined {
    /// Labels are final (an existing node): an undefined key satisfies only NotIn and DoesNotExist.
    Denied,
    /// Well-known keys are still open (a NodePool, a claim, an offering).
    WellKnownAllowed,
}

/// Requirements by label key; a key that is absent is unconstrained.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Requirements(pub BTreeMap<String, Requirement>);

/// Two sides that cannot both hold for a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("label {key:?}: {asked} does not intersect {found}")]
    Disjoint { key: String, asked: Box<Requirement>, found: Box<Requirement> },
    #[error("label {key:?} is not defined (asked: {asked})")]
    Undefined { key: String, asked: Box<Requirement> },
}

impl Requirements {
    pub fn get(&self, key: &str) -> Option<&Requirement> {
        self.0.get(key)
    }

    /// Narrows `key` by `requirement`.
    pub fn add(&mut self, key: impl Into<String>, requirement: Requirement) {
        self.0.entry(key.into()).and_modify(|known| *known = known.intersection(&requirement)).or_insert(requirement);
    }

    pub fn add_all(&mut self, other: &Self) {
        for (key, requirement) in &other.0 {
            self.add(key.clone(), requirement.clone());
        }
    }

    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        Self(labels.iter().map(|(k, v)| (k.clone(), Requirement::one_of([v.clone()]))).collect())
    }

    /// Keys both sides define must share a value; keys only one side defines pass.
    pub fn intersects(&self, other: &Self) -> Result<(), Conflict> {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        for (key, a) in &few.0 {
            if let Some(b) = many.get(key)
                && !a.intersects(b)
                && !(a.allows_absence() && b.allows_absence())
            {
                let (asked, found) = if std::ptr::eq(few, self) { (b, a) } else { (a, b) };
                let (asked, found) = (Box::new(asked.clone()), Box::new(found.clone()));
                return Err(Conflict::Disjoint { key: key.clone(), asked, found });
            }
        }
        Ok(())
    }

    /// Whether what `asked` wants can be had from `self`.
    pub fn compatible(&self, asked: &Self, undefined: Undefined) -> Result<(), Conflict> {
        for (key, want) in &asked.0 {
            let open = undefined == Undefined::WellKnownAllowed && karpenter_api::labels::is_well_known(key);
            if !open && self.get(key).is_none() && !want.allows_absence() {
                return Err(Conflict::Undefined { key: key.clone(), asked: Box::new(want.clone()) });
            }
        }
        self.intersects(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_not_the_wish_for_a_node_without_the_label() {
        let cases = [
            (Requirement::one_of(["a"]), Requirement::one_of(["b"])),
            (Requirement::greater_than(1), Requirement::does_not_exist()),
            (Requirement::greater_than(4), Requirement::less_than(3)),
            (Requirement::exists(), Requirement::does_not_exist()),
        ];
        for (a, b) in cases {
            let both = a.intersection(&b);
            assert!(both.has_no_value() && !both.allows_absence(), "{a} and {b}: {both:?}");
        }
        assert!(!Requirement::exists().intersection(&Requirement::none_of(["a"])).allows_absence());
        let absent = Requirement::none_of(["a"]).intersection(&Requirement::does_not_exist());
        assert_eq!(absent, Requirement::does_not_exist());
    }
}
