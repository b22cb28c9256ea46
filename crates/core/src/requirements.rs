//! The algebra of label requirements, on words: one [`Requirement`] is a set of label values.
//!
//! A set is either the listed values (`In`, `DoesNotExist` = none) or everything but the listed
//! values (`NotIn`, `Exists` = all but none), optionally bounded to integers in `[gte, lte]`; and a node without the
//! label is in it or not (`NotIn` and `DoesNotExist` have it). What is left of a contradiction has neither.
//! Semantics: Kubernetes node-affinity operators, plus Gte and Lte as Karpenter's API has them.
//! The solver has the same algebra on interned bit sets; a property test holds the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The values a label may take. `min_values` rides along: it constrains choice, not membership.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Requirement {
    /// True: every value except `values`. False: exactly `values`.
    pub complement: bool,
    pub values: BTreeSet<String>,
    pub gte: Option<i64>,
    pub lte: Option<i64>,
    /// Whether a node without the label satisfies it.
    pub absent: bool,
    pub min_values: Option<u32>,
}

impl Requirement {
    pub fn one_of<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        Self { values: values.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub fn none_of<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        Self { complement: true, absent: true, ..Self::one_of(values) }
    }

    pub fn exists() -> Self {
        Self { complement: true, ..Self::default() }
    }

    pub fn does_not_exist() -> Self {
        Self { absent: true, ..Self::default() }
    }

    /// What no node satisfies.
    pub fn nothing() -> Self {
        Self::default()
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
            Operator::In => Self::one_of(values),
            Operator::NotIn => Self::none_of(values),
            Operator::Exists => Self::exists(),
            Operator::DoesNotExist => Self::does_not_exist(),
        };
        Self { min_values: spec.min_values.and_then(|n| u32::try_from(n).ok()), ..set }
    }

    pub fn has(&self, value: &str) -> bool {
        self.values.contains(value) != self.complement && self.within_bounds(value)
    }

    /// No value satisfies it, so only a node without the label does.
    pub fn is_does_not_exist(&self) -> bool {
        !self.complement && self.values.is_empty() && self.absent
    }

    /// Nothing satisfies it: not even a node without the label.
    pub fn is_nothing(&self) -> bool {
        !self.complement && self.values.is_empty() && !self.absent
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let gte = self.gte.max(other.gte);
        let lte = match (self.lte, other.lte) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let (absent, min_values) = (self.absent && other.absent, self.min_values.max(other.min_values));
        if let (Some(low), Some(high)) = (gte, lte)
            && low > high
        {
            return Self { absent, min_values, ..Self::nothing() };
        }
        let bounds = Self { complement: true, gte, lte, ..Self::default() };
        let keep = |values: BTreeSet<String>| Self {
            values: values.into_iter().filter(|v| bounds.within_bounds(v)).collect(),
            absent,
            min_values,
            ..Self::default()
        };
        match (self.complement, other.complement) {
            (true, true) => Self {
                complement: true,
                values: self.values.union(&other.values).cloned().collect(),
                gte,
                lte,
                absent,
                min_values,
            },
            (true, false) => keep(other.values.difference(&self.values).cloned().collect()),
            (false, true) => keep(self.values.difference(&other.values).cloned().collect()),
            (false, false) => keep(self.values.intersection(&other.values).cloned().collect()),
        }
    }

    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_nothing()
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
            (false, true) if self.absent => f.write_str("DoesNotExist"),
            (false, true) => f.write_str("nothing"),
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
#[derive(Clone, Debug, PartialEq, Eq, Default)]
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
            if !open && self.get(key).is_none() && !want.absent {
                return Err(Conflict::Undefined { key: key.clone(), asked: Box::new(want.clone()) });
            }
        }
        self.intersects(asked)
    }
}
