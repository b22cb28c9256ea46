//! One control plane for all workloads, emptied between them, and what kube-scheduler says of a plan.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition, ServiceAccount, Taint,
};
use k8s_openapi::api::storage::v1::CSINode;
use karpenter_api::{NodePool, taints};
use karpenter_core::world::PodKey;
use karpenter_harness::{ControlPlane, Parts, Seen, until};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::extender::{self, PINNED};
use crate::plan::{Cluster, Plan};
use crate::pods::ENDS_IN;
use crate::storage;
use crate::workload::{CORDONED, NAMESPACES, RUNTIME, Workload};

/// Longer than anything here takes on a slow machine; a wait that is over earlier ends earlier.
const SOON: Duration = Duration::from_secs(30);
/// Nothing was bound for so long, and kube-scheduler has refused every pod that is left: nothing will be.
const STUCK_AFTER: Duration = Duration::from_millis(2500);

pub(crate) struct Court {
    client: Client,
    _controlplane: ControlPlane,
}

/// Pods without a node, with what kube-scheduler says of them.
pub(crate) type Refused = BTreeMap<PodKey, String>;

/// How kube-scheduler took a plan when it was held to it.
pub(crate) enum Judgement {
    /// Every pod is where it was planned.
    Agrees,
    /// So it is if the pods come in the order in which they were planned, but not in the one they happened to.
    AgreesInOrder,
    /// These cannot be bound where they were planned.
    Refuses(Refused),
}

impl Court {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let parts = Parts::ready(&|line| println!("{line}"))?;
        let controlplane = ControlPlane::start(&parts, Some(&extender::serve().await?)).await?;
        let client = controlplane.cluster.client.clone();
        let overhead = json!({ "podFixed": { "cpu": "250m", "memory": "120Mi" } });
        let runtime = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": RUNTIME },
            "handler": RUNTIME, "overhead": overhead,
        });
        controlplane.cluster.apply(&runtime.to_string()).await?;
        for (name, climate) in NAMESPACES {
            let own = json!({ "name": name, "labels": { "climate": climate } });
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": own });
            controlplane.cluster.apply(&namespace.to_string()).await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
            until("the namespace has its ServiceAccount", SOON, async || {
                Ok(Seen::holds(accounts.get_opt("default").await?.is_some(), name))
            })
            .await?;
        }
        for object in storage::objects() {
            controlplane.cluster.apply(&object.to_string()).await?;
        }
        let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
        until("claims are bound to their volumes", SOON, async || {
            let phase = |claim: PersistentVolumeClaim| claim.status.and_then(|status| status.phase);
            let all = claims.list(&ListParams::default()).await?.items;
            let phases: Vec<_> = all.into_iter().map(phase).collect();
            Ok(Seen::holds(phases.iter().all(|phase| phase.as_deref() == Some("Bound")), phases))
        })
        .await?;
        Ok(Self { client, _controlplane: controlplane })
    }

    /// Creates a workload in an empty cluster and reads it back, with every default filled in.
    pub(crate) async fn admit(&self, workload: &Workload) -> anyhow::Result<Cluster> {
        self.clear().await?;
        let limits = self.all::<CSINode>();
        try_join_all(workload.limits.iter().map(|limit| create(&limits, limit))).await?;
        self.create_nodes(&workload.nodes).await?;
        let (pools, daemons) = (self.all::<NodePool>(), self.in_namespace::<DaemonSet>(NAMESPACES[0].0));
        try_join_all(workload.pools.iter().map(|pool| create(&pools, pool))).await?;
        try_join_all(workload.daemons.iter().map(|daemon| create(&daemons, daemon))).await?;
        self.create_pods(workload.running.iter().chain(&workload.pending)).await?;
        try_join_all(workload.running.iter().filter(|pod| !pod["status"].is_null()).map(|pod| self.report(pod)))
            .await?;
        try_join_all(workload.running.iter().map(|pod| self.end(pod))).await?;
        Ok(Cluster {
            pods: self.pods().await?,
            nodes: self.nodes().await?,
            pools: pools.list(&ListParams::default()).await?.items,
            daemons: daemons.list(&ListParams::default()).await?.items,
            namespaces: self.all::<Namespace>().list(&ListParams::default()).await?.items,
            claims: Api::<PersistentVolumeClaim>::all(self.client.clone()).list(&ListParams::default()).await?.items,
            volumes: self.all::<PersistentVolume>().list(&ListParams::default()).await?.items,
            limits: self.all::<CSINode>().list(&ListParams::default()).await?.items,
        })
    }

    /// The planned nodes appear, and kube-scheduler may bind each pod to its planned node only.
    pub(crate) async fn judge(&self, workload: &Workload, plan: &Plan) -> anyhow::Result<Judgement> {
        self.create_nodes(&plan.nodes).await?;
        let release = plan.places.iter().map(|(pod, node)| self.release(pod, Some(node)));
        try_join_all(release).await?;
        let mut refused = self.settled(workload, plan).await?;
        if refused.is_empty() {
            return Ok(Judgement::Agrees);
        }
        // Pods that happened to be bound first may shut out others: what counts is that there is an order, ours.
        self.recreate(workload, plan).await?;
        for pod in &plan.order {
            self.release(pod, plan.places.get(pod)).await?;
            if let Some(refusal) = self.looked_at(pod).await? {
                return Ok(Judgement::Refuses(Refused::from([(pod.clone(), refusal)])));
            }
        }
        refused = self.settled(workload, plan).await?;
        Ok(if refused.is_empty() { Judgement::AgreesInOrder } else { Judgement::Refuses(refused) })
    }

    /// The same pods on the same nodes, wherever kube-scheduler likes: those that it leaves without a node.
    pub(crate) async fn let_loose(&self, workload: &Workload, plan: &Plan) -> anyhow::Result<Refused> {
        self.recreate(workload, plan).await?;
        try_join_all(plan.places.keys().map(|pod| self.release(pod, None))).await?;
        self.settled(workload, plan).await
    }

    /// Gives a pod the status of its manifest, as its kubelet would.
    async fn report(&self, pod: &Value) -> anyhow::Result<()> {
        let PodKey { namespace, name } = key(pod);
        let status = Patch::Merge(json!({ "status": pod["status"] }));
        self.in_namespace::<Pod>(&namespace).patch_status(&name, &PatchParams::default(), &status).await?;
        Ok(())
    }

    /// Begins to delete a pod, if its manifest says so. No kubelet will ever report its end.
    async fn end(&self, pod: &Value) -> anyhow::Result<()> {
        let Some(seconds) = pod["metadata"][ENDS_IN].as_u64() else { return Ok(()) };
        let PodKey { namespace, name } = key(pod);
        let params = DeleteParams { grace_period_seconds: Some(seconds.try_into()?), ..DeleteParams::default() };
        self.in_namespace::<Pod>(&namespace).delete(&name, &params).await?;
        Ok(())
    }

    async fn recreate(&self, workload: &Workload, plan: &Plan) -> anyhow::Result<()> {
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let gone = plan
            .places
            .keys()
            .map(async |pod| self.in_namespace::<Pod>(&pod.namespace).delete(&pod.name, &params).await);
        try_join_all(gone).await?;
        self.create_pods(workload.pending.iter().filter(|pod| plan.places.contains_key(&key(pod)))).await
    }

    /// Takes the gate away from a pod.
    async fn release(&self, pod: &PodKey, node: Option<&String>) -> anyhow::Result<()> {
        let pinned = json!({ "metadata": { "annotations": { PINNED: node } }, "spec": { "schedulingGates": null } });
        let api = self.in_namespace::<Pod>(&pod.namespace);
        api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(pinned)).await.with_context(|| pod.to_string())?;
        Ok(())
    }

    /// kube-scheduler has bound the pod, or refused it for so long that no event will change its mind; then why.
    async fn looked_at(&self, pod: &PodKey) -> anyhow::Result<Option<String>> {
        let api = self.in_namespace::<Pod>(&pod.namespace);
        let since = Instant::now();
        until(&format!("kube-scheduler looks at {pod}"), SOON, async || {
            let pod = api.get(&pod.name).await?;
            Ok(if node_of(&pod).is_some() {
                Seen::Done(None)
            } else if is_refused(&pod) && since.elapsed() > STUCK_AFTER {
                Seen::Done(Some(refusal(&pod)))
            } else {
                Seen::NotYet(refusal(&pod))
            })
        })
        .await
    }

    /// Waits until every planned pod and every daemon's pod is bound, or nothing moves any longer; the pods that are left.
    async fn settled(&self, workload: &Workload, plan: &Plan) -> anyhow::Result<Refused> {
        let daemons = self.expected_daemons(workload).await?;
        let mut bound_last = (0, Instant::now());
        until("kube-scheduler is through", SOON, async || {
            let pods = self.pods().await?;
            let (bound, rest): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| node_of(pod).is_some());
            if bound.len() != bound_last.0 {
                bound_last = (bound.len(), Instant::now());
            }
            let left: Vec<&Pod> =
                rest.into_iter().filter(|pod| is_daemon(pod) || plan.places.contains_key(&pod_key(pod))).collect();
            let of_daemons = bound.iter().filter(|pod| is_daemon(pod)).count();
            if left.is_empty() && of_daemons >= daemons {
                return Ok(Seen::Done(Refused::new()));
            }
            let told: Refused = left.iter().map(|pod| (pod_key(pod), refusal(pod))).collect();
            let stuck =
                !left.is_empty() && left.iter().all(|pod| is_refused(pod)) && bound_last.1.elapsed() > STUCK_AFTER;
            Ok(if stuck {
                Seen::Done(told)
            } else {
                Seen::NotYet(format!("{of_daemons} of {daemons} pods of daemons, without a node: {told:?}"))
            })
        })
        .await
    }

    /// How many pods the DaemonSets must have, all nodes together.
    async fn expected_daemons(&self, workload: &Workload) -> anyhow::Result<usize> {
        let nodes = self.nodes().await?;
        let pairs = workload.daemons.iter().flat_map(|daemon| nodes.iter().map(move |node| (daemon, node)));
        Ok(pairs.filter(|(daemon, node)| runs_on(daemon, node)).count())
    }

    // ── what is there ──

    fn all<K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn in_namespace<K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(
        &self,
        namespace: &str,
    ) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let ours = |pod: &Pod| NAMESPACES.iter().any(|(name, _)| pod.metadata.namespace.as_deref() == Some(name));
        let all = Api::<Pod>::all(self.client.clone()).list(&ListParams::default()).await?;
        Ok(all.items.into_iter().filter(ours).collect())
    }

    async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        Ok(self.all::<Node>().list(&ListParams::default()).await?.items)
    }

    async fn create_pods(&self, pods: impl Iterator<Item = &Value>) -> anyhow::Result<()> {
        let create = pods.map(async |pod| {
            let api = self.in_namespace::<Pod>(pod["metadata"]["namespace"].as_str().unwrap_or_default());
            create(&api, pod).await
        });
        try_join_all(create).await?;
        Ok(())
    }

    /// Nodes that are there and Ready, with their own taints and no other: the API server adds one to new ones.
    async fn create_nodes(&self, nodes: &[Value]) -> anyhow::Result<()> {
        let api = self.all::<Node>();
        let each = nodes.iter().map(async |node| {
            create(&api, node).await?;
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let own = Patch::Merge(json!({ "spec": { "taints": node["spec"]["taints"] } }));
            anyhow::Ok(api.patch(name, &PatchParams::default(), &own).await?)
        });
        try_join_all(each).await?;
        until("nodes have the taints they were given", SOON, async || {
            let starting: Vec<_> = self
                .nodes()
                .await?
                .into_iter()
                .filter(|node| taints_of(node).iter().any(taints::is_ephemeral))
                .collect();
            Ok(Seen::holds(starting.is_empty(), starting.iter().map(|node| &node.metadata.name).collect::<Vec<_>>()))
        })
        .await
    }

    /// Nothing of an earlier workload is left.
    async fn clear(&self) -> anyhow::Result<()> {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let everything = ListParams::default();
        let daemons = self.in_namespace::<DaemonSet>(NAMESPACES[0].0);
        daemons.delete_collection(&DeleteParams::background(), &everything).await?;
        self.all::<NodePool>().delete_collection(&now, &everything).await?;
        self.all::<CSINode>().delete_collection(&now, &everything).await?;
        until("the cluster is empty", SOON, async || {
            for (namespace, _) in NAMESPACES {
                self.in_namespace::<Pod>(namespace).delete_collection(&now, &everything).await?;
            }
            self.all::<Node>().delete_collection(&now, &everything).await?;
            let left =
                (self.pods().await?.len(), self.nodes().await?.len(), daemons.list(&everything).await?.items.len());
            Ok(Seen::holds(left == (0, 0, 0), left))
        })
        .await
    }
}

async fn create<K>(api: &Api<K>, object: &Value) -> anyhow::Result<K>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let typed: K = serde_json::from_value(object.clone()).with_context(|| object.to_string())?;
    api.create(&PostParams::default(), &typed).await.with_context(|| object.to_string())
}

fn key(object: &Value) -> PodKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    PodKey { namespace: text("namespace"), name: text("name") }
}

fn pod_key(pod: &Pod) -> PodKey {
    let meta = &pod.metadata;
    PodKey { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_daemon(pod: &Pod) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "DaemonSet")
}

fn scheduled(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")
}

fn is_refused(pod: &Pod) -> bool {
    scheduled(pod).is_some_and(|condition| condition.reason.as_deref() == Some("Unschedulable"))
}

fn refusal(pod: &Pod) -> String {
    scheduled(pod).and_then(|condition| condition.message.clone()).unwrap_or_default()
}

fn taints_of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// The DaemonSet controller's rule, as far as the daemons here need it.
fn runs_on(daemon: &Value, node: &Node) -> bool {
    let spec = &daemon["spec"]["template"]["spec"];
    let own = node.metadata.labels.as_ref();
    let mut wanted = spec["nodeSelector"].as_object().into_iter().flatten();
    let chosen = wanted.all(|(key, value)| own.and_then(|own| own.get(key)).map(String::as_str) == value.as_str());
    let keeps_off = |taint: &Taint| taint.effect != "PreferNoSchedule" && taint.key != CORDONED;
    chosen && (!taints_of(node).iter().any(keeps_off) || !spec["tolerations"].is_null())
}
