//! A World with one NodePool, `general`, and a cloud that sells two types of machine in three zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{NodeClaim, NodePool, labels};
use karpenter_core::cloud::{CapacityType, CatalogueProblem, InstanceType, LaunchProblem, NodeClassState, Offering};
use karpenter_core::provision::{self, Round};
use karpenter_core::resources::Resources;
use karpenter_core::world::PodKey;
use karpenter_core::{
    Change, Cloud, Deed, Kind, KubeWrite, Object, Observation, Requirement, Requirements, Settings, World,
};
use serde_json::{Value, json};

pub(crate) const ZONES: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cluster {
    pub(crate) world: World,
    cloud: Market,
    pub(crate) now: Timestamp,
}

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Answer {
    claims: BTreeMap<String, NodeClaim>,
    round: Round,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let mut cluster = Self { world: World::default(), cloud: Market::new(), now };
        for kind in Kind::ALL {
            cluster.world.apply(Observation::Listed { kind, names: Vec::new() }, now);
        }
        cluster.has(json!({
            "kind": "NodePool", "metadata": { "name": "general", "uid": "general" },
            "spec": { "template": { "spec": {
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
                "requirements": [],
            }}},
            "status": { "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }));
        cluster
    }

    pub(crate) fn has(&mut self, object: Value) {
        let object = read(object);
        self.learns(Observation::Kube(Change::Applied(object)));
    }

    pub(crate) fn lost(&mut self, object: Value) {
        let object = read(object);
        self.learns(Observation::Kube(Change::Deleted(object)));
    }

    pub(crate) fn learns(&mut self, observation: Observation) {
        self.world.apply(observation, self.now);
    }

    /// A pod that waits, with `spec` as its spec.
    pub(crate) fn waits(&mut self, name: &str, spec: &Value) {
        self.has(pod(name, "default", spec));
    }

    /// Whether a round is to come because of what was observed, sooner than by waiting.
    pub(crate) fn is_roused(&self) -> bool {
        let soon = self.now + SignedDuration::from_secs(2);
        self.world.batch.due_at(&Settings::default()).is_some_and(|due| due < soon)
    }

    /// The next round, `seconds` later at the earliest; the World learns of it.
    pub(crate) fn round_after(&mut self, seconds: i64) -> Answer {
        let settings = Settings::default();
        let due = self.world.batch.due_at(&settings).expect("pods wait");
        self.now = due.max(self.now + SignedDuration::from_secs(seconds));
        let decision = provision::decide(&self.world, &self.cloud, &settings, self.now);
        let mut round = None;
        for learned in decision.learned {
            if let Observation::Planned(planned) = &learned {
                round = Some((**planned).clone());
            }
            self.world.apply(learned, self.now);
        }
        let created = decision.actions.into_iter().filter_map(|action| match action.deed {
            Deed::Kube(KubeWrite::Create { object, claim }) => Some((object.name, *claim)),
            _ => None,
        });
        Answer { claims: created.collect(), round: round.expect("a round was solved") }
    }

    pub(crate) fn round(&mut self) -> Answer {
        self.round_after(0)
    }
}

impl Answer {
    /// The new claim that a pod was sent to.
    fn claim(&self, pod: &str) -> &NodeClaim {
        let mut all = self.round.claims.iter();
        let found = all.find(|(_, pods)| pods.iter().any(|key| key.name == pod));
        found.and_then(|(claim, _)| self.claims.get(claim)).unwrap_or_else(|| panic!("no claim for {pod}: {self:#?}"))
    }

    /// The zones that the new claim of a pod may be in; none named: any.
    pub(crate) fn zones(&self, pod: &str) -> Vec<String> {
        self.values(pod, labels::ZONE)
    }

    /// The types that the new claim of a pod may have.
    pub(crate) fn types(&self, pod: &str) -> Vec<String> {
        self.values(pod, labels::INSTANCE_TYPE)
    }

    fn values(&self, pod: &str, key: &str) -> Vec<String> {
        let mut all = self.claim(pod).spec.requirements.iter();
        all.find(|spec| spec.key == key).and_then(|spec| spec.values.clone()).unwrap_or_default()
    }

    /// Names of the resources that the new claim of a pod asks for.
    pub(crate) fn requests(&self, pod: &str) -> Vec<String> {
        let asked = self.claim(pod).spec.resources.as_ref().and_then(|of| of.requests.as_ref());
        asked.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// The node that a pod was sent to.
    pub(crate) fn node(&self, pod: &str) -> Option<&str> {
        self.round.nominated.iter().find(|(key, _)| key.name == pod).map(|(_, node)| node.as_str())
    }

    /// Why a pod has no place.
    pub(crate) fn refusal(&self, pod: &str) -> String {
        let key = |key: &&PodKey| key.name == pod;
        let found = self.round.unschedulable.iter().find(|(one, _)| key(one));
        found.unwrap_or_else(|| panic!("{pod} was not refused: {self:#?}")).1.to_string()
    }

    pub(crate) fn claims(&self) -> usize {
        self.claims.len()
    }
}

/// A pod that kube-scheduler found no place for.
pub(crate) fn pod(name: &str, namespace: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["containers"].is_null() {
        spec["containers"] = json!([{ "name": "main", "resources": { "requests": { "cpu": "500m" } } }]);
    }
    let waits = spec["nodeName"].is_null();
    let unschedulable = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }]);
    json!({
        "kind": "Pod", "metadata": { "name": name, "namespace": namespace, "uid": name, "labels": { "app": name } },
        "spec": spec, "status": { "conditions": if waits { unschedulable } else { json!([]) } },
    })
}

/// A node of 16 cores that is ready for pods.
pub(crate) fn node(name: &str, zone: &str) -> Value {
    json!({
        "kind": "Node",
        "metadata": { "name": name, "uid": name, "labels": {
            "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name, "karpenter.sh/initialized": "true",
            "karpenter.sh/registered": "true", "karpenter.sh/nodepool": "general",
        }},
        "status": {
            "allocatable": { "cpu": "16", "memory": "32Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn read(object: Value) -> Object {
    fn typed<T: k8s_openapi::serde::de::DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).expect("an object of its kind")
    }
    match object["kind"].clone().as_str().expect("a kind") {
        "Pod" => Object::Pod(Box::new(typed(object))),
        "Node" => Object::Node(Box::new(typed(object))),
        "NodePool" => Object::NodePool(Box::new(typed(object))),
        "NodeClaim" => Object::NodeClaim(Box::new(typed(object))),
        "DaemonSet" => Object::DaemonSet(Box::new(typed(object))),
        "PersistentVolumeClaim" => Object::PersistentVolumeClaim(Box::new(typed(object))),
        "PersistentVolume" => Object::PersistentVolume(Box::new(typed(object))),
        "StorageClass" => Object::StorageClass(Box::new(typed(object))),
        "CSINode" => Object::CsiNode(Box::new(typed(object))),
        "Namespace" => Object::Namespace(Box::new(typed(object))),
        other => panic!("no kind of these tests: {other}"),
    }
}

/// What can be bought.
struct Market(Arc<[Arc<InstanceType>]>);

impl Market {
    fn new() -> Self {
        Self([("small", "2", 100), ("large", "16", 800)].map(|(name, cpu, price)| machine(name, cpu, price)).into())
    }
}

fn machine(name: &str, cpu: &str, price: u64) -> Arc<InstanceType> {
    let amounts: Resources = [("cpu", cpu), ("memory", "32Gi"), ("pods", "110")]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), karpenter_core::resources::amount(name, text).expect("an amount")))
        .collect();
    let requirements = [
        (labels::INSTANCE_TYPE, vec![name]),
        (labels::ZONE, ZONES.to_vec()),
        (labels::CAPACITY_TYPE, vec!["on-demand"]),
        (labels::ARCH, vec!["amd64"]),
        (labels::OS, vec!["linux"]),
    ];
    let offering = |zone: &str| Offering {
        capacity_type: CapacityType::OnDemand,
        zone: zone.to_owned(),
        zone_id: String::new(),
        price,
        available: true,
        labels: BTreeMap::new(),
    };
    Arc::new(InstanceType {
        name: name.to_owned(),
        requirements: Requirements(
            requirements.into_iter().map(|(key, values)| (key.to_owned(), Requirement::one_of(values))).collect(),
        ),
        capacity: amounts.clone(),
        allocatable: amounts,
        offerings: ZONES.into_iter().map(offering).collect(),
    })
}

impl Cloud for Market {
    type Call = ();

    fn node_class(&self, _name: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, _pool: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        Ok(Arc::clone(&self.0))
    }

    fn launch(&self, _claim: &NodeClaim, _attempt: u32, _now: Timestamp) -> Result<(), LaunchProblem> {
        Err(LaunchProblem::NotYet("nothing is launched here".to_owned()))
    }

    fn find(&self, _claim: &NodeClaim) {}

    fn terminate(&self, _provider_id: &str) {}
}
