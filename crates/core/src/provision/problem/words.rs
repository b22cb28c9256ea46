//! Words by number: label keys and values become bits, resources positions in a vector.

use std::collections::{BTreeMap, BTreeSet};

use karpenter_api::labels as keys;
use karpenter_solver::{Layout, Row};

use crate::requirements::{Requirement, Requirements};
use crate::resources::Resources;

/// No amount is larger: sums of a few stay within 64 bits.
pub(super) const AMOUNT_MAX: i64 = i64::MAX / 1024;

/// Keys, values and resources by number.
pub(in crate::provision) struct Words {
    pub(in crate::provision) keys: Vec<String>,
    /// Value of each bit, from `Layout::FIRST` on, ascending.
    pub(in crate::provision) values: Vec<Vec<String>>,
    index: BTreeMap<String, usize>,
    pub(in crate::provision) resources: Vec<String>,
}

impl Words {
    pub(in crate::provision) fn layout(&self) -> Layout {
        let sizes: Vec<usize> = self.values.iter().map(Vec::len).collect();
        Layout::new(&sizes)
    }

    pub(in crate::provision) fn key(&self, key: &str) -> Option<usize> {
        self.index.get(key).copied()
    }

    pub(super) fn bit(&self, key: usize, value: &str) -> Option<usize> {
        self.values[key].binary_search_by(|known| known.as_str().cmp(value)).ok().map(|at| at + Layout::FIRST)
    }

    /// The bits a requirement allows.
    fn bits(&self, key: usize, requirement: &Requirement) -> Vec<usize> {
        let mut bits: Vec<usize> = if requirement.complement {
            let known = self.values[key].iter().enumerate().filter(|(_, value)| requirement.has(value));
            // Of the numbers within bounds, those next to a bound are known and stand for all.
            let other = (requirement.gte.is_none() && requirement.lte.is_none()).then_some(Layout::OTHER);
            known.map(|(at, _)| at + Layout::FIRST).chain(other).collect()
        } else {
            let listed = requirement.values.iter().filter(|value| requirement.has(value));
            listed.filter_map(|value| self.bit(key, value)).collect()
        };
        if requirement.allows_absence() {
            bits.push(Layout::ABSENT);
        }
        bits
    }

    pub(super) fn row(&self, layout: &Layout, requirements: &Requirements) -> Row {
        let mut row = layout.any();
        for (key, requirement) in &requirements.0 {
            if let Some(at) = self.key(key) {
                layout.restrict(&mut row, at, self.bits(at, requirement));
            }
        }
        row
    }

    /// Labels that are final: what is not there is absent.
    pub(super) fn label_row<'l>(&self, layout: &Layout, label: impl Fn(&str) -> Option<&'l str>) -> Row {
        let mut row = layout.any();
        for (at, key) in self.keys.iter().enumerate() {
            let bit = match label(key) {
                Some(value) => self.bit(at, value).unwrap_or(Layout::OTHER),
                None => Layout::ABSENT,
            };
            layout.settle(&mut row, at, bit);
        }
        row
    }

    /// A type's labels: of a key that is not well known, only a NodePool decides whether nodes have it.
    pub(super) fn type_row(&self, layout: &Layout, requirements: &Requirements) -> Row {
        let mut row = layout.any();
        for (key, requirement) in &requirements.0 {
            if let Some(at) = self.key(key) {
                let absent = (!keys::is_well_known(key)).then_some(Layout::ABSENT);
                layout.restrict(&mut row, at, self.bits(at, requirement).into_iter().chain(absent));
            }
        }
        row
    }

    /// A node that is still to be bought: well-known labels are open, others absent unless set. Its
    /// hostname is one that nobody knows yet.
    pub(in crate::provision) fn pool_row(&self, layout: &Layout, requirements: &Requirements) -> Row {
        let mut row = self.row(layout, requirements);
        for (at, key) in self.keys.iter().enumerate() {
            if requirements.get(key).is_none() && !keys::is_well_known(key) {
                let bit = if key == keys::HOSTNAME { Layout::OTHER } else { Layout::ABSENT };
                layout.settle(&mut row, at, bit);
            }
        }
        row
    }

    pub(super) fn amounts(&self, of: &Resources) -> Vec<i64> {
        self.resources.iter().map(|name| of.get(name).clamp(-AMOUNT_MAX, AMOUNT_MAX)).collect()
    }
}

/// What is collected before numbers can be given out.
#[derive(Default)]
pub(super) struct Vocabulary {
    pub(super) values: BTreeMap<String, BTreeSet<String>>,
    pub(super) resources: BTreeSet<String>,
    numbers: BTreeMap<String, Numbers>,
}

/// What is asked of a key's values as numbers.
#[derive(Default)]
struct Numbers {
    least: BTreeSet<i64>,
    most: BTreeSet<i64>,
    excluded: BTreeSet<i64>,
}

impl Numbers {
    /// Whatever some of the bounds and exclusions leave together, one of these or of the excluded is among it: from a
    /// bound inwards, the first number that nobody excludes.
    fn stand_ins(&self) -> impl Iterator<Item = i64> {
        let first = |from: &i64, step: i64| {
            std::iter::successors(Some(*from), move |number| number.checked_add(step))
                .find(|number| !self.excluded.contains(number))
        };
        let up = self.least.iter().filter_map(move |bound| first(bound, 1));
        up.chain(self.most.iter().filter_map(move |bound| first(bound, -1)))
    }
}

impl Vocabulary {
    pub(super) fn learn(&mut self, requirements: &Requirements) {
        for (key, requirement) in &requirements.0 {
            let known = self.key(key);
            for value in &requirement.values {
                if !known.contains(value) {
                    known.insert(value.clone());
                }
            }
            self.learn_numbers(key, requirement);
        }
    }

    fn learn_numbers(&mut self, key: &str, requirement: &Requirement) {
        let excluded = requirement.values.iter().filter(|_| requirement.complement);
        let excluded: Vec<i64> = excluded.filter_map(|value| value.parse().ok()).collect();
        if excluded.is_empty() && requirement.gte.is_none() && requirement.lte.is_none() {
            return;
        }
        let numbers = self.numbers.entry(key.to_owned()).or_default();
        numbers.least.extend(requirement.gte);
        numbers.most.extend(requirement.lte);
        numbers.excluded.extend(excluded);
    }

    /// A key is known, even if no value of it is.
    pub(super) fn key(&mut self, key: &str) -> &mut BTreeSet<String> {
        if !self.values.contains_key(key) {
            self.values.insert(key.to_owned(), BTreeSet::new());
        }
        self.values.entry(key.to_owned()).or_default()
    }

    /// A value, if anybody speaks of its key.
    pub(super) fn value(&mut self, key: &str, value: &str) {
        if let Some(values) = self.values.get_mut(key).filter(|values| !values.contains(value)) {
            values.insert(value.to_owned());
        }
    }

    pub(super) fn words(mut self) -> Words {
        for (key, numbers) in &self.numbers {
            let known = self.values.entry(key.clone()).or_default();
            known.extend(numbers.stand_ins().map(|number| number.to_string()));
        }
        let keys: Vec<String> = self.values.keys().cloned().collect();
        Words {
            index: keys.iter().enumerate().map(|(at, key)| (key.clone(), at)).collect(),
            values: self.values.into_values().map(|set| set.into_iter().collect()).collect(),
            keys,
            resources: self.resources.into_iter().collect(),
        }
    }
}
