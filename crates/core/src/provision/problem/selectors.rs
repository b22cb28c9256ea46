//! Which pods a selector means.

use std::collections::{BTreeMap, BTreeSet};

use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::PodAffinityTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rustc_hash::FxHashMap;

use crate::selector::selects;
use crate::world::Digest;

/// Labels of namespaces.
pub(super) type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Namespaces and labels of the pods meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selects {
    /// `None`: every namespace.
    namespaces: Option<BTreeSet<String>>,
    labels: Option<LabelSelector>,
}

impl Hash for Selects {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespaces.hash(state);
        let Some(labels) = &self.labels else { return };
        labels.match_labels.hash(state);
        for expression in labels.match_expressions.iter().flatten() {
            (&expression.key, &expression.operator, &expression.values).hash(state);
        }
    }
}

impl Selects {
    /// Of a spread: the pod's own namespace, and its own values of the keys to match.
    pub(super) fn of_spread(of: &Digest, labels: Option<&LabelSelector>, match_keys: Option<&Vec<String>>) -> Self {
        let mut labels = labels.cloned();
        for key in match_keys.into_iter().flatten() {
            if let (Some(labels), Some(value)) = (&mut labels, of.labels.get(key)) {
                labels.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
            }
        }
        Self { namespaces: Some(BTreeSet::from([of.namespace.clone()])), labels }
    }

    /// Of an affinity term. Neither namespaces nor a selector of them: the pod's own; an empty
    /// selector: all; else those that are listed and those that are selected by their labels.
    /// (`matchLabelKeys` are part of the selector by the time they are read: the API server merges them.)
    pub(super) fn of_term(of: &Digest, term: &PodAffinityTerm, known: &Namespaces) -> Self {
        let mut listed: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let namespaces = match &term.namespace_selector {
            Some(selector) if is_empty(selector) => None,
            None if listed.is_empty() => Some(BTreeSet::from([of.namespace.clone()])),
            None => Some(listed),
            Some(selector) => {
                let selected = known.iter().filter(|(_, labels)| selects(Some(selector), labels));
                listed.extend(selected.map(|(name, _)| name.clone()));
                Some(listed)
            }
        };
        Self { namespaces, labels: term.label_selector.clone() }
    }

    /// A spread with an empty selector counts nobody but the pod itself, as kube-scheduler reads it.
    pub(super) fn without_empty(self) -> Self {
        Self { labels: self.labels.filter(|labels| !is_empty(labels)), ..self }
    }

    /// Labels of which whoever is meant has one, for each way to say so: pairs of `matchLabels`, one by one, and the
    /// values of `In`.
    fn marks(&self) -> impl Iterator<Item = Vec<Label<'_>>> {
        let labels = self.labels.iter();
        let pairs = labels.clone().flat_map(|labels| labels.match_labels.iter().flatten());
        let listed = labels.flat_map(|labels| labels.match_expressions.iter().flatten()).filter(|e| e.operator == "In");
        let pairs = pairs.map(|(key, value)| vec![(key.as_str(), value.as_str())]);
        pairs.chain(listed.map(|e| e.values.iter().flatten().map(|value| (e.key.as_str(), value.as_str())).collect()))
    }

    pub(super) fn means(&self, of: &Digest) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&of.namespace))
            && selects(self.labels.as_ref(), &of.labels)
    }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}

/// A label's key and value.
type Label<'a> = (&'a str, &'a str);

/// Pods by their labels: who may be meant is looked up.
pub(super) struct ByLabel<'a> {
    all: Vec<&'a Digest>,
    known: FxHashMap<Label<'a>, Vec<usize>>,
}

impl<'a> ByLabel<'a> {
    pub(super) fn new(all: Vec<&'a Digest>) -> Self {
        let mut known: FxHashMap<Label<'a>, Vec<usize>> = FxHashMap::default();
        for (at, of) in all.iter().enumerate() {
            for (key, value) in &of.labels {
                known.entry((key, value)).or_default().push(at);
            }
        }
        Self { all, known }
    }

    fn with<'s>(&'s self, label: &Label<'s>) -> &'s [usize] {
        self.known.get(label).map_or(&[], Vec::as_slice)
    }

    /// Those whom all of these mean, ascending. O(those with the label that the fewest have).
    pub(super) fn meant<'s>(&'s self, by: &'s [Selects]) -> Vec<usize> {
        if by.iter().any(|selects| selects.labels.is_none()) {
            return Vec::new();
        }
        let count = |labels: &Vec<_>| labels.iter().map(|label| self.with(label).len()).sum::<usize>();
        let mut some: Vec<usize> = match by.iter().flat_map(Selects::marks).min_by_key(count) {
            Some(labels) => labels.iter().flat_map(|label| self.with(label)).copied().collect(),
            None => (0..self.all.len()).collect(),
        };
        some.sort_unstable();
        some.dedup();
        some.retain(|at| by.iter().all(|selects| selects.means(self.all[*at])));
        some
    }
}
