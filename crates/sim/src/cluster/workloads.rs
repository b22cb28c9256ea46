//! What wants pods: Deployments, StatefulSets, DaemonSets and Jobs, as their controllers treat them.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use karpenter_api::labels as keys;
use serde_json::{Value, json};

use crate::agenda::{MINUTE, Ms};
use crate::api::NAMESPACE;
use crate::cluster::Phase;
use crate::log::told;
use crate::sim::{Due, Sim};

/// How soon a controller acts on what it sees.
const RECONCILE_LAG: Ms = 200;
/// A Job's ended pods are removed after this long.
const ENDED_FOR: Ms = MINUTE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) replicas: i64,
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    /// Evenly over the zones, or not at all.
    pub(crate) zonal: bool,
    /// Never two on one node.
    pub(crate) apart: bool,
    pub(crate) must_stay: bool,
    pub(crate) critical: bool,
    /// Only on nodes of this pool, whose taint it tolerates.
    pub(crate) pool: Option<String>,
    /// Its budget; none without.
    pub(crate) max_unavailable: Option<i64>,
    /// Its budget allows nothing for now.
    pub(crate) blocked: bool,
    /// Seconds its pods may take to end.
    pub(crate) grace: i64,
    /// How long a Job's pods run.
    pub(crate) lifetime: Ms,
    /// Another template, other pods.
    pub(crate) revision: u32,
    /// No node can ever hold it.
    pub(crate) impossible: bool,
    pub(crate) pods: BTreeSet<String>,
    pub(crate) made: u64,
}

impl Workload {
    pub(crate) fn new(name: String, owner: Owner) -> Self {
        Self {
            name,
            owner,
            replicas: 0,
            cpu: 100,
            memory: 128 << 20,
            zonal: false,
            apart: false,
            must_stay: false,
            critical: false,
            pool: None,
            max_unavailable: None,
            blocked: false,
            grace: 30,
            lifetime: 0,
            revision: 0,
            impossible: false,
            pods: BTreeSet::new(),
            made: 0,
        }
    }

    fn template(&self) -> Value {
        let labels = json!({"app": self.name});
        let mut spec = json!({
            "terminationGracePeriodSeconds": self.grace,
            "schedulerName": "default-scheduler",
            "containers": [{
                "name": "main",
                "resources": {"requests": {"cpu": format!("{}m", self.cpu), "memory": self.memory.to_string()}},
            }],
            "tolerations": self.tolerations(),
        });
        if let Some(pool) = &self.pool {
            spec["nodeSelector"] = json!({keys::NODEPOOL: pool});
        }
        if self.zonal {
            spec["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": keys::ZONE, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": labels},
            }]);
        }
        if self.apart {
            spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": keys::HOSTNAME, "labelSelector": {"matchLabels": labels},
            }]}});
        }
        if self.critical {
            spec["priorityClassName"] = json!("system-cluster-critical");
            spec["priority"] = json!(2_000_000_000);
        }
        let mut annotations = json!({});
        if self.must_stay {
            annotations[keys::DO_NOT_DISRUPT] = json!("true");
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    }

    fn tolerations(&self) -> Value {
        if self.owner == Owner::DaemonSet {
            return json!([{"operator": "Exists"}]);
        }
        let admitted = |key: &str| {
            json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            })
        };
        let mut all = vec![admitted("node.kubernetes.io/not-ready"), admitted("node.kubernetes.io/unreachable")];
        if self.pool.is_some() {
            all.push(json!({"key": "dedicated", "operator": "Exists"}));
        }
        json!(all)
    }

    pub(crate) fn pod(&self, name: &str, uid: &str, node: Option<&str>) -> Option<Pod> {
        let (version, kind) = match self.owner {
            Owner::Deployment => ("apps/v1", "ReplicaSet"),
            Owner::StatefulSet => ("apps/v1", "StatefulSet"),
            Owner::DaemonSet => ("apps/v1", "DaemonSet"),
            Owner::Job => ("batch/v1", "Job"),
        };
        let mut pod = self.template();
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(NAMESPACE);
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": version, "kind": kind, "name": self.name, "uid": uid, "controller": true,
        }]);
        pod["status"] = json!({"phase": "Pending"});
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(node);
        }
        serde_json::from_value(pod).ok()
    }

    pub(crate) fn daemon_set(&self) -> Option<DaemonSet> {
        let mut template = self.template();
        template["spec"]["terminationGracePeriodSeconds"] = json!(30);
        serde_json::from_value(json!({
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": {"app": self.name}}, "template": template},
        }))
        .ok()
    }

    pub(crate) fn budget(&self) -> Option<PodDisruptionBudget> {
        let unavailable = if self.blocked { 0 } else { self.max_unavailable? };
        serde_json::from_value(json!({
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"maxUnavailable": unavailable, "selector": {"matchLabels": {"app": self.name}}},
            "status": {
                "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                "observedGeneration": 1,
            },
        }))
        .ok()
    }
}

impl Sim {
    /// The workload's controller looks at it soon.
    pub(crate) fn reconcile_soon(&mut self, workload: usize) {
        if self.cluster.reconciling.insert(workload) {
            self.agenda.at(self.now + RECONCILE_LAG, Due::Reconcile(workload));
        }
        self.count_soon(workload);
    }

    pub(crate) fn reconcile(&mut self, workload: usize) {
        self.cluster.reconciling.remove(&workload);
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        match one.owner {
            Owner::DaemonSet => self.reconcile_daemons(workload),
            Owner::StatefulSet => self.reconcile_stateful(workload),
            Owner::Deployment | Owner::Job => self.reconcile_replicas(workload),
        }
        self.settle();
    }

    fn active(&self, workload: usize) -> Vec<String> {
        let pods = self.cluster.workloads.get(workload).map(|one| &one.pods).into_iter().flatten();
        let is_active = |name: &&String| {
            self.cluster.pods.get(*name).is_some_and(|pod| !pod.terminating && pod.phase != Phase::Ended)
        };
        pods.filter(is_active).cloned().collect()
    }

    fn reconcile_replicas(&mut self, workload: usize) {
        let active = self.active(workload);
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let wanted = usize::try_from(one.replicas).unwrap_or(0);
        for _ in active.len()..wanted {
            let number = self.cluster.workloads.get(workload).map_or(0, |one| one.made);
            let name = self.cluster.workloads.get(workload).map(|one| format!("{}-{number}", one.name));
            self.make_pod(workload, &name.unwrap_or_default(), None);
        }
        // Those without a node go first.
        let mut surplus = active.clone();
        surplus.sort_by_key(|name| {
            let pod = self.cluster.pods.get(name);
            (pod.is_some_and(|pod| pod.node.is_some()), pod.is_some_and(|pod| pod.ready))
        });
        for name in surplus.into_iter().take(active.len().saturating_sub(wanted)) {
            let _ = self.api.delete::<Pod>(&name, None, None, self.clock());
        }
    }

    /// A StatefulSet's pod has a name of its own, and comes again only when it is gone.
    fn reconcile_stateful(&mut self, workload: usize) {
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let (base, replicas) = (one.name.clone(), one.replicas);
        let known = one.pods.clone();
        for ordinal in 0..replicas {
            let name = format!("{base}-{ordinal}");
            if !known.contains(&name) {
                self.make_pod(workload, &name, None);
            }
        }
        for name in known {
            let ordinal = name.rsplit('-').next().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            if ordinal >= replicas && self.cluster.pods.get(&name).is_some_and(|pod| !pod.terminating) {
                let _ = self.api.delete::<Pod>(&name, None, None, self.clock());
            }
        }
    }

    fn reconcile_daemons(&mut self, workload: usize) {
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let base = one.name.clone();
        let missing: Vec<String> = self
            .cluster
            .nodes
            .iter()
            .filter(|(_, node)| !node.held.contains_key(&workload))
            .map(|(name, _)| name.clone())
            .collect();
        for node in missing {
            let made = self.cluster.workloads.get(workload).map_or(0, |one| one.made);
            self.make_pod(workload, &format!("{base}-{made}"), Some(&node));
        }
    }

    fn make_pod(&mut self, workload: usize, name: &str, node: Option<&str>) {
        let clock = self.clock();
        let Some(one) = self.cluster.workloads.get_mut(workload) else { return };
        one.made += 1;
        let uid = format!("owner-{workload}-{}", one.revision);
        if let Some(pod) = one.pod(name, &uid, node) {
            self.api.create(pod, clock);
        }
        // A controller counts on what it has just made.
        self.settle();
    }

    /// A Job's pod has done its work.
    pub(crate) fn job_ends(&mut self, name: &str, uid: &str) {
        let Some(pod) = self.cluster.pods.get(name).filter(|pod| pod.uid == uid) else { return };
        let alive = pod.node.as_ref().and_then(|node| self.cluster.nodes.get(node)).is_some_and(|node| node.alive);
        if pod.terminating || !alive {
            return;
        }
        let workload = pod.workload;
        if let Some(one) = self.cluster.workloads.get_mut(workload) {
            one.replicas = (one.replicas - 1).max(0);
        }
        self.api.update::<Pod>(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Succeeded".to_owned());
            for condition in status.conditions.iter_mut().flatten().filter(|c| c.type_ == "Ready") {
                "False".clone_into(&mut condition.status);
            }
            true
        });
        self.agenda.at(self.now + ENDED_FOR, Due::Sweep(name.to_owned(), uid.to_owned()));
        self.settle();
    }

    pub(crate) fn scale(&mut self, workload: usize, replicas: i64) {
        if let Some(one) = self.cluster.workloads.get_mut(workload) {
            one.replicas = replicas.max(0);
            told!(self, "workload {} scaled to {replicas}", one.name);
        }
        self.reconcile_soon(workload);
    }

    /// A new template: all pods are replaced, a quarter at once.
    pub(crate) fn roll(&mut self, workload: usize) {
        if let Some(one) = self.cluster.workloads.get_mut(workload) {
            one.revision += 1;
            told!(self, "workload {} rolled", one.name);
        }
        let active = self.active(workload);
        let step = (active.len() / 4).max(1);
        for (at, name) in active.into_iter().enumerate() {
            let round = Ms::try_from(at / step).unwrap_or(0);
            self.agenda.at(self.now + 1 + round * MINUTE, Due::UserDeletesPod(name));
        }
    }
}
