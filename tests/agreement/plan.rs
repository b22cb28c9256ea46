//! What our scheduler makes of a cluster: a node for every pod that it places, and the nodes it buys for them.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition, Taint};
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use karpenter_api::conditions::Condition;
use karpenter_api::{NodeClaim, NodePool, labels, taints};
use karpenter_bench::FixedCloud;
use karpenter_core::cloud::{InstanceType, Offering};
use karpenter_core::provision;
use karpenter_core::world::PodKey;
use karpenter_core::{
    Change, Deed, Fact, KubeWrite, Object, Observation, Requirement, Requirements, Resources, Settings, Timestamp,
    World, resources,
};
use serde_json::{Value, json};

use crate::cloud::{self, bought_labels, fixed_labels};
use crate::dice::Dice;

/// A cluster as the API server has it.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) pods: Vec<Pod>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pools: Vec<NodePool>,
    pub(crate) daemons: Vec<DaemonSet>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) claims: Vec<PersistentVolumeClaim>,
    pub(crate) volumes: Vec<PersistentVolume>,
    /// How many volumes each node takes.
    pub(crate) limits: Vec<CSINode>,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Node of each pod that has a place.
    pub(crate) places: BTreeMap<PodKey, String>,
    /// These pods in the order in which the scheduler placed them.
    pub(crate) order: Vec<PodKey>,
    /// Nodes to create.
    pub(crate) nodes: Vec<Value>,
    /// Why each other pod has none.
    pub(crate) unplaced: BTreeMap<PodKey, String>,
}

/// Plans all pods behind a scheduling gate as if they had been found unschedulable.
pub(crate) fn plan(cluster: Cluster, cloud: &FixedCloud, dice: &mut Dice) -> anyhow::Result<Plan> {
    let settings = Settings::default();
    let now = Timestamp::from_second(1_767_225_660)?;
    let world = world(cluster, &settings, now);
    let Some(due) = world.batch.due_at(&settings) else { bail!("no pod waits for a node") };
    let now = due.max(now).checked_add(SignedDuration::from_millis(1))?;
    let decision = provision::decide(&world, cloud, &settings, now);
    let mut plan = Plan::default();
    for action in &decision.actions {
        if let Deed::Kube(KubeWrite::Create { claim, .. }) = &action.deed {
            plan.nodes.push(node(claim, cloud, dice).with_context(|| format!("claim {claim:?}"))?);
        }
    }
    for fact in &decision.facts {
        if let Fact::PodNominated { pod, .. } = fact {
            plan.order.push(PodKey { namespace: pod.namespace.clone(), name: pod.name.clone() });
        }
    }
    for learned in decision.learned {
        let Observation::Planned(round) = learned else { continue };
        plan.places.extend(round.nominated);
        for (claim, pods) in round.claims {
            plan.places.extend(pods.into_iter().map(|pod| (pod, claim.clone())));
        }
        plan.unplaced.extend(round.unschedulable.into_iter().map(|(pod, why)| (pod, why.to_string())));
    }
    ensure!(
        plan.order.len() == plan.places.len(),
        "{} pods are told of, {} placed",
        plan.order.len(),
        plan.places.len()
    );
    for pod in world.pods.values().filter(|pod| pod.is_provisionable()) {
        let told = plan.places.contains_key(&pod.key) || plan.unplaced.contains_key(&pod.key);
        ensure!(told, "pod {}: it has neither a place nor a verdict", pod.key);
    }
    Ok(plan)
}

fn world(cluster: Cluster, settings: &Settings, now: Timestamp) -> World {
    let nodes = cluster.nodes.into_iter().map(|node| Object::Node(Box::new(node)));
    let pools = cluster.pools.into_iter().map(|pool| Object::NodePool(Box::new(ready(pool))));
    let daemons = cluster.daemons.into_iter().map(|daemon| Object::DaemonSet(Box::new(daemon)));
    let pods = cluster.pods.into_iter().map(|pod| Object::Pod(Box::new(waiting(pod))));
    let namespaces = cluster.namespaces.into_iter().map(|namespace| Object::Namespace(Box::new(namespace)));
    let claims = cluster.claims.into_iter().map(|claim| Object::PersistentVolumeClaim(Box::new(claim)));
    let volumes = cluster.volumes.into_iter().map(|volume| Object::PersistentVolume(Box::new(volume)));
    let limits = cluster.limits.into_iter().map(|limit| Object::CsiNode(Box::new(limit)));
    let storage = claims.chain(volumes).chain(limits);
    let mut world = World::new(settings);
    for kind in world.watched() {
        world.apply(Observation::Listed { kind, names: Vec::new() }, now);
    }
    for object in namespaces.chain(storage).chain(nodes).chain(pools).chain(daemons).chain(pods) {
        world.apply(Observation::Kube(Change::Applied(object)), now);
    }
    world
}

/// The pool as its controller would have judged it.
fn ready(mut pool: NodePool) -> NodePool {
    identify(&mut pool.metadata);
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let condition: Option<Condition> = serde_json::from_value(condition).ok();
    pool.status.get_or_insert_default().conditions = condition.map(|condition| vec![condition]);
    pool
}

/// What a plan looks at of an object's identity must not differ from run to run.
fn identify(meta: &mut ObjectMeta) {
    let name =
        format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let seed = name.bytes().fold(0, |sum: u64, byte| Dice::new(sum ^ u64::from(byte)).roll());
    meta.uid = Some(format!("{seed:016x}"));
    meta.creation_timestamp = None;
}

/// A pod behind a gate as if there were none and kube-scheduler had found no node.
fn waiting(mut pod: Pod) -> Pod {
    identify(&mut pod.metadata);
    let Some(spec) = &mut pod.spec else { return pod };
    if spec.scheduling_gates.take().is_some() {
        pod.status.get_or_insert_default().conditions = Some(vec![PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            ..PodCondition::default()
        }]);
    }
    pod
}

/// A node as a launch of the claim may bring it: whatever the claim leaves open is for the dice.
fn node(claim: &NodeClaim, cloud: &FixedCloud, dice: &mut Dice) -> anyhow::Result<Value> {
    let mut wanted = Requirements::default();
    for spec in &claim.spec.requirements {
        wanted.add(labels::normalized(&spec.key), Requirement::from_spec(spec));
    }
    let listed = wanted.get(labels::INSTANCE_TYPE).context("requirements: expected a list of instance types")?;
    let mut choices: Vec<(&InstanceType, &Offering)> = Vec::new();
    for name in &listed.values {
        let kind = cloud::get(cloud, name).with_context(|| format!("instance type {name}: not in the catalogue"))?;
        if wanted.intersects(&kind.requirements).is_err() {
            continue;
        }
        let allows = |offering: &&Offering| {
            let is_open = |(key, value): &(&str, String)| wanted.get(key).is_none_or(|one| one.has(value));
            offering.available && bought_labels(offering).iter().all(is_open)
        };
        choices.extend(kind.offerings.iter().filter(allows).map(|offering| (kind, offering)));
    }
    ensure!(!choices.is_empty(), "no type and offering is left that the claim allows");
    let (kind, offering) = *dice.pick(&choices);
    let name = claim.metadata.name.clone().unwrap_or_default();
    let mut all = claim.metadata.labels.clone().unwrap_or_default();
    all.extend(fixed_labels(kind));
    all.extend(bought_labels(offering).map(|(key, value)| (key.to_owned(), value)));
    all.extend([labels::REGISTERED, labels::INITIALIZED].map(|key| (key.to_owned(), "true".to_owned())));
    let standing: Vec<Taint> = claim.spec.taints.iter().flatten().map(taints::to_core).collect();
    Ok(node_object(&name, all, &standing, kind))
}

/// A Node as its kubelet would have registered it, Ready.
pub(crate) fn node_object(
    name: &str,
    mut all: BTreeMap<String, String>,
    standing: &[Taint],
    kind: &InstanceType,
) -> Value {
    all.insert(labels::HOSTNAME.to_owned(), name.to_owned());
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": all },
        "spec": { "taints": standing, "providerID": format!("test:///{name}") },
        "status": {
            "capacity": quantities(&kind.capacity),
            "allocatable": quantities(&kind.allocatable),
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": Timestamp::now().strftime("%FT%TZ").to_string(),
                "lastTransitionTime": Timestamp::now().strftime("%FT%TZ").to_string(),
            }],
        },
    })
}

fn quantities(amounts: &Resources) -> BTreeMap<String, String> {
    let text = |name: &str, amount: i64| resources::quantity(name, amount).to_string();
    amounts.0.iter().map(|(name, amount)| (name.clone(), text(name, *amount))).collect()
}
