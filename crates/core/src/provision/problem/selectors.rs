//! Which pods a selector means.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodAffinityTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::selector::selects;
use crate::world::Digest;

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
    /// selector: all. (`matchLabelKeys` are part of the selector by the time they are read: the API
    /// server merges them.)
    /// Labels of namespaces are not watched: a selector of them adds none (required terms that have one are not
    /// planned at all).
    pub(super) fn of_term(of: &Digest, term: &PodAffinityTerm) -> Self {
        let listed: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let namespaces = match &term.namespace_selector {
            Some(selector) if is_empty(selector) => None,
            None if listed.is_empty() => Some(BTreeSet::from([of.namespace.clone()])),
            Some(_) | None => Some(listed),
        };
        Self { namespaces, labels: term.label_selector.clone() }
    }

    pub(super) fn means(&self, of: &Digest) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&of.namespace))
            && selects(self.labels.as_ref(), &of.labels)
    }
}

pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}
