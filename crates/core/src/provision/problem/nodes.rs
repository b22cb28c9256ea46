//! Nodes that stay, and claims whose Node is still to come, with what is free on them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{labels as keys, taints};
use karpenter_solver::{Node, Row};
use rustc_hash::FxHashMap;

use super::{Interned, daemons::Daemon};
use crate::World;
use crate::provision::pods::NODE_NAME;
use crate::requirements::{Requirement, Requirements};
use crate::resources::{self, Resources};
use crate::world::{ClaimState, Digest, NodeState, PodKey, PodState};

impl Interned<'_> {
    /// Initialised nodes first, then by name; then claims without a Node, those that are launched first.
    pub(super) fn add_nodes(&mut self, world: &World, daemons: &[Daemon]) {
        let mut nodes: Vec<&NodeState> = world.nodes.values().filter(|node| !world.is_ending(node)).collect();
        nodes.sort_by_key(|node| (!node.is_initialized(), node.name()));
        let expected = expected(world, &self.placing);
        for node in nodes {
            self.add_node(world, node, daemons, &expected);
        }
        let joined =
            |state: &ClaimState| state.provider_id().is_some_and(|id| world.nodes_by_provider_id.contains_key(id));
        let awaited = |state: &&ClaimState| !state.is_deleting() && !joined(state);
        let mut claims: Vec<&ClaimState> = world.claims.values().filter(awaited).collect();
        claims.sort_by_key(|state| !state.is_settled());
        let mut known = FxHashMap::default();
        for state in claims {
            self.add_claim(world, state, daemons, &expected, &mut known);
        }
    }

    /// Until it is registered, what its claim will make of it counts.
    fn add_node(&mut self, world: &World, node: &NodeState, daemons: &[Daemon], expected: &Expected<'_>) {
        let claim = world.claim_of(node);
        let mut available = self.with_ports(&node.allocatable);
        let starting = claim.filter(|_| !node.is_initialized());
        if let Some(claim) = starting {
            fill(&mut available, claim);
        }
        let name_of_claim = claim.map(ClaimState::name).filter(|name| *name != node.name());
        let names = std::iter::once(node.name()).chain(name_of_claim);
        let coming = names.filter_map(|name| expected.get(name)).flatten().copied();
        let bound: Vec<&PodState> = world.pods_on(node.name()).collect();
        let pods: Vec<&Digest> = bound.iter().map(|pod| &*pod.digest).chain(coming).collect();
        let joining = claim.filter(|_| !node.is_registered());
        let of_claim = joining.map(|claim| claim.labels_of(node)).unwrap_or_default();
        let label = |key: &str| of_claim.get(key).map(String::as_str).or_else(|| label_of(node, key));
        let row = self.words.label_row(&self.problem.layout, label);
        let mut standing = joining.map_or_else(|| node.taints().to_vec(), |claim| claim.taints_of(node));
        standing.retain(|taint| !starting.is_some_and(|claim| claim.is_passing(taint)));
        let is_there = |daemon: &Daemon| bound.iter().any(|pod| daemon.owns(pod));
        for daemon in self.daemons_on(&standing, &row, daemons).filter(|daemon| !is_there(daemon)) {
            available.subtract(&daemon.requests);
        }
        // Pods may be expected under either name.
        if let Some(name) = name_of_claim {
            self.node_index.insert(name.to_owned(), self.nodes.len());
        }
        self.push_node(world, node.name(), row, &standing, available, &pods);
    }

    fn add_claim<'w>(
        &mut self,
        world: &'w World,
        state: &'w ClaimState,
        daemons: &[Daemon],
        expected: &Expected<'_>,
        known: &mut Known<'w>,
    ) {
        let taints = state.claim.spec.taints.iter().flatten().map(taints::to_core);
        let standing: Vec<Taint> = taints.filter(|taint| !state.is_passing(taint)).collect();
        let (row, available) = if state.is_settled() {
            // Nobody knows its hostname yet.
            let label = |key: &str| if key == keys::HOSTNAME { Some("") } else { state.label(key) };
            let row = self.words.label_row(&self.problem.layout, label);
            let mut promised = Resources::default();
            fill(&mut promised, state);
            let available = self.beside_daemons(self.with_ports(&promised), &standing, &row, daemons);
            (row, available)
        } else {
            self.certain(state, &standing, daemons, known)
        };
        let pods = expected.get(state.name()).map(Vec::as_slice).unwrap_or_default();
        self.push_node(world, state.name(), row, &standing, available, pods);
    }

    /// What is certain of a claim that is not launched yet. Its spec is written and cannot be changed any more, so no
    /// pod narrows it as it narrows a claim of its own round: a pod must suit every type, zone and capacity type that
    /// the claim may still come to, and of each resource there is what the type with the least of it has beside the
    /// daemons. What the claim requests its instance has in any case, as nothing else is launched for it.
    fn certain<'w>(
        &mut self,
        state: &'w ClaimState,
        standing: &[Taint],
        daemons: &[Daemon],
        known: &mut Known<'w>,
    ) -> (Row, Resources) {
        let taints = standing.iter().map(|taint| self.taint(taint)).collect();
        let alike = (state.pool(), self.words.pool_row(&self.problem.layout, &asked(state)), taints);
        let of = known.entry(alike);
        let (row, least) = of.or_insert_with_key(|(pool, own, _)| self.least(*pool, own, standing, daemons));
        let spec = state.claim.spec.resources.as_ref();
        let requests = spec.and_then(|resources| resources.requests.as_ref()).into_iter().flatten();
        let requests =
            requests.filter_map(|(name, amount)| Some((name.clone(), resources::amount(name, &amount.to_string())?)));
        let requests = self.with_ports(&requests.collect());
        let mut available = self.beside_daemons(requests, standing, row, daemons);
        available.max(least);
        (row.clone(), available)
    }

    /// What claims of a pool with these labels may become, and the least they then have beside the daemons; nothing
    /// if the pool is not on offer any more.
    fn least(&self, pool: Option<&str>, own: &Row, standing: &[Taint], daemons: &[Daemon]) -> (Row, Resources) {
        let problem = &self.problem;
        let is_it = |pool_at: &usize| self.pools[*pool_at].0.metadata.name.as_deref() == pool;
        let types = (0..self.pools.len()).find(is_it).map(|at| &problem.pools[at].types);
        let mut all: Option<(Row, Resources)> = None;
        for (kind, _) in types.into_iter().flat_map(|types| types.iter()) {
            let (told, kind) = (&self.types[*kind], &problem.types[*kind]);
            if !problem.layout.intersects(&kind.row, own) {
                continue;
            }
            let row = own.and(&kind.row);
            let room = self.beside_daemons(self.with_ports(&told.allocatable), standing, &row, daemons);
            match &mut all {
                Some((rows, least)) => {
                    rows.widen(&row);
                    least.min(&room);
                }
                None => all = Some((row, room)),
            }
        }
        all.unwrap_or_else(|| (own.clone(), Resources::default()))
    }

    /// What is left when the daemons that run on such a node have their part.
    fn beside_daemons(&self, mut of: Resources, standing: &[Taint], row: &Row, daemons: &[Daemon]) -> Resources {
        for daemon in self.daemons_on(standing, row, daemons) {
            of.subtract(&daemon.requests);
        }
        of
    }

    /// What the daemons take is off `available`; what the pods take is not yet.
    fn push_node(
        &mut self,
        world: &World,
        name: &str,
        row: Row,
        taints: &[Taint],
        mut available: Resources,
        pods: &[&Digest],
    ) {
        for pod in pods {
            available.subtract(&pod.requests);
        }
        let taken = pods.iter().flat_map(|pod| &pod.ports);
        let mut ports: Vec<usize> = taken.map(|port| self.port(port)).collect();
        ports.sort_unstable();
        ports.dedup();
        let taints = taints.iter().map(|taint| self.taint(taint)).collect();
        let available = self.words.amounts(&available);
        let volumes = self.volumes_of(world, pods.iter().copied());
        let volume_room = self.volume_room(world, name, &volumes);
        self.node_index.insert(name.to_owned(), self.nodes.len());
        self.nodes.push(name.to_owned());
        self.problem.nodes.push(Node { row, taints, available, ports, volumes, volume_room });
    }

    /// The daemons that run on a node with this row and these taints.
    fn daemons_on<'d>(&self, standing: &[Taint], row: &Row, daemons: &'d [Daemon]) -> impl Iterator<Item = &'d Daemon> {
        daemons.iter().filter(|daemon| daemon.tolerates(standing.iter()) && self.runs_on(daemon, row))
    }
}

/// A label of a node, or its name.
pub(super) fn label_of<'n>(node: &'n NodeState, key: &str) -> Option<&'n str> {
    if key == NODE_NAME { Some(node.name()) } else { node.label(key) }
}

/// Amounts the claim promises where the node has none yet.
fn fill(available: &mut Resources, claim: &ClaimState) {
    let promised = claim.claim.status.as_ref().and_then(|status| status.allocatable.as_ref());
    for (name, amount) in promised.into_iter().flatten() {
        if available.get(name) == 0
            && let Some(amount) = resources::amount(name, &amount.to_string())
        {
            available.set(name.clone(), amount);
        }
    }
}

/// The labels of a claim that is not launched yet, as far as they are settled.
fn asked(state: &ClaimState) -> Requirements {
    let mut all = Requirements::default();
    for spec in &state.claim.spec.requirements {
        all.add(keys::normalized(&spec.key), Requirement::from_spec(spec));
    }
    for (key, value) in state.claim.metadata.labels.iter().flatten() {
        all.add(keys::normalized(key), Requirement::one_of([value.clone()]));
    }
    all
}

/// What claims that are alike may become and have at least: by pool, labels and taints.
type Known<'w> = FxHashMap<(Option<&'w str>, Row, Vec<usize>), (Row, Resources)>;

/// By node or claim: what earlier rounds sent there. Pods that are not bound yet or have to leave their node (any other
/// that is bound is no longer nominated), and replacements of those that have left.
type Expected<'w> = BTreeMap<&'w str, Vec<&'w Digest>>;

fn expected<'w>(world: &'w World, placing: &BTreeSet<&PodKey>) -> Expected<'w> {
    let mut all = Expected::new();
    for (key, nomination) in world.nominated.iter().filter(|(key, _)| !placing.contains(key)) {
        if let Some(pod) = world.pods.get(key) {
            all.entry(nomination.target.as_str()).or_default().push(&pod.digest);
        }
    }
    for vacated in &world.vacated {
        all.entry(vacated.target.as_str()).or_default().push(&vacated.digest);
    }
    all
}
