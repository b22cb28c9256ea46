//! kube-scheduler: its filters for what the workloads ask, one pod after the other.
//!
//! Taints, labels and selectors are judged by the rules of `karpenter_judge`; room, zones and neighbours are counted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::agenda::Ms;
use crate::cluster::NodeInfo;
use crate::log::told;
use crate::sim::{Due, Sim};

/// Between something that may let a pod be placed and the attempt.
const SCHEDULE_LAG: Ms = 100;

impl Sim {
    pub(crate) fn schedule_soon(&mut self) {
        if !self.cluster.scheduling && !self.cluster.waiting.is_empty() {
            self.cluster.scheduling = true;
            self.agenda.at(self.now + SCHEDULE_LAG, Due::Schedule);
        }
    }

    /// One pass over the pods that wait. Of pods that are alike, the first that finds no place speaks for all.
    pub(crate) fn schedule(&mut self) {
        self.cluster.scheduling = false;
        let waiting: Vec<String> = self.cluster.waiting.values().cloned().collect();
        let mut hopeless: Vec<usize> = Vec::new();
        for name in waiting {
            let Some((workload, refused)) = self.cluster.pods.get(&name).map(|pod| (pod.workload, pod.refused)) else {
                continue;
            };
            let node = if hopeless.contains(&workload) { None } else { self.place_for(&name, workload) };
            if let Some(node) = node {
                self.bind(&name, &node);
                self.settle();
                continue;
            }
            hopeless.push(workload);
            if !refused {
                self.refuse(&name);
            }
        }
        self.settle();
    }

    /// The emptiest node that fits.
    fn place_for(&mut self, name: &str, workload: usize) -> Option<String> {
        let pod = self.api.pods.get(name)?;
        let of = self.cluster.workloads.get(workload)?;
        let (cpu, memory, apart) = (of.cpu, of.memory, of.apart);
        let zonal = of.zonal;
        for (node_name, node) in &mut self.cluster.nodes {
            node.fits.entry(workload).or_insert_with(|| {
                self.api.nodes.get(node_name).is_some_and(|object| {
                    let spec = object.spec.as_ref();
                    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
                    let labels = object.metadata.labels.clone().unwrap_or_default();
                    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
                    spec.and_then(|spec| spec.unschedulable) != Some(true)
                        && karpenter_judge::untolerated(taints, tolerations.unwrap_or_default()).is_none()
                        && karpenter_judge::pod_chooses(pod, node_name, &labels)
                })
            });
        }
        let room = |node: &NodeInfo| node.cpu_left >= cpu && node.memory_left >= memory && node.pods_left >= 1;
        let alone = |node: &NodeInfo| !apart || !node.held.contains_key(&workload);
        let zones = zonal.then(|| self.zones_of(pod, workload));
        let lowest = zones.as_ref().and_then(|zones| zones.values().min().copied()).unwrap_or(0);
        let even = |node: &NodeInfo| zones.as_ref().is_none_or(|zones| zones.get(&node.zone).copied() == Some(lowest));
        let fit = |node: &NodeInfo| node.fits.get(&workload) == Some(&true) && room(node) && alone(node) && even(node);
        let found = self.cluster.nodes.iter().filter(|(_, node)| fit(node));
        found.max_by_key(|(_, node)| (node.cpu_left, node.memory_left)).map(|(name, _)| name.clone())
    }

    /// Pods of the workload by zone, over the zones whose nodes the pod chooses (taints do not matter to that).
    fn zones_of(&self, pod: &Pod, workload: usize) -> BTreeMap<String, u32> {
        let mut zones: BTreeMap<String, u32> = BTreeMap::new();
        for (name, node) in &self.cluster.nodes {
            let labels = self.api.nodes.get(name).and_then(|object| object.metadata.labels.as_ref());
            if labels.is_some_and(|labels| karpenter_judge::pod_chooses(pod, name, labels)) {
                let going = |name: &&String| {
                    self.cluster.pods.get(*name).is_some_and(|pod| pod.workload == workload && !pod.terminating)
                };
                let held = if node.held.contains_key(&workload) { node.pods.iter().filter(going).count() } else { 0 };
                *zones.entry(node.zone.clone()).or_default() += u32::try_from(held).unwrap_or(u32::MAX);
            }
        }
        zones
    }

    fn bind(&mut self, name: &str, node: &str) {
        told!(self, "scheduler {name} to {node}");
        let node = node.to_owned();
        self.api.update::<Pod>(name, move |pod| {
            let Some(spec) = &mut pod.spec else { return false };
            spec.node_name = Some(node);
            let status = pod.status.get_or_insert_default();
            status.conditions = condition("PodScheduled", "True", None);
            true
        });
    }

    fn refuse(&mut self, name: &str) {
        if let Some(pod) = self.cluster.pods.get_mut(name) {
            pod.refused = true;
        }
        self.api.update::<Pod>(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.conditions = condition("PodScheduled", "False", Some("Unschedulable"));
            true
        });
    }
}

fn condition(of: &str, status: &str, reason: Option<&str>) -> Option<Vec<k8s_openapi::api::core::v1::PodCondition>> {
    serde_json::from_value(json!([{"type": of, "status": status, "reason": reason}])).ok()
}
