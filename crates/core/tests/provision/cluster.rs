//! A World, and a cloud that sells some types of machine: what is observed goes in, rounds come out.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{NodeClaim, NodePool, labels};
use karpenter_core::cloud::{
    CapacityType, CatalogueProblem, InstanceType, LaunchBatch, LaunchProblem, NodeClassState, Offering, Reservation,
};
use karpenter_core::provision::{self, Round};
use karpenter_core::resources::Resources;
use karpenter_core::world::PodKey;
use karpenter_core::{
    ActionKey, Change, Cloud, Deed, Failure, KubeWrite, Object, Observation, Requirement, Requirements, Settings,
    World, decide,
};
use serde_json::{Value, json};

pub(crate) const ZONES: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cluster {
    pub(crate) world: World,
    market: Market,
    settings: Settings,
    pub(crate) now: Timestamp,
}

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Answer {
    created: BTreeMap<String, NodeClaim>,
    round: Round,
}

impl Deref for Answer {
    type Target = Round;

    fn deref(&self) -> &Round {
        &self.round
    }
}

impl Cluster {
    /// One pool, `general`, and two types in three zones.
    pub(crate) fn new() -> Self {
        let types = [("small", 2), ("large", 16)].map(|(name, cores)| machine(name, cores, 32, &[], &ZONES));
        let mut cluster = Self::selling(types.into(), Settings::default());
        cluster.pool("general", &json!({}));
        cluster
    }

    /// No pool yet, and types of 2, 4, 8 and 16 cores in zones a and b.
    pub(crate) fn bare() -> Self {
        let sizes = [2, 4, 8, 16];
        let types = sizes.iter().map(|cores| kind(&format!("m.{cores}"), *cores, cores * 4, &[]));
        Self::selling(types.collect(), Settings::default())
    }

    /// Everything is listed, and nothing is there.
    pub(crate) fn selling(types: Vec<Arc<InstanceType>>, settings: Settings) -> Self {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let mut world = World::new(&settings);
        for kind in world.watched() {
            world.apply(Observation::Listed { kind, names: Vec::new() }, now);
        }
        Self { world, market: Market(types.into()), settings, now }
    }

    pub(crate) fn learns(&mut self, observation: Observation) {
        self.world.apply(observation, self.now);
    }

    pub(crate) fn see(&mut self, object: Object) {
        self.learns(Observation::Kube(Change::Applied(object)));
    }

    pub(crate) fn gone(&mut self, object: Object) {
        self.learns(Observation::Kube(Change::Deleted(object)));
    }

    pub(crate) fn has(&mut self, object: Value) {
        self.see(read(object));
    }

    pub(crate) fn lost(&mut self, object: Value) {
        self.gone(read(object));
    }

    pub(crate) fn pool(&mut self, name: &str, spec: &Value) {
        self.see(Object::NodePool(Box::new(pool(name, spec))));
    }

    pub(crate) fn pod(&mut self, pod: &Value) {
        self.has(pod.clone());
    }

    pub(crate) fn pod_gone(&mut self, pod: &Value) {
        self.lost(pod.clone());
    }

    /// A node of 4 cores and 16 GiB in zone a, not of any pool.
    pub(crate) fn node(&mut self, name: &str, more: &Value) {
        let mut node = json!({
            "kind": "Node",
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
        self.has(node);
    }

    /// A pod that waits, with `spec` as its spec.
    pub(crate) fn waits(&mut self, name: &str, spec: &Value) {
        self.has(pod(name, "default", spec));
    }

    /// When a round is due from now, in milliseconds.
    pub(crate) fn due(&self) -> Option<i64> {
        Some(self.world.batch.due_at(&self.settings)?.duration_since(self.now).as_millis().try_into().unwrap())
    }

    /// Whether a round is to come because of what was observed, sooner than by waiting.
    pub(crate) fn is_roused(&self) -> bool {
        self.due().is_some_and(|due| due < 2000)
    }

    pub(crate) fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// The one-line verdict of a pod.
    pub(crate) fn told(&self, pod: &str) -> String {
        self.world.unschedulable.get(&key(pod)).map(ToString::to_string).unwrap_or_default()
    }

    /// The next round, when it is due; the World learns of it, and sees the claims it creates.
    pub(crate) fn round(&mut self) -> Answer {
        let answer = self.round_unanswered();
        for claim in answer.created.values() {
            self.created(claim);
        }
        answer
    }

    /// The API server holds a claim that was planned.
    pub(crate) fn created(&mut self, claim: &NodeClaim) {
        let mut claim = claim.clone();
        claim.metadata.uid.clone_from(&claim.metadata.name);
        self.see(Object::NodeClaim(Box::new(claim)));
    }

    /// The next round, when it is due; the World learns of it, and of nothing that comes of it.
    pub(crate) fn round_unanswered(&mut self) -> Answer {
        let due = self.world.batch.due_at(&self.settings).expect("a round is due");
        self.now = self.now.max(due);
        let decision = provision::decide(&self.world, &self.market, &self.settings, self.now);
        let mut round = None;
        for learned in decision.learned {
            if let Observation::Planned(planned) = &learned {
                round = Some((**planned).clone());
            }
            self.learns(learned);
        }
        let mut created = BTreeMap::new();
        for action in decision.actions {
            if let Deed::Kube(KubeWrite::Create { object, claim }) = action.deed {
                created.insert(object.name, Arc::unwrap_or_clone(claim));
            }
        }
        Answer { created, round: round.expect("a round was solved") }
    }

    /// What is to be created now, of all that there is to do.
    pub(crate) fn creations(&self) -> Vec<ActionKey> {
        let decision = decide(&self.world, &self.market, &self.settings, self.now);
        decision.actions.into_iter().map(|action| action.key).filter(|key| key.verb == "create").collect()
    }

    /// A write that was under way is answered.
    pub(crate) fn answered(&mut self, key: &ActionKey, outcome: Result<(), Failure>) {
        self.world.begin(key, self.now);
        self.learns(Observation::Done { key: key.clone(), outcome: outcome.map(|()| None) });
    }

    pub(crate) fn round_after(&mut self, seconds: i64) -> Answer {
        self.later(seconds);
        self.round()
    }
}

impl Answer {
    /// The new claim that a pod was sent to.
    fn claim(&self, pod: &str) -> &NodeClaim {
        let mut all = self.round.claims.iter();
        let found = all.find(|(_, pods)| pods.iter().any(|key| key.name == pod));
        found.and_then(|(claim, _)| self.created.get(claim)).unwrap_or_else(|| panic!("no claim for {pod}: {self:#?}"))
    }

    /// The zones that the new claim of a pod may be in; none named: any.
    pub(crate) fn zones(&self, pod: &str) -> Vec<String> {
        self.values(pod, labels::ZONE)
    }

    /// The types that the new claim of a pod may have.
    pub(crate) fn types(&self, pod: &str) -> Vec<String> {
        self.values(pod, labels::INSTANCE_TYPE)
    }

    pub(crate) fn values(&self, pod: &str, key: &str) -> Vec<String> {
        let mut all = self.claim(pod).spec.requirements.iter();
        all.find(|spec| spec.key == key).and_then(|spec| spec.values.clone()).unwrap_or_default()
    }

    /// A label of the new claim of a pod.
    pub(crate) fn label(&self, pod: &str, key: &str) -> Option<String> {
        self.claim(pod).metadata.labels.as_ref()?.get(key).cloned()
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

    /// How many nodes it buys.
    pub(crate) fn buys(&self) -> usize {
        self.created.len()
    }
}

/// A ready pool without requirements.
pub(crate) fn pool(name: &str, spec: &Value) -> NodePool {
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
pub(crate) fn waiting(name: &str, cpu: &str, more: &Value) -> Value {
    let mut pod = json!({
        "kind": "Pod", "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        "status": { "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] },
    });
    merge(&mut pod, more);
    pod
}

/// A pod that runs on a node.
pub(crate) fn running(name: &str, cpu: &str, node: &str, more: &Value) -> Value {
    let mut pod = waiting(name, cpu, &json!({ "spec": { "nodeName": node } }));
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
    merge(&mut pod, more);
    pod
}

pub(crate) fn merge(into: &mut Value, more: &Value) {
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

pub(crate) fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// Names of the pods on new claims, claim by claim.
pub(crate) fn bought(round: &Round) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> =
        round.claims.values().map(|pods| pods.iter().map(|pod| pod.name.as_str()).collect()).collect();
    for pods in &mut all {
        pods.sort_unstable();
    }
    all.sort();
    all
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

/// A type with this many cores and GiB, in zones a and b.
pub(crate) fn kind(name: &str, cores: i64, gib: i64, more: &[(&str, i64)]) -> Arc<InstanceType> {
    machine(name, cores, gib, more, &ZONES[..2])
}

/// The same type with capacity reserved in zone a: so many nodes are left.
pub(crate) fn reserved(kind: &InstanceType, id: &str, left: u32) -> Arc<InstanceType> {
    let mut kind = kind.clone();
    let one_of = |values: &[&str]| Requirement::one_of(values.iter().copied());
    let mut requirements = (*kind.requirements).clone();
    requirements.0.insert(labels::CAPACITY_TYPE.to_owned(), one_of(&["on-demand", "reserved"]));
    kind.requirements = requirements.into();
    let mut offering = kind.offerings[0].clone();
    offering.capacity_type = CapacityType::Reserved;
    offering.price = 1;
    offering.reservation = Some(Reservation { id: id.to_owned(), left });
    kind.offerings.push(offering);
    Arc::new(kind)
}

fn machine(name: &str, cores: i64, gib: i64, more: &[(&str, i64)], zones: &[&str]) -> Arc<InstanceType> {
    let usual = [("cpu", cores * 1000), ("memory", gib << 30), ("pods", 100)];
    let amounts: Resources = usual.iter().chain(more).copied().collect();
    let requirements = [
        (labels::INSTANCE_TYPE, vec![name]),
        (labels::ZONE, zones.to_vec()),
        (labels::CAPACITY_TYPE, vec!["on-demand"]),
        (labels::ARCH, vec!["amd64"]),
        (labels::OS, vec!["linux"]),
    ];
    let offering = |zone: &&str| Offering {
        capacity_type: CapacityType::OnDemand,
        zone: (*zone).to_owned(),
        zone_id: String::new(),
        price: u64::try_from(cores * 40_000 + gib * 1_000).unwrap(),
        available: true,
        reservation: None,
        labels: BTreeMap::new(),
    };
    Arc::new(InstanceType {
        name: name.to_owned(),
        requirements: Requirements(
            requirements.into_iter().map(|(key, values)| (key.to_owned(), Requirement::one_of(values))).collect(),
        )
        .into(),
        capacity: amounts.clone(),
        allocatable: amounts,
        offerings: zones.iter().map(offering).collect(),
    })
}

impl Cloud for Market {
    type Call = ();

    fn version(&self) -> u64 {
        0
    }

    fn node_class(&self, _name: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, _pool: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        Ok(Arc::clone(&self.0))
    }

    fn launch(&self, _batch: &LaunchBatch<'_>, _planned: &[()], _now: Timestamp) -> Result<(), LaunchProblem> {
        Err(LaunchProblem::NotYet("nothing is launched here".to_owned()))
    }

    fn find(&self, _batch: &LaunchBatch<'_>) -> Option<()> {
        None
    }

    fn terminate(&self, _provider_id: &str) {}
}
