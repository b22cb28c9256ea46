//! Host ports: pods that want the same do not share a node.
//!
//! A daemon takes its ports on every node it runs on, and so only some instance types of a pool may have
//! them left. Such a port is a resource: every node has plenty of it, a daemon takes all, a pod that wants
//! it asks for one. Only ports that pods of the round want as well are looked at.

use std::collections::BTreeMap;

use super::Interned;
use super::classes::Kind;
use super::daemons::Daemon;
use crate::resources::Resources;
use crate::world::HostPort;

/// More than pods could ever ask for on one node.
const PLENTY: i64 = 1 << 30;

/// Ports that a daemon takes and a pod wants, by their names as resources.
pub(super) type Contested = BTreeMap<String, HostPort>;

/// Makes resources of the contested ports, in what daemons and pods ask for.
pub(super) fn contest(kinds: &mut [Kind], daemons: &mut [Daemon]) -> Contested {
    let mut contested = Contested::new();
    for port in daemons.iter().flat_map(|daemon| &daemon.ports) {
        if kinds.iter().any(|kind| wants(&kind.digest.ports, port)) {
            contested.insert(name(port), port.clone());
        }
    }
    for (name, port) in &contested {
        for kind in kinds.iter_mut().filter(|kind| wants(&kind.digest.ports, port)) {
            kind.requests.set(name.clone(), 1);
        }
        for daemon in daemons.iter_mut().filter(|daemon| daemon.ports.contains(port)) {
            daemon.requests.set(name.clone(), PLENTY);
        }
    }
    contested
}

fn wants(ports: &[HostPort], taken: &HostPort) -> bool {
    ports.iter().any(|port| port.conflicts(taken))
}

/// As people read it; no resource of Kubernetes has a space in its name.
fn name(port: &HostPort) -> String {
    let at = if port.ip.is_empty() { String::new() } else { format!(" at {}", port.ip) };
    format!("host port {}/{}{at}", port.protocol, port.port)
}

impl Interned<'_> {
    /// What a node without daemons has, with its ports.
    pub(super) fn with_ports(&self, of: &Resources) -> Resources {
        let mut all = of.clone();
        for name in self.contested.keys() {
            all.set(name.clone(), PLENTY);
        }
        all
    }

    /// Daemons that want the same port take it once: of a port nobody can have more than there is.
    pub(super) fn take_ports_once(&self, of: &mut Resources) {
        for name in self.contested.keys() {
            of.set(name.clone(), of.get(name).min(PLENTY));
        }
    }

    pub(super) fn port(&mut self, port: &HostPort) -> usize {
        self.ports.iter().position(|known| known == port).unwrap_or_else(|| {
            self.ports.push(port.clone());
            self.ports.len() - 1
        })
    }

    pub(super) fn port_conflicts(&self) -> Vec<Vec<usize>> {
        let conflicts = |port: &HostPort| {
            let others = self.ports.iter().enumerate();
            others.filter(|(_, other)| port.conflicts(other)).map(|(at, _)| at).collect()
        };
        self.ports.iter().map(conflicts).collect()
    }
}
