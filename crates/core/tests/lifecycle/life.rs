//! An API server and a cloud that do what they are asked to, at once, and a clock that only moves when nothing is left to
//! do. Everything that was done is in the journal, with its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{NodeClaim, NodePool};
use karpenter_core::action::{Part, WriteKind};
use karpenter_core::cloud::{
    CatalogueProblem, Drift, Instance, InstanceState, InstanceType, LaunchBatch, LaunchOutcome, LaunchProblem,
    Launched, NodeClassState, RepairPolicy,
};
use karpenter_core::{
    Action, Change, Cloud, Deed, Fact, Failure, KubeWrite, Object, ObjectRef, Observation, Settings, World, lifecycle,
    nodepool,
};
use serde_json::{Value, json};

/// What the tests' cloud is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Launch(Vec<NodeClaim>),
    Find(Vec<NodeClaim>),
    Terminate(String),
}

#[derive(Debug, Default)]
pub(crate) struct Sky {
    pub(crate) class_generation: i64,
    pub(crate) hooks: Vec<&'static str>,
    pub(crate) policies: Vec<RepairPolicy>,
    pub(crate) drift: Option<Drift>,
    /// What is on offer, once it is known.
    pub(crate) rows: Option<Arc<[Arc<InstanceType>]>>,
}

impl Cloud for Sky {
    type Call = Call;

    fn version(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    fn node_class(&self, _: &str) -> NodeClassState {
        NodeClassState::Ready { generation: self.class_generation }
    }

    fn catalogue(&self, _: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        self.rows.clone().ok_or(CatalogueProblem::NotYetObserved)
    }

    fn launch(&self, batch: &LaunchBatch<'_>, _: &[Call], _: Timestamp) -> Result<Call, LaunchProblem> {
        Ok(Call::Launch(batch.claims.iter().map(|claim| (*claim).clone()).collect()))
    }

    fn find(&self, batch: &LaunchBatch<'_>) -> Option<Call> {
        Some(Call::Find(batch.claims.iter().map(|claim| (*claim).clone()).collect()))
    }

    fn terminate(&self, provider_id: &str) -> Call {
        Call::Terminate(provider_id.to_owned())
    }

    fn drift(&self, _: &NodeClaim) -> Drift {
        self.drift.unwrap_or(Drift::None)
    }

    fn registration_hooks(&self, _: &NodeClaim) -> Vec<&'static str> {
        self.hooks.clone()
    }

    fn repair_policies(&self) -> &[RepairPolicy] {
        &self.policies
    }
}

type Key = (String, String);

pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) sky: Sky,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    began: Timestamp,
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// What was done, with the second in which it was.
    pub(crate) journal: Vec<String>,
    pub(crate) facts: Vec<Fact>,
    /// Pods that a budget holds.
    pub(crate) held: BTreeSet<String>,
    /// Objects that cannot be written.
    pub(crate) broken: BTreeSet<String>,
    /// Instances that are there, by provider id.
    pub(crate) instances: BTreeSet<String>,
    /// The cloud takes so many requests until an instance is gone.
    pub(crate) ends_slowly: bool,
    pub(crate) launches: bool,
    /// The API server takes so many writes a second, if not any number.
    pub(crate) rate: Option<i64>,
    waiting: VecDeque<Action<Call>>,
    next_write: Timestamp,
    /// Most pods that were asked to leave at a time.
    pub(crate) most_at_once: usize,
}

impl Life {
    pub(crate) fn new() -> Self {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let settings = Settings::default();
        let mut life = Self {
            world: World::new(&settings),
            sky: Sky { class_generation: 1, ..Sky::default() },
            settings,
            now,
            began: now,
            objects: BTreeMap::new(),
            version: 1,
            journal: Vec::new(),
            facts: Vec::new(),
            held: BTreeSet::new(),
            broken: BTreeSet::new(),
            instances: BTreeSet::new(),
            ends_slowly: false,
            launches: true,
            rate: None,
            waiting: VecDeque::new(),
            next_write: now,
            most_at_once: 0,
        };
        life.listed();
        life
    }

    /// A claim that is in use, and its node and instance, all called `name`.
    pub(crate) fn node(&mut self, name: &str, claim: &Value) {
        self.has(&claim_in_use(name, claim));
        self.has(&node(name, &json!({})));
        self.instances.insert(format!("id/{name}"));
    }

    pub(crate) fn pool(&mut self, name: &str, more: &Value) {
        let mut pool = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": { "name": name, "uid": format!("uid-{name}"), "generation": 1 },
            "spec": { "template": { "spec": {
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
                "requirements": [],
            } } },
        });
        merge(&mut pool, more);
        self.has(&pool);
    }

    /// From here on, as before the first complete list.
    pub(crate) fn unlisted(&mut self) {
        let known = std::mem::replace(&mut self.world, World::new(&self.settings));
        drop(known);
        let all: Vec<Object> = self.objects.values().map(read).collect();
        for object in all {
            self.world.apply(Observation::Kube(Change::Applied(object)), self.now);
        }
    }

    /// Everything is listed.
    pub(crate) fn listed(&mut self) {
        for kind in self.world.watched() {
            let names = self.objects.iter().filter(|(key, _)| format!("{kind:?}") == key.0);
            let name = |(key, object): (&Key, &Value)| match object["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("{namespace}/{}", key.1),
                None => key.1.clone(),
            };
            let names = names.map(name).collect();
            self.world.apply(Observation::Listed { kind, names }, self.now);
        }
    }

    /// Somebody wrote an object.
    pub(crate) fn has(&mut self, object: &Value) {
        let key = key(object);
        self.store(&key, object.clone());
    }

    /// Somebody changed an object.
    pub(crate) fn changes(&mut self, kind: &str, name: &str, patch: &Value) {
        let key = (kind.to_owned(), name.to_owned());
        let mut object = self.objects.get(&key).unwrap_or_else(|| panic!("no {kind} {name}")).clone();
        merge(&mut object, patch);
        self.store(&key, object);
    }

    /// Somebody deleted an object.
    pub(crate) fn deletes(&mut self, kind: &str, name: &str) {
        self.delete(&(kind.to_owned(), name.to_owned()), None);
    }

    /// Nothing of an object is left, as if it had no finalizer.
    pub(crate) fn vanishes(&mut self, kind: &str, name: &str) {
        self.remove(&(kind.to_owned(), name.to_owned()));
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Status and reason of a condition, or nothing.
    pub(crate) fn condition(&self, kind: &str, name: &str, condition: &str) -> String {
        let list = self.get(kind, name).and_then(|object| object["status"]["conditions"].as_array().cloned());
        let found = list.unwrap_or_default().into_iter().find(|known| known["type"] == condition);
        found.map_or(String::new(), |c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
    }

    pub(crate) fn claim_condition(&self, name: &str, condition: &str) -> String {
        self.condition("NodeClaim", name, condition)
    }

    /// Events of this reason: object and message.
    pub(crate) fn told(&self, reason: &str) -> Vec<String> {
        let events = self.facts.iter().filter_map(|fact| match fact {
            Fact::Event { object, reason: of, message, .. } if *of == reason => {
                Some(format!("{} {}: {message}", object.kind, object.name))
            }
            _ => None,
        });
        let mut all: Vec<String> = events.collect();
        all.dedup();
        all
    }

    /// The journal's lines that begin with one of these words, without their times.
    pub(crate) fn done(&self, words: &[&str]) -> Vec<String> {
        let lines = self.journal.iter().filter_map(|line| line.split_once(' ')).map(|(_, what)| what.to_owned());
        lines.filter(|line| words.iter().any(|word| line.starts_with(word))).collect()
    }

    /// In which second something was done first.
    pub(crate) fn second(&self, what: &str) -> f64 {
        let found = self.journal.iter().find_map(|line| line.strip_suffix(what)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("{what:?} was not done: {:#?}", self.journal))
    }

    /// Lets this long pass, with all that is due meanwhile.
    pub(crate) fn pass(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        for _ in 0..20_000 {
            let wake = self.turn();
            if self.now >= end {
                return;
            }
            let next = wake.unwrap_or(end).max(self.now + SignedDuration::from_millis(10));
            let ends = self.next_end().unwrap_or(end).max(self.now);
            let written = if self.waiting.is_empty() { end } else { self.next_write.max(self.now) };
            self.now = next.min(ends).min(written).min(end);
            self.kubelets();
            self.writes();
        }
        panic!("it does not come to rest: {:#?}", self.journal.iter().rev().take(20).collect::<Vec<_>>());
    }

    /// Decides and does until nothing is left to do now; says when to look again.
    fn turn(&mut self) -> Option<Timestamp> {
        for _ in 0..200 {
            let mut decision = lifecycle::decide(&self.world, &self.sky, &self.settings, self.now);
            decision.merge(nodepool::decide(&self.world, &self.sky, self.now));
            self.facts.extend(decision.facts);
            for learned in decision.learned {
                self.world.apply(learned, self.now);
            }
            let mut idle = true;
            for action in decision.actions {
                if self.world.flights.ready(&action.key, self.now).is_ok() {
                    idle = false;
                    self.begin(action);
                }
            }
            if idle {
                return decision.wake_at;
            }
        }
        panic!("it never rests: {:#?}", self.journal.iter().rev().take(20).collect::<Vec<_>>());
    }

    fn begin(&mut self, action: Action<Call>) {
        self.world.begin(&action.key, self.now);
        self.most_at_once = self.most_at_once.max(self.world.flights.leaving());
        if self.rate.is_some() && matches!(action.deed, Deed::Kube(_)) {
            self.next_write = self.next_write.max(self.now);
            self.waiting.push_back(action);
        } else {
            self.act(action);
        }
    }

    /// What has waited for its turn at the API server.
    fn writes(&mut self) {
        let Some(rate) = self.rate else { return };
        while self.next_write <= self.now
            && let Some(action) = self.waiting.pop_front()
        {
            self.next_write += SignedDuration::from_micros(1_000_000 / rate);
            self.act(action);
        }
    }

    fn act(&mut self, action: Action<Call>) {
        let outcome = match &action.deed {
            Deed::Kube(write) => self.write(write),
            Deed::Cloud(call) => {
                self.call(call);
                Ok(None)
            }
        };
        if outcome.is_ok() {
            self.facts.extend(action.facts);
        }
        self.world.apply(Observation::Done { key: action.key, outcome }, self.now);
    }

    fn write(&mut self, write: &KubeWrite) -> Result<Option<Box<Object>>, Failure> {
        let (KubeWrite::Create { object, .. }
        | KubeWrite::Patch { object, .. }
        | KubeWrite::Delete { object, .. }
        | KubeWrite::Evict { object }) = write;
        let key = key_of(object);
        let Some(known) = self.objects.get(&key).cloned() else {
            return Err(Failure::NotFound(object.to_string()));
        };
        if self.broken.contains(&key.1) {
            return Err(Failure::Unknown(object.to_string()));
        }
        match write {
            KubeWrite::Create { .. } => return Err(Failure::Refused("nothing is created here".into())),
            KubeWrite::Patch { patch, part, .. } => {
                let asked = patch.pointer("/metadata/resourceVersion").and_then(Value::as_str);
                if asked.is_some_and(|asked| known["metadata"]["resourceVersion"] != asked) {
                    return Err(Failure::Conflict(object.to_string()));
                }
                let mut changed = known.clone();
                merge(&mut changed, patch);
                if *part == Part::Main {
                    changed["status"] = known["status"].clone();
                } else {
                    changed["spec"] = known["spec"].clone();
                }
                let part = if *part == Part::Main { "" } else { " status" };
                self.note(&format!("patch {} {}{part}", key.0, key.1));
                self.store(&key, changed);
            }
            KubeWrite::Delete { grace_period_seconds, .. } => {
                let grace = grace_period_seconds.map(|grace| format!(" within {grace} s")).unwrap_or_default();
                self.note(&format!("delete {} {}{grace}", key.0, key.1));
                self.delete(&key, grace_period_seconds.map(i64::from));
            }
            KubeWrite::Evict { .. } => {
                if self.held.contains(&key.1) {
                    self.note(&format!("blocked {}", key.1));
                    return Err(Failure::Blocked(key.1));
                }
                self.note(&format!("evict {}", key.1));
                self.delete(&key, None);
            }
        }
        Ok(self.objects.get(&key).map(|object| Box::new(read(object))))
    }

    fn buy(&mut self, claim: &NodeClaim) {
        if !self.launches {
            let failed =
                LaunchOutcome::Failed { reason: "Throttled".into(), message: "later".into(), token_spent: true };
            return self.launch(claim, failed);
        }
        let name = claim.metadata.name.clone().unwrap();
        self.note(&format!("launch {name}"));
        self.instances.insert(format!("id/{name}"));
        let launched = Launched {
            provider_id: format!("id/{name}"),
            image_id: "image".into(),
            labels: [("topology.kubernetes.io/zone".to_owned(), "a".to_owned())].into(),
            annotations: BTreeMap::new(),
            capacity: [("cpu", 4000)].into_iter().collect(),
            allocatable: [("cpu", 4000)].into_iter().collect(),
            price: None,
        };
        self.launch(claim, LaunchOutcome::Launched(Box::new(launched)));
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Launch(claims) => claims.iter().for_each(|claim| self.buy(claim)),
            Call::Find(claims) => claims.iter().for_each(|claim| self.launch(claim, LaunchOutcome::NotFound)),
            Call::Terminate(id) => {
                self.note(&format!("terminate {id}"));
                let asked_before = self.world.terminating.contains_key(id);
                let gone = !self.ends_slowly || asked_before || !self.instances.contains(id);
                if gone {
                    self.instances.remove(id);
                }
                self.world.apply(Observation::Terminating { provider_id: id.clone(), gone }, self.now);
            }
        }
    }

    fn launch(&mut self, claim: &NodeClaim, outcome: LaunchOutcome) {
        let (claim, uid) = (claim.metadata.name.clone().unwrap(), claim.metadata.uid.clone().unwrap());
        self.world.apply(Observation::Launch { claim, uid, outcome }, self.now);
    }

    /// The cloud lists what is there.
    pub(crate) fn lists_instances(&mut self) {
        let instances = self.instances.iter().map(|id| Instance {
            provider_id: id.clone(),
            claim: None,
            launch: None,
            pool: None,
            launched_at: None,
            state: InstanceState::Running,
        });
        let instances = instances.collect();
        self.world.apply(Observation::Instances { asked_at: self.now, instances }, self.now);
    }

    fn note(&mut self, what: &str) {
        let seconds = self.now.duration_since(self.began).as_secs_f64();
        self.journal.push(format!("{seconds} {what}"));
    }

    fn store(&mut self, key: &Key, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let deleting = object["metadata"]["deletionTimestamp"].is_string();
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if deleting && !held && key.0 != "Pod" {
            self.objects.insert(key.clone(), object);
            return self.remove(key);
        }
        let read = read(&object);
        self.objects.insert(key.clone(), object);
        self.world.apply(Observation::Kube(Change::Applied(read)), self.now);
    }

    fn remove(&mut self, key: &Key) {
        let Some(object) = self.objects.remove(key) else { return };
        self.note(&format!("gone {} {}", key.0, key.1));
        self.world.apply(Observation::Kube(Change::Deleted(read(&object))), self.now);
    }

    fn delete(&mut self, key: &Key, grace: Option<i64>) {
        let Some(mut object) = self.objects.get(key).cloned() else { return };
        if key.0 == "Pod" {
            let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            let ends = self.now + SignedDuration::from_secs(grace.unwrap_or(own));
            let known: Option<Timestamp> =
                object["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse().ok());
            let ends = known.map_or(ends, |known| known.min(ends));
            object["metadata"]["deletionTimestamp"] = json!(ends.to_string());
        } else if !object["metadata"]["deletionTimestamp"].is_string() {
            object["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
        }
        self.store(key, object);
    }

    /// Pods that were deleted end as they like: at once, `slow` ones when their time is over, `stuck` ones never.
    fn kubelets(&mut self) {
        let ended: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, object)| end_of(object).is_some_and(|at| at <= self.now))
            .map(of_key)
            .collect();
        for key in ended {
            self.remove(&key);
        }
    }

    fn next_end(&self) -> Option<Timestamp> {
        self.objects.values().filter_map(end_of).min()
    }
}

fn of_key((key, _): (&Key, &Value)) -> Key {
    key.clone()
}

fn end_of(object: &Value) -> Option<Timestamp> {
    let ends: Timestamp = object["metadata"]["deletionTimestamp"].as_str()?.parse().ok()?;
    match (object["kind"].as_str(), object["metadata"]["annotations"]["ends"].as_str()) {
        (Some("Pod"), Some("stuck")) => None,
        (Some("Pod"), Some("slow")) => Some(ends),
        (Some("Pod"), _) => Some(Timestamp::MIN),
        _ => None,
    }
}

fn key(object: &Value) -> Key {
    (object["kind"].as_str().unwrap().to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned())
}

fn key_of(object: &ObjectRef) -> Key {
    let kind = match object.kind {
        WriteKind::Pod => "Pod",
        WriteKind::Node => "Node",
        WriteKind::NodePool => "NodePool",
        WriteKind::NodeClaim => "NodeClaim",
        WriteKind::Ec2NodeClass => "EC2NodeClass",
    };
    (kind.to_owned(), object.name.clone())
}

fn read(object: &Value) -> Object {
    fn typed<T: k8s_openapi::serde::de::DeserializeOwned>(object: &Value) -> T {
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"))
    }
    match object["kind"].as_str().unwrap() {
        "Pod" => Object::Pod(Box::new(typed(object))),
        "Node" => Object::Node(Box::new(typed(object))),
        "NodePool" => Object::NodePool(Box::new(typed(object))),
        "NodeClaim" => Object::NodeClaim(Box::new(typed(object))),
        "VolumeAttachment" => Object::VolumeAttachment(Box::new(typed(object))),
        "PersistentVolumeClaim" => Object::PersistentVolumeClaim(Box::new(typed(object))),
        other => panic!("{other} is not read here"),
    }
}

/// A merge patch (RFC 7386).
pub(crate) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(json!({})), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// A claim that was just created, with `more` on top.
pub(crate) fn claim(name: &str, more: &Value) -> Value {
    let mut claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "labels": { "karpenter.sh/nodepool": "general", "karpenter.k8s.aws/ec2nodeclass": "default" },
            "finalizers": ["karpenter.sh/termination"],
        },
        "spec": {
            "requirements": [],
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
        },
    });
    merge(&mut claim, more);
    claim
}

/// A claim whose node is in use.
pub(crate) fn claim_in_use(name: &str, more: &Value) -> Value {
    let conditions = ["Launched", "Registered", "Initialized", "Ready"].map(|condition| {
        json!({ "type": condition, "status": "True", "reason": condition, "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z", "observedGeneration": 1 })
    });
    let mut claim = claim(
        name,
        &json!({ "status": {
            "providerID": format!("id/{name}"), "nodeName": name, "imageID": "image", "conditions": conditions,
            "capacity": { "cpu": "4" }, "allocatable": { "cpu": "4" },
        } }),
    );
    merge(&mut claim, more);
    claim
}

/// The node of a claim in use.
pub(crate) fn node(name: &str, more: &Value) -> Value {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "uid": format!("uid-node-{name}"), "creationTimestamp": "2030-01-01T00:00:00Z",
            "labels": {
                "karpenter.sh/nodepool": "general", "karpenter.k8s.aws/ec2nodeclass": "default",
                "karpenter.sh/registered": "true", "karpenter.sh/initialized": "true",
            },
            "finalizers": ["karpenter.sh/termination"],
        },
        "spec": { "providerID": format!("id/{name}") },
        "status": {
            "capacity": { "cpu": "4" }, "allocatable": { "cpu": "4" },
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" }],
        },
    });
    merge(&mut node, more);
    node
}

/// A pod that runs on a node, with `more` on top.
pub(crate) fn pod(name: &str, node: &str, more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "nodeName": node, "containers": [], "terminationGracePeriodSeconds": 30 },
        "status": { "phase": "Running", "startTime": "2030-01-01T00:00:00Z" },
    });
    merge(&mut pod, more);
    pod
}

pub(crate) fn owned(api_version: &str, kind: &str) -> Value {
    json!({ "metadata": { "ownerReferences": [
        { "apiVersion": api_version, "kind": kind, "name": "o", "uid": "o", "controller": true },
    ] } })
}
