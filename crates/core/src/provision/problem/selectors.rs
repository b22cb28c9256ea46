//! Which pods a selector means.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodAffinityTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

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

    pub(super) fn means(&self, of: &Digest) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&of.namespace))
            && selects(self.labels.as_ref(), &of.labels)
    }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}
