//! An API server that keeps objects, nodes that join, a scheduler that binds where it was planned; and the controller's
//! loop around the decisions, on a clock of its own.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{Ec2NodeClass, NodeClaim};
use karpenter_aws::call::Call;
use karpenter_aws::{Aws, AwsSettings};
use karpenter_core::action::WriteKind;
use karpenter_core::world::PodKey;
use karpenter_core::{
    Action, ActionKey, Change, Deed, Fact, Failure, KubeWrite, Object, Observation, Settings, World, decide,
};
use serde_json::{Value, json};

use crate::ec2::Ec2;

/// How long things take.
const WRITE: SignedDuration = SignedDuration::from_millis(5);
const CALL: SignedDuration = SignedDuration::from_millis(800);
const JOIN: SignedDuration = SignedDuration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) now: Timestamp,
    pub(crate) world: World,
    pub(crate) aws: Aws,
    pub(crate) ec2: Ec2,
    pub(crate) settings: Settings,
    /// By kind and name.
    objects: BTreeMap<(&'static str, String), Value>,
    versions: u64,
    /// What comes to its end, and when.
    pending: BTreeMap<(Timestamp, u64), Ending>,
    /// Reasons of claims that were given up.
    pub(crate) given_up: BTreeMap<&'static str, usize>,
    /// When each pod was bound.
    pub(crate) bound: BTreeMap<String, Timestamp>,
}

enum Ending {
    Action(Action<Call>),
    Joins { claim: String },
}

impl Stage {
    pub(crate) fn new(ec2: Ec2) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let settings = Settings { cluster_name: "dev".into(), ..Settings::default() };
        let world = World::new(&settings);
        let mut stage = Self {
            now,
            world,
            aws: aws(),
            ec2,
            settings,
            objects: BTreeMap::new(),
            versions: 0,
            pending: BTreeMap::new(),
            given_up: BTreeMap::new(),
            bound: BTreeMap::new(),
        };
        stage.list();
        stage.see_class();
        stage
    }

    /// The process dies and another one starts: what it knows is what the API server holds. What was under way may
    /// have arrived, or not; its answer is heard by nobody.
    pub(crate) fn restart(&mut self, arrives: bool) {
        let under_way = std::mem::take(&mut self.pending);
        for (at, ending) in under_way {
            match ending {
                Ending::Joins { .. } => {
                    self.pending.insert(at, ending);
                }
                Ending::Action(Action { deed: Deed::Cloud(call), .. }) if arrives => {
                    self.ec2.answer(call, self.now);
                }
                Ending::Action(_) => {}
            }
        }
        (self.world, self.aws) = (World::new(&self.settings), aws());
        self.see_class();
        let all: Vec<(&'static str, String)> = self.objects.keys().cloned().collect();
        for (kind, name) in all {
            self.show(kind, &name);
        }
        self.list();
    }

    fn list(&mut self) {
        for kind in self.world.watched().collect::<Vec<_>>() {
            let of = format!("{kind:?}");
            let names = self.objects.iter().filter(|((known, _), _)| *known == of).map(|((_, name), object)| {
                let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
                namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
            });
            let names = names.collect();
            self.world.apply(Observation::Listed { kind, names }, self.now);
        }
    }

    fn see_class(&mut self) {
        let class: Ec2NodeClass = serde_json::from_value(class()).unwrap();
        for observation in self.aws.node_class_applied(class, self.now) {
            self.world.apply(observation, self.now);
        }
    }

    // ── the API server ──

    pub(crate) fn put(&mut self, kind: &'static str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{name}"));
            meta["creationTimestamp"] = json!(self.now.to_string());
        }
        self.objects.insert((kind, name.clone()), object);
        self.touch(kind, &name);
    }

    /// A new version of an object, seen at once.
    fn touch(&mut self, kind: &'static str, name: &str) {
        self.versions += 1;
        if let Some(object) = self.objects.get_mut(&(kind, name.to_owned())) {
            object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        }
        self.show(kind, name);
    }

    fn show(&mut self, kind: &'static str, name: &str) {
        if let Some(object) = self.objects.get(&(kind, name.to_owned())) {
            let object = typed(kind, object.clone());
            self.world.apply(Observation::Kube(Change::Applied(object)), self.now);
        }
    }

    fn remove(&mut self, kind: &'static str, name: &str) {
        if let Some(object) = self.objects.remove(&(kind, name.to_owned())) {
            self.world.apply(Observation::Kube(Change::Deleted(typed(kind, object))), self.now);
        }
    }

    fn write(&mut self, write: &KubeWrite) -> Result<Option<Box<Object>>, Failure> {
        let (KubeWrite::Create { object: of, .. }
        | KubeWrite::Patch { object: of, .. }
        | KubeWrite::Delete { object: of, .. }
        | KubeWrite::Evict { object: of }) = write;
        let kind = match of.kind {
            WriteKind::Pod => "Pod",
            WriteKind::Node => "Node",
            WriteKind::NodePool => "NodePool",
            WriteKind::NodeClaim => "NodeClaim",
            // Its status stays as it was planted.
            WriteKind::Ec2NodeClass => return Err(Failure::Refused("not here".into())),
        };
        let key = (kind, of.name.clone());
        match write {
            KubeWrite::Create { claim, .. } => {
                let mut object = serde_json::to_value(&**claim).unwrap();
                object["metadata"]["generation"] = json!(1);
                self.put("NodeClaim", object);
            }
            KubeWrite::Patch { patch, .. } => {
                let known = self.objects.get_mut(&key).ok_or_else(|| Failure::NotFound(of.name.clone()))?;
                let version = &patch["metadata"]["resourceVersion"];
                if !version.is_null() && *version != known["metadata"]["resourceVersion"] {
                    return Err(Failure::Conflict(of.name.clone()));
                }
                merge(known, patch);
                self.touch(kind, &of.name);
                self.end(kind, &of.name);
            }
            KubeWrite::Delete { .. } | KubeWrite::Evict { .. } => {
                let known = self.objects.get_mut(&key).ok_or_else(|| Failure::NotFound(of.name.clone()))?;
                known["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
                self.touch(kind, &of.name);
                self.end(kind, &of.name);
            }
        }
        Ok(self.objects.get(&key).map(|object| Box::new(typed(kind, object.clone()))))
    }

    /// An object on its way out that nobody holds is gone.
    fn end(&mut self, kind: &'static str, name: &str) {
        let Some(object) = self.objects.get(&(kind, name.to_owned())) else { return };
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if !object["metadata"]["deletionTimestamp"].is_null() && !held {
            self.remove(kind, name);
        }
    }

    pub(crate) fn claims(&self) -> Vec<NodeClaim> {
        let claims = self.objects.iter().filter(|((kind, _), _)| *kind == "NodeClaim");
        claims.map(|(_, object)| serde_json::from_value(object.clone()).unwrap()).collect()
    }

    pub(crate) fn pod(&mut self, name: &str, cpu: &str, selector: &Value) {
        self.put(
            "Pod",
            json!({
                "metadata": { "name": name, "namespace": "default", "labels": { "app": "app" } },
                "spec": {
                    "nodeSelector": selector,
                    "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } }],
                },
                "status": { "phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                }] },
            }),
        );
    }

    pub(crate) fn pool(&mut self, name: &str, weight: i64, requirements: &Value) {
        let template = json!({ "spec": {
            "requirements": requirements,
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
        } });
        let ready = json!({ "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        let spec = json!({ "weight": weight, "template": template });
        self.put("NodePool", json!({ "metadata": { "name": name, "generation": 1 }, "spec": spec, "status": ready }));
    }

    // ── the loop ──

    /// Runs until then, or until it is done.
    pub(crate) fn run(&mut self, within: SignedDuration, mut done: impl FnMut(&Self) -> bool) {
        let until = self.now + within;
        while self.now < until && !done(self) {
            let wake = self.turn();
            let next = self.pending.keys().next().map(|(at, _)| *at);
            // A turn of the real loop takes a moment as well.
            let soon = self.now + SignedDuration::from_millis(10);
            self.now = wake.into_iter().chain(next).min().unwrap_or(until).max(soon).min(until);
            self.finish();
        }
    }

    fn turn(&mut self) -> Option<Timestamp> {
        let now = self.now;
        for observation in self.aws.tick(&self.world, now) {
            self.world.apply(observation, now);
        }
        let mut decision = decide(&self.world, &self.aws, &self.settings, now);
        decision.merge(self.aws.decide(&self.world, now));
        for observation in decision.learned {
            self.world.apply(observation, now);
        }
        for fact in &decision.facts {
            self.told(fact);
        }
        for action in decision.actions {
            if self.world.flights.ready(&action.key, now).is_err() {
                continue;
            }
            self.world.begin(&action.key, now);
            if let Deed::Cloud(call) = &action.deed {
                self.aws.begin(call, now);
            }
            let takes = if matches!(action.deed, Deed::Kube(_)) { WRITE } else { CALL };
            self.later(takes, Ending::Action(action));
        }
        decision.wake_at
    }

    fn later(&mut self, takes: SignedDuration, ending: Ending) {
        self.versions += 1;
        self.pending.insert((self.now + takes, self.versions), ending);
    }

    fn finish(&mut self) {
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Ending::Action(action) => self.carry_out(action),
                Ending::Joins { claim } => self.join(&claim),
            }
        }
        self.bind();
    }

    fn carry_out(&mut self, action: Action<Call>) {
        let outcome = match action.deed {
            Deed::Kube(write) => self.write(&write),
            Deed::Cloud(call) => match self.ec2.answer(call, self.now) {
                Some(report) => {
                    let failure = report.error().map(|error| {
                        let text = error.to_string();
                        if error.uncertain { Failure::Unknown(text) } else { Failure::Refused(text) }
                    });
                    for observation in self.aws.apply(report, self.now) {
                        self.world.apply(observation, self.now);
                    }
                    failure.map_or(Ok(None), Err)
                }
                None => Err(Failure::Refused("nobody knows how".into())),
            },
        };
        if outcome.is_ok() {
            action.facts.iter().for_each(|fact| self.told(fact));
        }
        self.done(action.key, outcome);
    }

    fn done(&mut self, key: ActionKey, outcome: Result<Option<Box<Object>>, Failure>) {
        self.world.apply(Observation::Done { key, outcome }, self.now);
    }

    fn told(&mut self, fact: &Fact) {
        match fact {
            Fact::ClaimDisrupted { reason, .. } => *self.given_up.entry(reason).or_default() += 1,
            Fact::ClaimLaunched { claim, .. } => self.later(JOIN, Ending::Joins { claim: claim.name.clone() }),
            _ => {}
        }
    }

    /// The instance's kubelet registers.
    fn join(&mut self, claim: &str) {
        let Some(claim) = self.objects.get(&("NodeClaim", claim.to_owned())) else { return };
        let (name, status) = (claim["metadata"]["name"].as_str().unwrap().to_owned(), claim["status"].clone());
        let mut labels = claim["metadata"]["labels"].clone();
        labels["kubernetes.io/hostname"] = json!(name);
        let node = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "providerID": status["providerID"],
                "taints": [{ "key": "karpenter.sh/unregistered", "effect": "NoExecute" }],
            },
            "status": {
                "capacity": status["capacity"], "allocatable": status["allocatable"],
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        self.put("Node", node);
    }

    /// Every pod whose node is there goes where it was planned.
    fn bind(&mut self) {
        let ready = |target: &str| {
            let claim = self.world.claims.get(target);
            let node = claim.and_then(|state| self.world.nodes.get(state.claim.status.as_ref()?.node_name.as_deref()?));
            node.filter(|node| node.is_initialized()).map(|node| node.name().to_owned())
        };
        let planned: Vec<(PodKey, String)> = self
            .world
            .nominated
            .iter()
            .filter_map(|(pod, nomination)| Some((pod.clone(), ready(&nomination.target)?)))
            .collect();
        for (pod, node) in planned {
            if let Some(object) = self.objects.get_mut(&("Pod", pod.name.clone())) {
                object["spec"]["nodeName"] = json!(node);
                object["status"] = json!({ "phase": "Running" });
                self.bound.insert(pod.name.clone(), self.now);
                self.touch("Pod", &pod.name);
            }
        }
    }
}

fn aws() -> Aws {
    Aws::new(AwsSettings {
        cluster_name: "dev".into(),
        region: "us-west-2".into(),
        vm_memory_overhead: 0.075,
        ami_refresh: SignedDuration::from_mins(5),
        subnet_refresh: SignedDuration::from_mins(1),
        ..AwsSettings::default()
    })
}

/// A class that is resolved already.
fn class() -> Value {
    let terms = json!([{ "tags": { "karpenter.sh/discovery": "dev" } }]);
    let conditions: Vec<Value> =
        ["SubnetsReady", "SecurityGroupsReady", "AMIsReady", "InstanceProfileReady", "ValidationSucceeded", "Ready"]
            .map(|kind| {
                json!({
                    "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": 1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            })
            .to_vec();
    let subnets: Vec<Value> =
        crate::ec2::subnets().iter().map(|subnet| json!({ "id": subnet.id, "zone": subnet.zone })).collect();
    json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
        "metadata": {
            "name": "default", "uid": "class-1", "generation": 1, "resourceVersion": "1",
            "finalizers": ["karpenter.k8s.aws/termination"],
        },
        "spec": {
            "amiFamily": "AL2023", "amiSelectorTerms": [{ "id": crate::ec2::IMAGE }], "instanceProfile": "nodes",
            "subnetSelectorTerms": terms, "securityGroupSelectorTerms": terms,
        },
        "status": {
            "conditions": conditions, "subnets": subnets, "securityGroups": [{ "id": "sg-1" }], "instanceProfile": "nodes",
            "amis": [{ "id": crate::ec2::IMAGE, "name": "al2023", "requirements": [
                { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
            ] }],
        },
    })
}

fn typed(kind: &str, object: Value) -> Object {
    match kind {
        "Pod" => Object::Pod(serde_json::from_value(object).unwrap()),
        "Node" => Object::Node(serde_json::from_value(object).unwrap()),
        "NodePool" => Object::NodePool(serde_json::from_value(object).unwrap()),
        "NodeClaim" => Object::NodeClaim(serde_json::from_value(object).unwrap()),
        other => panic!("no {other} here"),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}
