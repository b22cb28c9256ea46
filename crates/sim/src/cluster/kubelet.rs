//! Kubelets: pods start, run and end on a node, as long as its kubelet works.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::agenda::SECOND;
use crate::cluster::workloads::Owner;
use crate::sim::{Due, Sim};

impl Sim {
    /// The pod's containers start.
    pub(crate) fn pod_starts(&mut self, name: &str, uid: &str) {
        let Some(pod) = self.cluster.pods.get(name).filter(|pod| pod.uid == uid && !pod.terminating) else { return };
        let (workload, node) = (pod.workload, pod.node.clone());
        let ready = node.as_ref().and_then(|node| self.cluster.nodes.get(node)).is_some_and(|node| node.alive);
        if !ready {
            // Looked at again when the kubelet is back.
            return;
        }
        self.api.update::<Pod>(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Running".to_owned());
            let started = json!([
                {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"},
            ]);
            status.conditions = serde_json::from_value(started).ok();
            true
        });
        let of = self.cluster.workloads.get(workload);
        if let Some(lifetime) = of.filter(|of| of.owner == Owner::Job).map(|of| of.lifetime) {
            self.agenda.at(self.now + lifetime, Due::JobEnds(name.to_owned(), uid.to_owned()));
        }
        self.settle();
    }

    /// A pod has been told to end: it takes its time, within its grace period.
    pub(crate) fn pod_told_to_end(&mut self, name: &str, uid: &str, grace: i64) {
        let own = self.dice.between(SECOND / 2, 12 * SECOND).min(grace.max(1) * SECOND);
        self.agenda.at(self.now + own, Due::PodEnds(name.to_owned(), uid.to_owned()));
    }

    pub(crate) fn pod_ends(&mut self, name: &str, uid: &str) {
        let Some(pod) = self.cluster.pods.get(name).filter(|pod| pod.uid == uid && pod.terminating) else { return };
        if pod.sticks {
            return;
        }
        let node = pod.node.as_ref().and_then(|node| self.cluster.nodes.get(node));
        if node.is_none_or(|node| node.alive) {
            self.api.remove::<Pod>(name);
            self.settle();
        }
    }

    /// A kubelet that is back does what was asked of it meanwhile.
    pub(crate) fn kubelet_catches_up(&mut self, node: &str) {
        let Some(info) = self.cluster.nodes.get(node) else { return };
        let pods: Vec<(String, String, bool, bool)> = info
            .pods
            .iter()
            .filter_map(|name| self.cluster.pods.get(name).map(|pod| (name, pod)))
            .map(|(name, pod)| (name.clone(), pod.uid.clone(), pod.terminating, pod.ready))
            .collect();
        for (name, uid, terminating, ready) in pods {
            let later = self.now + self.dice.between(SECOND, 5 * SECOND);
            if terminating {
                self.agenda.at(later, Due::PodEnds(name, uid));
            } else if !ready {
                self.agenda.at(later, Due::PodStarts(name, uid));
            }
        }
    }
}
