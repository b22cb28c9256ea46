//! Pending pods as classes: first by digest, then by everything the solver sees.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{labels as keys, taints};
use karpenter_solver::{Alternative, Class, Row, Rule};
use rustc_hash::FxHashMap;

use super::defaults::Defaults;
use super::topology::{Rules, keys_of};
use super::volumes::{self, Places};
use super::{Interned, Vocabulary};
use crate::provision::pods::{Reading, readings};
use crate::resources::Resources;
use crate::settings::PreferencePolicy;
use crate::world::{Digest, PodKey, PodState};
use crate::{Settings, World};

/// Pending pods with one digest, read.
pub(super) struct Kind {
    pub(super) digest: Arc<Digest>,
    /// The digest's, and the host ports that daemons take as well.
    pub(super) requests: Resources,
    readings: Vec<Reading>,
    places: Places,
}

impl Kind {
    /// Words that this kind of pods uses.
    pub(super) fn teach(&self, vocabulary: &mut Vocabulary) {
        for resource in self.requests.0.keys() {
            if !vocabulary.resources.contains(resource) {
                vocabulary.resources.insert(resource.clone());
            }
        }
        for reading in &self.readings {
            vocabulary.learn(&reading.requirements);
        }
        self.places.iter().flatten().for_each(|place| vocabulary.learn(place));
        for key in keys_of(&self.digest).filter(|key| *key != keys::HOSTNAME) {
            vocabulary.key(key);
        }
    }
}

/// Kinds, each pod with the number of its kind, and the pods that cannot be read.
type Read<'w> = (Vec<Kind>, Vec<(&'w PodState, usize)>, Vec<(PodKey, String)>);

pub(super) fn read<'w>(world: &World, settings: &Settings, pending: &[&'w PodState]) -> Read<'w> {
    let respect = settings.preference_policy == PreferencePolicy::Respect;
    let mut defaults = Defaults::new(world, &settings.default_spreads);
    let mut numbers: FxHashMap<*const Digest, Result<usize, String>> = FxHashMap::default();
    let (mut kinds, mut pods, mut invalid) = (Vec::new(), Vec::with_capacity(pending.len()), Vec::new());
    for pod in pending {
        let digest = defaults.digest(pod);
        let number = numbers.entry(Arc::as_ptr(&digest)).or_insert_with(|| {
            if digest.claims_devices {
                return Err("resourceClaims: found a claim for devices, which no nodepool can promise".to_owned());
            }
            let readings = readings(&digest, respect)?;
            let places = volumes::places(world, &digest)?;
            let requests = digest.requests.clone();
            kinds.push(Kind { digest: Arc::clone(&digest), requests, readings, places });
            Ok(kinds.len() - 1)
        });
        match number {
            Ok(number) => pods.push((*pod, *number)),
            Err(problem) => invalid.push((pod.key.clone(), problem.clone())),
        }
    }
    (kinds, pods, invalid)
}

/// Everything the solver sees of a class.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    requests: Vec<i64>,
    alternatives: Vec<(Row, Vec<bool>, Vec<Rule>)>,
    homes: Vec<Row>,
    counted_by: Vec<usize>,
    ports: Vec<usize>,
    volumes: Vec<usize>,
}

impl Identity {
    fn class(&self) -> Class {
        let alternative = |(row, tolerates, rules): &(Row, Vec<bool>, Vec<Rule>)| Alternative {
            row: row.clone(),
            homes: self.homes.clone(),
            tolerates: tolerates.clone(),
            rules: rules.clone(),
        };
        Class {
            requests: self.requests.clone(),
            alternatives: self.alternatives.iter().map(alternative).collect(),
            counted_by: self.counted_by.clone(),
            ports: self.ports.clone(),
            volumes: self.volumes.clone(),
        }
    }
}

impl Interned<'_> {
    pub(super) fn add_pods(&mut self, world: &World, kinds: &[Kind], pods: &[(&PodState, usize)]) {
        let (rules, counted_by) = self.rules(world, kinds);
        let mut known: FxHashMap<Identity, usize> = FxHashMap::default();
        let mut class_of = Vec::with_capacity(kinds.len());
        for (at, kind) in kinds.iter().enumerate() {
            let identity = Identity {
                requests: self.words.amounts(&kind.requests),
                alternatives: self.alternatives(kind, &rules[at]),
                homes: self.homes(&kind.places),
                counted_by: counted_by[at].clone(),
                ports: kind.digest.ports.iter().map(|port| self.port(port)).collect(),
                volumes: self.volumes_of(world, std::iter::once(&*kind.digest)),
            };
            let number = *known.entry(identity).or_insert_with_key(|identity| {
                self.problem.classes.push(identity.class());
                self.problem.classes.len() - 1
            });
            class_of.push(number);
        }
        self.problem.pods = pods.iter().map(|(_, kind)| class_of[*kind]).collect();
        let falls = |at: &usize| pods[*at].0.priority() != pods[*at - 1].0.priority();
        self.problem.levels = (1..pods.len()).filter(falls).collect();
    }

    fn alternatives(&self, kind: &Kind, rules: &Rules) -> Vec<(Row, Vec<bool>, Vec<Rule>)> {
        let mut all: Vec<(Row, Vec<bool>, Vec<Rule>)> = Vec::with_capacity(kind.readings.len());
        for reading in &kind.readings {
            let row = self.words.row(&self.problem.layout, &reading.requirements);
            let tolerates = |taint: &Taint| {
                (reading.tolerates_all_preferences && taint.effect == "PreferNoSchedule")
                    || taints::tolerates(&kind.digest.tolerations, taint)
            };
            let tolerates = self.taints.iter().map(tolerates).collect();
            let one = (row, tolerates, rules.of(reading));
            // A step that changes nothing here need not be tried.
            if all.last() != Some(&one) {
                all.push(one);
            }
        }
        all
    }
}
