//! Nodes that stay, and launched claims whose Node is still to come, with what is free on them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{labels as keys, taints};
use karpenter_solver::{Node, Row};

use super::{Interned, daemons::Daemon};
use crate::World;
use crate::provision::pods::NODE_NAME;
use crate::resources::{self, Resources};
use crate::world::{ClaimState, Digest, NodeState, PodKey};

impl Interned<'_> {
    /// Initialised nodes first, then by name; then launched claims without a Node.
    pub(super) fn add_nodes(&mut self, world: &World, daemons: &[Daemon]) {
        let mut nodes: Vec<&NodeState> = world.nodes.values().filter(|node| !world.is_ending(node)).collect();
        nodes.sort_by_key(|node| (!node.is_initialized(), node.name()));
        let expected = expected(world, &self.placing);
        for node in nodes {
            self.add_node(world, node, daemons, &expected);
        }
        for state in world.claims.values().filter(|state| !state.is_deleting()) {
            let joined = state.provider_id().is_some_and(|id| world.nodes_by_provider_id.contains_key(id));
            if !joined {
                self.add_claim(world, state, daemons, &expected);
            }
        }
    }

    fn add_node(&mut self, world: &World, node: &NodeState, daemons: &[Daemon], expected: &Expected<'_>) {
        let claim = world.claim_of(node);
        let status = node.node.status.as_ref();
        let given = status.and_then(|status| status.allocatable.as_ref()).map(Resources::offered);
        let mut available = self.with_ports(&given.unwrap_or_default());
        let managed = node.label(keys::NODEPOOL).is_some();
        let starting = managed && !node.is_initialized();
        if starting && let Some(claim) = claim {
            fill(&mut available, claim);
        }
        let name_of_claim = claim.map(ClaimState::name).filter(|name| *name != node.name());
        let names = std::iter::once(node.name()).chain(name_of_claim);
        let coming = names.filter_map(|name| expected.get(name)).flatten().copied();
        let bound = world.pods_on(node.name()).map(|pod| &*pod.digest);
        let pods: Vec<&Digest> = bound.chain(coming).collect();
        let mut labels = node.labels().cloned().unwrap_or_default();
        labels.insert(NODE_NAME.to_owned(), node.name().to_owned());
        let row = self.words.label_row(&self.problem.layout, &labels);
        let startup: Vec<Taint> = claim
            .filter(|_| starting)
            .and_then(|claim| claim.claim.spec.startup_taints.as_ref())
            .into_iter()
            .flatten()
            .map(taints::to_core)
            .collect();
        let passing = |taint: &Taint| {
            starting
                && (taints::is_ephemeral(taint)
                    || startup.iter().any(|s| s.key == taint.key && s.effect == taint.effect))
        };
        let standing: Vec<Taint> = node.taints().iter().filter(|taint| !passing(taint)).cloned().collect();
        let is_there = |daemon: &Daemon| world.pods_on(node.name()).any(|pod| daemon.owns(pod));
        for daemon in self.daemons_on(standing.iter(), &row, daemons).iter().filter(|daemon| !is_there(daemon)) {
            available.subtract(&daemon.requests);
        }
        // Pods may be expected under either name.
        if let Some(name) = name_of_claim {
            self.node_index.insert(name.to_owned(), self.nodes.len());
        }
        self.push_node(world, node.name(), row, &standing, available, &pods);
    }

    fn add_claim(&mut self, world: &World, state: &ClaimState, daemons: &[Daemon], expected: &Expected<'_>) {
        let mut available = Resources::default();
        fill(&mut available, state);
        if available.0.is_empty() {
            return;
        }
        let mut available = self.with_ports(&available);
        let labels = state.claim.metadata.labels.clone().unwrap_or_default();
        let row = self.words.label_row(&self.problem.layout, &labels);
        let standing: Vec<Taint> = state.claim.spec.taints.iter().flatten().map(taints::to_core).collect();
        let daemons = self.daemons_on(standing.iter(), &row, daemons);
        for daemon in &daemons {
            available.subtract(&daemon.requests);
        }
        let pods = expected.get(state.name()).map(Vec::as_slice).unwrap_or_default();
        self.push_node(world, state.name(), row, &standing, available, pods);
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
    fn daemons_on<'d>(
        &self,
        standing: impl Iterator<Item = &'d Taint> + Clone,
        row: &Row,
        daemons: &'d [Daemon],
    ) -> Vec<&'d Daemon> {
        let runs = |daemon: &&Daemon| daemon.tolerates(standing.clone()) && self.runs_on(daemon, row);
        daemons.iter().filter(runs).collect()
    }
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
