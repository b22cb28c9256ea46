//! Who lives in the cluster beside the controller, and what they know: workloads, the scheduler, kubelets.
//!
//! These tables follow the API server's objects (`Sim::settle`); they are there so that nobody has to search.

pub(crate) mod controllers;
pub(crate) mod kubelet;
pub(crate) mod nodes;
pub(crate) mod scheduler;
pub(crate) mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use crate::agenda::Ms;
use workloads::Workload;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Ended,
}

/// What the cluster knows of a pod.
#[derive(Clone, Debug)]
pub(crate) struct PodInfo {
    pub(crate) uid: String,
    pub(crate) workload: usize,
    pub(crate) node: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// Its containers do not end.
    pub(crate) sticks: bool,
    /// The scheduler has said that there is no place.
    pub(crate) refused: bool,
    /// Its place in the scheduler's queue.
    pub(crate) arrival: u64,
}

/// What the cluster knows of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeInfo {
    pub(crate) instance: String,
    pub(crate) zone: String,
    pub(crate) cpu_left: i64,
    pub(crate) memory_left: i64,
    pub(crate) pods_left: i64,
    /// Pods by workload.
    pub(crate) held: BTreeMap<usize, u32>,
    pub(crate) pods: BTreeSet<String>,
    /// The kubelet works.
    pub(crate) alive: bool,
    /// It has stopped for good.
    pub(crate) hung: bool,
    pub(crate) ready: bool,
    pub(crate) deleting: bool,
    /// Not ready since.
    pub(crate) lost: Option<Ms>,
    /// Its start-up taint is about to be taken away.
    pub(crate) starting: bool,
    /// Whether pods of a workload may stand here, room and other pods aside; empty after any change of the node.
    pub(crate) fits: BTreeMap<usize, bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) pods: BTreeMap<String, PodInfo>,
    pub(crate) nodes: BTreeMap<String, NodeInfo>,
    /// Pods without a node, in the order they came.
    pub(crate) waiting: BTreeMap<u64, String>,
    pub(crate) arrivals: u64,
    /// Node names by instance.
    pub(crate) joined: BTreeMap<String, String>,
    pub(crate) scheduling: bool,
    pub(crate) reconciling: BTreeSet<usize>,
    pub(crate) counting: BTreeSet<usize>,
}

impl Cluster {
    /// Pods of a workload that are ready and not on their way out.
    pub(crate) fn healthy(&self, workload: usize) -> i64 {
        let all = self.workloads.get(workload).map(|one| &one.pods).into_iter().flatten();
        let healthy = all.filter_map(|name| self.pods.get(name)).filter(|pod| pod.ready && !pod.terminating);
        i64::try_from(healthy.count()).unwrap_or(i64::MAX)
    }

    /// Fewest healthy pods its budget allows; `None`: it has no budget.
    pub(crate) fn desired(&self, workload: usize) -> Option<i64> {
        let one = self.workloads.get(workload)?;
        let unavailable = if one.blocked { 0 } else { one.max_unavailable? };
        Some(one.replicas - unavailable)
    }
}
