//! The World as a solver's problem: words become bits, amounts become vectors.

mod classes;
mod daemons;
mod defaults;
mod nodes;
mod pools;
mod ports;
mod selectors;
mod topology;
mod volumes;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use karpenter_solver::Problem;
use rustc_hash::FxHashSet;

pub(super) use self::pools::{Barren, PoolTypes, pool_requirements};
use self::ports::Contested;
pub(super) use self::topology::{preferred_affinity, preferred_anti_affinity};
use self::volumes::Volumes;
use self::words::Vocabulary;
pub(super) use self::words::Words;
use crate::cloud::InstanceType as CloudType;
use crate::resources;
use crate::settings::MinValuesPolicy;
use crate::world::{HostPort, NodeState, PodKey, PodState};
use crate::{Cloud, Settings, World};

/// A problem and what its indices mean.
pub(super) struct Interned<'w> {
    pub(super) problem: Problem,
    pub(super) words: Words,
    pub(super) pools: Vec<PoolTypes<'w>>,
    pub(super) types: Vec<Arc<CloudType>>,
    pub(super) pods: Vec<&'w PodState>,
    /// Pods that could not be read, and why.
    pub(super) invalid: Vec<(PodKey, String)>,
    /// Name of each node: a Node's, or a claim's that has none yet.
    pub(super) nodes: Vec<String>,
    node_index: BTreeMap<String, usize>,
    /// Pods of this round that an earlier one had sent somewhere, or that have to leave their node: where they were, or
    /// were expected, counts no longer.
    placing: BTreeSet<&'w PodKey>,
    pub(super) taints: Vec<Taint>,
    /// Topology key of each counter.
    pub(super) counter_keys: Vec<String>,
    ports: Vec<HostPort>,
    /// What each reservation of capacity has left.
    reservations: BTreeMap<String, u32>,
    pub(super) contested: Contested,
    volumes: Volumes,
    /// Pools that can host no pod.
    pub(super) barren: Vec<Barren<'w>>,
}

pub(super) fn build<'w, C: Cloud>(
    world: &'w World,
    cloud: &C,
    settings: &Settings,
    pending: &[&'w PodState],
) -> Interned<'w> {
    let (mut kinds, pods, invalid) = classes::read(world, settings, pending);
    let (pools, barren) = pools::pools(world, cloud);
    let mut daemons = daemons::daemons(world);
    let contested = ports::contest(&mut kinds, &mut daemons);
    let mut vocabulary = Vocabulary::default();
    for name in [resources::CPU, resources::MEMORY, resources::PODS, resources::EPHEMERAL_STORAGE] {
        vocabulary.resources.insert(name.to_owned());
    }
    for kind in &kinds {
        kind.teach(&mut vocabulary);
    }
    for daemon in &daemons {
        daemon.needs.iter().for_each(|need| vocabulary.learn(need));
    }
    let mut types: Vec<Arc<CloudType>> = Vec::new();
    let mut numbers: BTreeMap<*const CloudType, usize> = BTreeMap::new();
    let mut seen: BTreeSet<*const Arc<CloudType>> = BTreeSet::new();
    for (pool, rows) in &pools {
        vocabulary.learn(&pool_requirements(pool));
        vocabulary.resources.extend(pool.spec.limits.iter().flatten().map(|(name, _)| name.clone()));
        if !seen.insert(rows.as_ptr()) {
            continue;
        }
        for row in rows.iter() {
            numbers.entry(Arc::as_ptr(row)).or_insert_with(|| {
                types.push(Arc::clone(row));
                types.len() - 1
            });
        }
    }
    for kind in &types {
        vocabulary.learn(&kind.requirements);
    }
    let reservations = pools::reservations(world, &types);
    if !reservations.is_empty() {
        vocabulary.key(karpenter_api::labels::CAPACITY_RESERVATION_ID).extend(reservations.keys().cloned());
    }
    let has_target = |pod: &&&PodState| pod.node_name().is_some() || world.nominated.contains_key(&pod.key);
    let placing: BTreeSet<&PodKey> = pending.iter().filter(|pod| has_target(pod)).map(|pod| &pod.key).collect();
    for key in topology::keys_of_refusals(world, &placing) {
        vocabulary.key(key);
    }
    let of_nodes = world.nodes.values().filter_map(NodeState::labels);
    let of_claims = world.claims.values().filter_map(|state| state.claim.metadata.labels.as_ref());
    // Most nodes say the same.
    let mut said: FxHashSet<(&str, &str)> = FxHashSet::default();
    for (key, value) in of_nodes.chain(of_claims).flatten() {
        if said.insert((key, value)) {
            vocabulary.value(key, value);
        }
    }
    let open = world.claims.values().filter(|state| !state.is_settled());
    for spec in open.flat_map(|state| &state.claim.spec.requirements) {
        let key = karpenter_api::labels::normalized(&spec.key);
        spec.values.iter().flatten().for_each(|value| vocabulary.value(key, value));
    }
    let words = vocabulary.words();
    let relax_min_values = settings.min_values_policy == MinValuesPolicy::BestEffort;
    let mut interned = Interned {
        problem: Problem { layout: words.layout(), relax_min_values, ..Problem::default() },
        words,
        types,
        pods: pods.iter().map(|(pod, _)| *pod).collect(),
        invalid,
        nodes: Vec::new(),
        node_index: BTreeMap::new(),
        placing,
        taints: Vec::new(),
        counter_keys: Vec::new(),
        ports: Vec::new(),
        reservations,
        contested,
        volumes: Volumes::new(world),
        pools,
        barren,
    };
    interned.intern_daemons(&mut daemons);
    interned.add_types();
    interned.add_pools(world, &numbers, &daemons);
    interned.add_nodes(world, &daemons);
    interned.add_pods(world, &kinds, &pods);
    interned.problem.port_conflicts = interned.port_conflicts();
    interned
}

impl Interned<'_> {
    fn taint(&mut self, taint: &Taint) -> usize {
        let same = |known: &Taint| known.key == taint.key && known.value == taint.value && known.effect == taint.effect;
        self.taints.iter().position(same).unwrap_or_else(|| {
            self.taints.push(taint.clone());
            self.taints.len() - 1
        })
    }
}
