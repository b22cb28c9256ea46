//! What DaemonSets take of a node.

use k8s_openapi::api::core::v1::{Taint, Toleration};
use karpenter_api::taints;
use karpenter_solver::Row;

use super::Interned;
use crate::World;
use crate::provision::pods::needs;
use crate::requirements::Requirements;
use crate::resources::Resources;
use crate::world::{HostPort, PodState, host_ports, template_requests};

/// Taints that every DaemonSet's pods tolerate: its controller adds the tolerations (Kubernetes, DaemonSet).
const SUFFERED: [&str; 6] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];

/// A DaemonSet's pod: what it asks for, and the nodes it chooses.
pub(super) struct Daemon {
    uid: Option<String>,
    pub(super) requests: Resources,
    pub(super) needs: Vec<Requirements>,
    pub(super) ports: Vec<HostPort>,
    rows: Vec<Row>,
    tolerations: Vec<Toleration>,
}

impl Daemon {
    pub(super) fn owns(&self, pod: &PodState) -> bool {
        pod.pod.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == self.uid.as_ref())
    }

    /// Preferences to stay away do not keep a daemon off.
    pub(super) fn tolerates<'t>(&self, mut standing: impl Iterator<Item = &'t Taint>) -> bool {
        let passes = |taint: &Taint| taint.effect == "PreferNoSchedule" || SUFFERED.contains(&taint.key.as_str());
        standing.all(|taint| passes(taint) || taints::tolerates(&self.tolerations, taint))
    }
}

/// Every DaemonSet whose template can be read.
pub(super) fn daemons(world: &World) -> Vec<Daemon> {
    let read = world.daemons.values().filter_map(|daemon| {
        let spec = daemon.spec.as_ref()?.template.spec.as_ref()?;
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let selector = spec.node_selector.clone().unwrap_or_default();
        Some(Daemon {
            uid: daemon.metadata.uid.clone(),
            requests: template_requests(spec),
            needs: needs(&selector, affinity).ok()?,
            ports: host_ports(spec),
            rows: Vec::new(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
        })
    });
    read.collect()
}

impl Interned<'_> {
    pub(super) fn intern_daemons(&self, daemons: &mut [Daemon]) {
        for daemon in daemons {
            let row = |need: &Requirements| self.words.row(&self.problem.layout, need);
            daemon.rows = daemon.needs.iter().map(row).collect();
        }
    }

    pub(super) fn runs_on(&self, daemon: &Daemon, node: &Row) -> bool {
        daemon.rows.iter().any(|row| self.problem.layout.intersects(row, node))
    }
}
