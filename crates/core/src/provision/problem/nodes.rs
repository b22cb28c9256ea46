//! Nodes that stay, and launched claims whose Node is still to come, with what is free on them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use karpenter_api::{labels as keys, taints};
use karpenter_solver::Node;

use super::{Interned, daemons::Daemon};
use crate::World;
use crate::resources::{self, Resources};
use crate::world::{ClaimState, NodeState};

impl Interned<'_> {
    /// Initialised nodes first, then by name; then launched claims without a Node.
    pub(super) fn add_nodes(&mut self, world: &World, daemons: &[Daemon]) {
        let mut nodes: Vec<&NodeState> = world.nodes.values().filter(|node| stays(world, node)).collect();
        nodes.sort_by_key(|node| (!node.is_initialized(), node.name()));
        let expected = expected(world);
        for node in nodes {
            self.add_node(world, node, daemons, &expected);
        }
        for state in world.claims.values().filter(|state| !state.is_deleting()) {
            let joined = state.provider_id().is_some_and(|id| world.nodes_by_provider_id.contains_key(id));
            if !joined {
                self.add_claim(state, daemons, &expected);
            }
        }
    }

    fn add_node(&mut self, world: &World, node: &NodeState, daemons: &[Daemon], expected: &BTreeMap<&str, Resources>) {
        let claim = world.claim_of(node);
        let status = node.node.status.as_ref();
        let mut available =
            status.and_then(|status| status.allocatable.as_ref()).map(Resources::offered).unwrap_or_default();
        let managed = node.label(keys::NODEPOOL).is_some();
        let starting = managed && !node.is_initialized();
        if starting && let Some(claim) = claim {
            fill(&mut available, claim);
        }
        let mut ports = Vec::new();
        for pod in world.pods_on(node.name()) {
            available.subtract(pod.requests());
            ports.extend(pod.digest.ports.iter().map(|port| self.port(port)));
        }
        let labels = node.labels().cloned().unwrap_or_default();
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
        for daemon in self.daemons_to_come(world, node, &row, &standing, daemons) {
            available.subtract(&daemon.requests);
            ports.extend(daemon.ports.iter().map(|port| self.port(port)));
        }
        for name in [Some(node.name()), claim.map(ClaimState::name)].into_iter().flatten() {
            available.subtract(expected.get(name).unwrap_or(&Resources::default()));
        }
        self.push_node(node.name().to_owned(), row, &standing, &available, ports);
    }

    fn add_claim(&mut self, state: &ClaimState, daemons: &[Daemon], expected: &BTreeMap<&str, Resources>) {
        let mut available = Resources::default();
        fill(&mut available, state);
        if available.0.is_empty() {
            return;
        }
        let labels = state.claim.metadata.labels.clone().unwrap_or_default();
        let row = self.words.label_row(&self.problem.layout, &labels);
        let standing: Vec<Taint> = state.claim.spec.taints.iter().flatten().map(taints::to_core).collect();
        let mut ports = Vec::new();
        for daemon in daemons.iter().filter(|daemon| daemon.tolerates(&standing)) {
            if self.runs_on(daemon, &row) {
                available.subtract(&daemon.requests);
                ports.extend(daemon.ports.iter().map(|port| self.port(port)));
            }
        }
        available.subtract(expected.get(state.name()).unwrap_or(&Resources::default()));
        self.push_node(state.name().to_owned(), row, &standing, &available, ports);
    }

    fn push_node(
        &mut self,
        name: String,
        row: karpenter_solver::Row,
        taints: &[Taint],
        available: &Resources,
        ports: Vec<usize>,
    ) {
        let taints = taints.iter().map(|taint| self.taint(taint)).collect();
        let available = self.words.amounts(available);
        self.node_index.insert(name.clone(), self.nodes.len());
        self.nodes.push(name);
        let (volumes, volume_room) = (Vec::new(), Vec::new());
        self.problem.nodes.push(Node { row, taints, available, ports, volumes, volume_room });
    }

    /// Daemons that are not bound to the node yet and will be.
    fn daemons_to_come<'d>(
        &self,
        world: &World,
        node: &NodeState,
        row: &karpenter_solver::Row,
        standing: &[Taint],
        daemons: &'d [Daemon],
    ) -> Vec<&'d Daemon> {
        let is_there = |daemon: &Daemon| world.pods_on(node.name()).any(|pod| daemon.owns(pod));
        let comes = |daemon: &&Daemon| daemon.tolerates(standing) && self.runs_on(daemon, row) && !is_there(daemon);
        daemons.iter().filter(comes).collect()
    }
}

/// A node that is not on its way out.
fn stays(world: &World, node: &NodeState) -> bool {
    !node.is_deleting() && world.claim_of(node).is_none_or(|claim| !claim.is_deleting())
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

/// What pods that earlier rounds sent somewhere, and that are not bound yet, will take there.
fn expected(world: &World) -> BTreeMap<&str, Resources> {
    let mut all: BTreeMap<&str, Resources> = BTreeMap::new();
    for (key, nomination) in &world.nominated {
        if let Some(pod) = world.pods.get(key).filter(|pod| pod.node_name().is_none()) {
            all.entry(nomination.target.as_str()).or_default().add(pod.requests());
        }
    }
    all
}
