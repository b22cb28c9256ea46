//! Default spread constraints: of pods that have none of their own.
//!
//! Whom they count is derived, as in kube-scheduler, from what selects the pod: the Services of its namespace and the
//! controller that owns it. A pod that nothing selects is left as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use rustc_hash::FxHashMap;

use crate::World;
use crate::observation::Kind;
use crate::selector::selects;
use crate::world::{Digest, PodState};

/// A controller that selects pods, by kind and name.
type Owner = (Kind, String);

pub(super) struct Defaults<'w> {
    world: &'w World,
    spreads: &'w [TopologySpreadConstraint],
    /// By digest and owner.
    known: FxHashMap<(*const Digest, Option<Owner>), Arc<Digest>>,
}

impl<'w> Defaults<'w> {
    pub(super) fn new(world: &'w World, spreads: &'w [TopologySpreadConstraint]) -> Self {
        Self { world, spreads, known: FxHashMap::default() }
    }

    /// What matters to placing a pod, default spread constraints included.
    pub(super) fn digest(&mut self, pod: &PodState) -> Arc<Digest> {
        if self.spreads.is_empty() || !pod.digest.spreads.is_empty() {
            return Arc::clone(&pod.digest);
        }
        let key = (Arc::as_ptr(&pod.digest), owner(pod));
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let digest = match self.selector(&pod.digest, key.1.as_ref()) {
            None => Arc::clone(&pod.digest),
            Some(selector) => {
                let of = |spread: &TopologySpreadConstraint| TopologySpreadConstraint {
                    label_selector: Some(selector.clone()),
                    ..spread.clone()
                };
                let spreads = self.spreads.iter().map(of).collect();
                Arc::new(Digest { spreads, ..(*pod.digest).clone() })
            }
        };
        self.known.insert(key, Arc::clone(&digest));
        digest
    }

    /// `None`: nothing selects the pod.
    fn selector(&self, of: &Digest, owner: Option<&Owner>) -> Option<LabelSelector> {
        let first = (Kind::Service, of.namespace.clone(), String::new());
        let here = self.world.selectors.range(first..);
        let here = here.take_while(|((kind, namespace, _), _)| *kind == Kind::Service && *namespace == of.namespace);
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (_, service) in here.filter(|(_, service)| selects(Some(*service), &of.labels)) {
            labels.extend(service.match_labels.clone().unwrap_or_default());
        }
        let mut expressions = Vec::new();
        if let Some((kind, name)) = owner
            && let Some(selector) = self.world.selectors.get(&(*kind, of.namespace.clone(), name.clone()))
        {
            let equal = selector.match_labels.clone().unwrap_or_default();
            if *kind == Kind::ReplicationController {
                labels.extend(equal);
            } else {
                // Both must hold, also where they contradict each other.
                expressions.extend(equal.into_iter().map(|(key, value)| LabelSelectorRequirement {
                    key,
                    operator: "In".to_owned(),
                    values: Some(vec![value]),
                }));
                expressions.extend(selector.match_expressions.clone().unwrap_or_default());
            }
        }
        let selector = LabelSelector {
            match_labels: (!labels.is_empty()).then_some(labels),
            match_expressions: (!expressions.is_empty()).then_some(expressions),
        };
        (selector != LabelSelector::default()).then_some(selector)
    }
}

/// The controller of a pod, if it is of a kind that selects pods.
fn owner(pod: &PodState) -> Option<Owner> {
    let owner = pod.pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => Kind::ReplicationController,
        ("apps/v1", "ReplicaSet") => Kind::ReplicaSet,
        ("apps/v1", "StatefulSet") => Kind::StatefulSet,
        _ => return None,
    };
    Some((kind, owner.name.clone()))
}
