//! Rounds of provisioning on small Worlds: each test reads like the rule it checks.

mod defaults;
mod leaving;
mod priority;
mod starved;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use karpenter_api::{NodeClaim, NodePool};
use serde_json::{Value, json};

use super::Round;
use crate::cloud::{CapacityType, CatalogueProblem, InstanceType, LaunchProblem, NodeClassState, Offering};
use crate::observation::{Change, Object, Observation};
use crate::world::PodKey;
use crate::{Cloud, Deed, KubeWrite, Requirement, Requirements, Settings, Timestamp, World};

/// A catalogue, and nothing that could be launched.
struct Shop(Arc<[Arc<InstanceType>]>);

impl Cloud for Shop {
    type Call = ();

    fn node_class(&self, _: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, _: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        Ok(Arc::clone(&self.0))
    }

    fn launch(&self, _: &NodeClaim, _: u32, _: Timestamp) -> Result<(), LaunchProblem> {
        Err(LaunchProblem::NotYet(String::new()))
    }

    fn find(&self, _: &NodeClaim) {}

    fn terminate(&self, _: &str) {}
}

/// A type with this many cores and GiB, in zones a and b.
fn kind(name: &str, cores: i64, gib: i64, more: &[(&str, i64)]) -> Arc<InstanceType> {
    let mut capacity: crate::Resources =
        [("cpu", cores * 1000), ("memory", gib << 30), ("pods", 100)].into_iter().collect();
    for (resource, amount) in more {
        capacity.set(*resource, *amount);
    }
    let mut requirements = Requirements::default();
    for (key, values) in [
        ("node.kubernetes.io/instance-type", vec![name]),
        ("kubernetes.io/arch", vec!["amd64"]),
        ("kubernetes.io/os", vec!["linux"]),
        ("topology.kubernetes.io/zone", vec!["a", "b"]),
        ("karpenter.sh/capacity-type", vec!["on-demand"]),
    ] {
        requirements.add(key, Requirement::one_of(values.into_iter().map(str::to_owned)));
    }
    let offering = |zone: &str| Offering {
        capacity_type: CapacityType::OnDemand,
        zone: zone.to_owned(),
        zone_id: String::new(),
        price: u64::try_from(cores * 40_000 + gib * 1_000).unwrap(),
        available: true,
        labels: BTreeMap::new(),
    };
    let offerings = vec![offering("a"), offering("b")];
    Arc::new(InstanceType { name: name.to_owned(), requirements, allocatable: capacity.clone(), capacity, offerings })
}

/// A cluster, and the time.
struct Stage {
    world: World,
    shop: Shop,
    settings: Settings,
    now: Timestamp,
}

impl Stage {
    /// Types of 2, 4, 8 and 16 cores; everything is listed.
    fn new() -> Self {
        let sizes = [2, 4, 8, 16];
        let types: Vec<_> = sizes.iter().map(|cores| kind(&format!("m.{cores}"), *cores, cores * 4, &[])).collect();
        Self::selling(types, Settings::default())
    }

    fn selling(types: Vec<Arc<InstanceType>>, settings: Settings) -> Self {
        let mut world = World::new(&settings);
        for kind in world.watched() {
            world.apply(Observation::Listed { kind, names: Vec::new() }, Timestamp::UNIX_EPOCH);
        }
        Self { world, shop: Shop(types.into()), settings, now: Timestamp::UNIX_EPOCH }
    }

    fn see(&mut self, object: Object) {
        self.world.apply(Observation::Kube(Change::Applied(object)), self.now);
    }

    fn gone(&mut self, object: Object) {
        self.world.apply(Observation::Kube(Change::Deleted(object)), self.now);
    }

    /// When a round is due from now, in milliseconds.
    fn due(&self) -> Option<i64> {
        Some(self.world.batch.due_at(&self.settings)?.duration_since(self.now).as_millis().try_into().unwrap())
    }

    fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// The one-line verdict of a pod.
    fn told(&self, pod: &str) -> String {
        self.world.unschedulable.get(&key(pod)).map(ToString::to_string).unwrap_or_default()
    }

    /// Waits until a round is due, solves it, and sees the claims it creates.
    fn round(&mut self) -> Round {
        let due = self.world.batch.due_at(&self.settings).expect("a round is due");
        self.now = self.now.max(due);
        let decision = super::decide(&self.world, &self.shop, &self.settings, self.now);
        let mut round = None;
        for learned in decision.learned {
            if let Observation::Planned(planned) = &learned {
                round = Some((**planned).clone());
            }
            self.world.apply(learned, self.now);
        }
        for action in decision.actions {
            if let Deed::Kube(KubeWrite::Create { claim, .. }) = action.deed {
                self.see(Object::NodeClaim(claim));
            }
        }
        round.expect("the round was solved")
    }

    fn pool(&mut self, name: &str, spec: &Value) {
        self.see(Object::NodePool(Box::new(pool(name, spec))));
    }

    fn pod(&mut self, pod: &Value) {
        self.see(Object::Pod(Box::new(serde_json::from_value(pod.clone()).unwrap())));
    }

    fn pod_gone(&mut self, pod: &Value) {
        self.gone(Object::Pod(Box::new(serde_json::from_value(pod.clone()).unwrap())));
    }

    /// A node of 4 cores and 16 GiB in zone a, not of any pool.
    fn node(&mut self, name: &str, more: &Value) {
        let mut node = json!({
            "metadata": {
                "name": name, "uid": name,
                "labels": { "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a" },
            },
            "spec": { "providerID": format!("id/{name}") },
            "status": {
                "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "100" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        merge(&mut node, more);
        self.see(Object::Node(Box::new(serde_json::from_value(node).unwrap())));
    }
}

/// A ready pool without requirements.
fn pool(name: &str, spec: &Value) -> NodePool {
    let mut all = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
        "metadata": { "name": name, "uid": name },
        "spec": { "template": { "spec": {
            "requirements": [],
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
        } } },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }] },
    });
    merge(&mut all, &json!({ "spec": spec }));
    serde_json::from_value(all).unwrap()
}

/// A pod that no node was found for.
fn waiting(name: &str, cpu: &str, more: &Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        "status": { "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] },
    });
    merge(&mut pod, more);
    pod
}

/// A pod that runs on a node.
fn running(name: &str, cpu: &str, node: &str, more: &Value) -> Value {
    let mut pod = waiting(name, cpu, &json!({ "spec": { "nodeName": node } }));
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
    merge(&mut pod, more);
    pod
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, Value::Null) => drop(into.take()),
        (into, more) => *into = more.clone(),
    }
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// Names of the pods on new claims, claim by claim.
fn bought(round: &Round) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> =
        round.claims.values().map(|pods| pods.iter().map(|pod| pod.name.as_str()).collect()).collect();
    for pods in &mut all {
        pods.sort_unstable();
    }
    all.sort();
    all
}
