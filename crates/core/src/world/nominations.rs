//! Where rounds expect pods to land, by pod and by target.

use std::collections::{BTreeMap, BTreeSet};

use super::PodKey;
use crate::Timestamp;

/// Where a pod is expected to land.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nomination {
    /// Name of a node or of a claim whose node is not there yet.
    pub target: String,
    pub at: Timestamp,
}

/// Expectations, until the pods bind or the expectation fails.
#[derive(Debug, Default)]
pub struct Nominations {
    by_pod: BTreeMap<PodKey, Nomination>,
    by_target: BTreeMap<String, BTreeSet<PodKey>>,
}

impl Nominations {
    pub fn get(&self, pod: &PodKey) -> Option<&Nomination> {
        self.by_pod.get(pod)
    }

    pub fn contains_key(&self, pod: &PodKey) -> bool {
        self.by_pod.contains_key(pod)
    }

    /// The pods expected on a node or a claim, by this name of it.
    pub fn on(&self, target: &str) -> impl Iterator<Item = &PodKey> {
        self.by_target.get(target).into_iter().flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PodKey, &Nomination)> {
        self.by_pod.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.by_pod.is_empty()
    }

    pub(super) fn insert(&mut self, pod: PodKey, target: String, at: Timestamp) {
        self.remove(&pod);
        self.by_target.entry(target.clone()).or_default().insert(pod.clone());
        self.by_pod.insert(pod, Nomination { target, at });
    }

    pub(super) fn remove(&mut self, pod: &PodKey) -> Option<Nomination> {
        let nomination = self.by_pod.remove(pod)?;
        if let Some(pods) = self.by_target.get_mut(&nomination.target) {
            pods.remove(pod);
            if pods.is_empty() {
                self.by_target.remove(&nomination.target);
            }
        }
        Some(nomination)
    }

    /// Nothing is expected there any longer. Says whether anything was.
    pub(super) fn forget(&mut self, target: &str) -> bool {
        let pods = self.by_target.remove(target);
        for pod in pods.iter().flatten() {
            self.by_pod.remove(pod);
        }
        pods.is_some()
    }
}
