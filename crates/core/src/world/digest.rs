//! What of a pod matters to placing it: computed once, when the pod changes, and shared by all pods
//! that are alike.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use k8s_openapi::api::core::v1::{Affinity, Pod, PodSpec, Toleration, TopologySpreadConstraint};

use crate::resources::Resources;

/// Everything about a pod that placing looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    /// What the scheduler books for it, including one of `pods`.
    pub requests: Resources,
    pub node_selector: BTreeMap<String, String>,
    pub affinity: Option<Affinity>,
    pub tolerations: Vec<Toleration>,
    pub spreads: Vec<TopologySpreadConstraint>,
    pub ports: Vec<HostPort>,
    /// Names of the claims of its volumes, in its namespace.
    pub volume_claims: Vec<String>,
    /// It asks for devices through ResourceClaims.
    pub claims_devices: bool,
}

/// A port of the node that a container takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: String,
    pub port: i32,
    /// Empty: every address of the node.
    pub ip: String,
}

impl HostPort {
    /// Those of a pod, ascending.
    pub(crate) fn of(spec: &PodSpec) -> Vec<Self> {
        let mut ports: Vec<HostPort> = Vec::new();
        // Sidecars run as long as the pod does.
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        for port in spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten()) {
            if let Some(number) = port.host_port.filter(|port| *port > 0) {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                ports.push(HostPort { protocol, port: number, ip: port.host_ip.clone().unwrap_or_default() });
            }
        }
        ports.sort();
        ports.dedup();
        ports
    }

    /// Whether two pods with these ports cannot share a node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let every = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip == other.ip || every(&self.ip) || every(&other.ip))
    }
}

impl Digest {
    pub(super) fn new(pod: &Pod, spec: &PodSpec, requests: Resources) -> Self {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let volume_claims = spec.volumes.iter().flatten().filter_map(|volume| {
            let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
            named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{name}-{}", volume.name)))
        });
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            requests,
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: spec.affinity.clone(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            spreads: spec.topology_spread_constraints.clone().unwrap_or_default(),
            ports: HostPort::of(spec),
            volume_claims: volume_claims.collect(),
            claims_devices: spec.resource_claims.iter().flatten().next().is_some()
                || containers.any(|container| {
                    container.resources.as_ref().is_some_and(|r| r.claims.iter().flatten().next().is_some())
                }),
        }
    }

    /// Equal exactly for equal digests.
    fn identity(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(|port| (&port.protocol, port.port, &port.ip)).collect();
        let all = (
            (&self.namespace, &self.labels, &self.requests.0, &self.node_selector, &self.affinity),
            (&self.tolerations, &self.spreads, ports, &self.volume_claims, self.claims_devices),
        );
        serde_json::to_string(&all).unwrap_or_default()
    }
}

/// Digests in use, so that pods that are alike share one.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: BTreeMap<String, Weak<Digest>>,
    /// Those nobody uses any longer are dropped when there are so many.
    sweep_at: usize,
}

impl Digests {
    pub(super) fn share(&mut self, digest: Digest) -> Arc<Digest> {
        let identity = digest.identity();
        if let Some(known) = self.known.get(&identity).and_then(Weak::upgrade) {
            return known;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, digest| digest.strong_count() > 0);
            self.sweep_at = 2 * self.known.len() + 64;
        }
        let shared = Arc::new(digest);
        self.known.insert(identity, Arc::downgrade(&shared));
        shared
    }
}
