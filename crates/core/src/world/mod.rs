//! The in-memory model: changed by observations only, rebuilt from the API server and the cloud
//! after a restart. One writer (the driver); decisions read it.
//!
//! ```text
//! Kube(Applied/Deleted) ─▶ pods · nodes · claims · pools · daemons · storage · namespaces
//! Planned(Round)        ─▶ claims from the moment they are planned; pods assumed on claims and nodes until they bind
//! Launch, Instances     ─▶ claims[..].launch, instances
//! Done                  ─▶ flights (in flight, back-off), and the written object at once
//! ```

mod batch;
mod claim;
mod digest;
mod flights;
mod health;
mod leaving;
mod node;
mod nominations;
mod pod;
mod pod_events;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use karpenter_api::NodePool;

use crate::action::{ActionKey, CREATE};
use crate::cloud::{Impairment, Instance, LaunchOutcome};
use crate::observation::{Change, Failure, Kind, Object, Observation};
use crate::provision::{Round, Verdict};
use crate::resources::{self, Resources};
use crate::{Settings, Timestamp};

pub use batch::Batch;
pub(crate) use claim::is_ready_pool;
pub use claim::{ClaimState, LaunchState};
pub(crate) use digest::host_ports;
pub use digest::{Digest, HostPort};
pub use flights::{EVICT, EXPEL, Flights};
pub use health::Health;
pub(crate) use health::{LAUNCH_TTL, REGISTRATION_TTL};
pub use leaving::Vacated;
pub use node::NodeState;
pub use nominations::{Nomination, Nominations};
pub(crate) use pod::template_requests;
pub use pod::{DoNotDisrupt, PodKey, PodState};
use pod_events::on_node;
pub use storage::{Storage, Volume, VolumeClaim, VolumeClass};

/// Everything known. Fields are public to read; only [`World::apply`] and [`World::begin`] write.
#[derive(Debug, Default)]
pub struct World {
    pub pods: BTreeMap<PodKey, Arc<PodState>>,
    /// The pods bound to a node, by node name: many decisions walk through them.
    pub pods_by_node: BTreeMap<String, BTreeMap<PodKey, Arc<PodState>>>,
    pub nodes: BTreeMap<String, NodeState>,
    /// Node names by provider id; more than one is a fault worth a condition.
    pub nodes_by_provider_id: BTreeMap<String, BTreeSet<String>>,
    /// Also those whose creation is not answered yet: they are [`LaunchState::Planned`].
    pub claims: BTreeMap<String, ClaimState>,
    pub claims_by_provider_id: BTreeMap<String, String>,
    pub pools: BTreeMap<String, NodePool>,
    /// By `namespace/name`.
    pub daemons: BTreeMap<String, DaemonSet>,
    pub storage: Storage,
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// By `namespace/name`.
    pub budgets: BTreeMap<String, PodDisruptionBudget>,
    /// What selects pods, by kind, namespace and name; empty unless default spread constraints need it.
    pub selectors: BTreeMap<(Kind, String, String), LabelSelector>,
    selectors_awaited: bool,
    pub flights: Flights,
    pub batch: Batch,
    /// Where rounds expect pods to land, until they bind or the expectation fails.
    pub nominated: Nominations,
    /// Places that pods had when their end came, for a while.
    pub vacated: Vec<Vacated>,
    /// Pods without a place and why, from the latest round that looked at them.
    pub unschedulable: BTreeMap<PodKey, Verdict>,
    /// The cloud's latest complete list of instances, and when it was asked for.
    pub instances: Option<(Timestamp, Vec<Instance>)>,
    /// The latest list of instances that agreed with the claims, by when it was asked for.
    pub in_order: Option<Timestamp>,
    /// What the cloud says is wrong with instances, by provider id.
    pub impaired: BTreeMap<String, Impairment>,
    /// Instances whose termination was asked for, by provider id.
    pub terminating: BTreeMap<String, Terminating>,
    /// When this process last wrote a pool's status.
    pub pool_counted: BTreeMap<String, Timestamp>,
    /// How the latest launches of each pool ended.
    pub health: BTreeMap<String, Health>,
    /// By node: when a pod was last bound to it, ended or was told to.
    pub pod_events: BTreeMap<String, Timestamp>,
    /// What [`World::provisioned`] answers, until a claim or a node changes.
    provisioned: OnceLock<BTreeMap<String, Resources>>,
    listed: BTreeSet<Kind>,
    digests: digest::Digests,
}

/// An instance on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminating {
    /// Terminated, or unknown to the cloud.
    pub gone: bool,
    /// Latest answer of the cloud.
    pub at: Timestamp,
}

impl World {
    /// Nothing known; whatever is watched under these settings is awaited.
    pub fn new(settings: &Settings) -> Self {
        Self { selectors_awaited: !settings.default_spreads.is_empty(), ..Self::default() }
    }

    /// The kinds that are watched.
    pub fn watched(&self) -> impl Iterator<Item = Kind> + use<> {
        let selecting = self.selectors_awaited.then_some(Kind::SELECTING);
        Kind::ALL.into_iter().chain(selecting.into_iter().flatten())
    }

    /// Whether every watched kind was listed once: before that, decisions would act on a part.
    pub fn is_listed(&self) -> bool {
        self.watched().all(|kind| self.listed.contains(&kind))
    }

    /// The kinds whose first list is still awaited.
    pub fn unlisted(&self) -> Vec<Kind> {
        self.watched().filter(|kind| !self.listed.contains(kind)).collect()
    }

    /// The driver is about to dispatch the action of this key.
    pub fn begin(&mut self, key: &ActionKey, now: Timestamp) {
        self.flights.begin(key, now);
    }

    pub fn apply(&mut self, observation: Observation, now: Timestamp) {
        self.forget_vacated(now);
        match observation {
            Observation::Kube(Change::Applied(object)) => self.applied(object, now),
            Observation::Kube(Change::Deleted(object)) => self.deleted(&object, now),
            Observation::Listed { kind, names } => self.listed(kind, &names, now),
            Observation::Done { key, outcome } => self.done(&key, outcome, now),
            Observation::Launch { claim, uid, outcome } => self.claim_launched(&claim, &uid, outcome, now),
            Observation::Terminating { provider_id, gone } => {
                self.terminating.insert(provider_id, Terminating { gone, at: now });
            }
            Observation::Instances { asked_at, instances } => {
                // An instance that is listed as ended need not be remembered any longer than that. One that the cloud did
                // not know just after its launch, and lists now, is not gone.
                let listed: BTreeMap<&str, bool> =
                    instances.iter().map(|one| (one.provider_id.as_str(), one.state.is_up())).collect();
                self.terminating.retain(|id, ending| match listed.get(id.as_str()) {
                    Some(is_up) => !(*is_up && ending.gone && asked_at > ending.at),
                    None => self.claims_by_provider_id.contains_key(id),
                });
                self.instances = Some((asked_at, instances));
                self.flights.sweep(now);
            }
            Observation::Impaired(instances) => {
                for id in instances.keys() {
                    self.disturb(Some(id));
                }
                self.impaired = instances;
            }
            Observation::CatalogueChanged => self.batch.retry(now),
            Observation::Planned(round) => self.planned(*round),
            Observation::Quiet { claims, version } => {
                for (name, until) in claims {
                    if let Some(state) = self.claims.get_mut(&name) {
                        state.found_quiet(until, version, now);
                    }
                }
            }
            Observation::InOrder { asked_at } => self.in_order = Some(asked_at),
        }
    }

    fn applied(&mut self, object: Object, now: Timestamp) {
        match object {
            Object::Pod(pod) => self.pod_applied(*pod, now),
            Object::Node(node) => {
                let Some(name) = node.metadata.name.clone() else {
                    return;
                };
                if let Some(known) = self.nodes.get(&name)
                    && is_older(&node.metadata, &known.node.metadata)
                {
                    return;
                }
                let state = NodeState::new(*node);
                // Heartbeats come all the time; only what placement depends on counts.
                if self.nodes.get(&name).is_none_or(|known| known.differs(&state)) {
                    self.batch.retry(now);
                }
                let ending = self.is_ending_by_name(&name);
                self.node_deleted(&name);
                self.disturb(state.provider_id());
                if let Some(id) = state.provider_id() {
                    self.nodes_by_provider_id.entry(id.to_owned()).or_default().insert(name.clone());
                }
                self.nodes.insert(name.clone(), state);
                self.ending(&name, ending, now);
            }
            Object::NodePool(pool) => {
                let Some(name) = pool.metadata.name.clone() else {
                    return;
                };
                let known = self.pools.get(&name);
                if known.is_some_and(|known| is_older(&pool.metadata, &known.metadata)) {
                    return;
                }
                // Status counters change all the time; only what placement depends on counts.
                let matters =
                    known.is_none_or(|known| known.spec != pool.spec || is_ready_pool(known) != is_ready_pool(&pool));
                let asks_the_same = known.is_some_and(|known| {
                    known.spec == pool.spec && known.metadata.annotations == pool.metadata.annotations
                });
                if matters {
                    self.batch.retry(now);
                }
                if !asks_the_same {
                    self.disturb_pool(&name);
                }
                self.pool_turned(&name, &pool);
                self.pools.insert(name, *pool);
            }
            Object::NodeClaim(claim) => {
                let Some(name) = claim.metadata.name.clone() else {
                    return;
                };
                self.claim_applied(name, *claim, now);
            }
            Object::DaemonSet(daemon) => {
                let key = namespaced(&daemon.metadata);
                let known = self.daemons.get(&key);
                if known.is_none_or(|known| known.spec != daemon.spec) {
                    self.batch.retry(now);
                }
                self.daemons.insert(key, *daemon);
            }
            part @ (Object::PersistentVolumeClaim(_)
            | Object::PersistentVolume(_)
            | Object::StorageClass(_)
            | Object::CsiNode(_)
            | Object::VolumeAttachment(_)) => {
                if self.storage.applied(&part) {
                    self.batch.retry(now);
                }
            }
            Object::Namespace(namespace) => {
                let Some(name) = namespace.metadata.name.clone() else {
                    return;
                };
                let labels = namespace.metadata.labels.unwrap_or_default();
                if self.namespaces.get(&name) != Some(&labels) {
                    self.batch.retry(now);
                }
                self.namespaces.insert(name, labels);
            }
            Object::PodDisruptionBudget(budget) => {
                let key = namespaced(&budget.metadata);
                let opens = leaving::opens(self.budgets.get(&key), Some(&budget));
                self.budgets.insert(key, *budget);
                if opens {
                    self.budget_changed(now);
                }
            }
            Object::Selecting(selecting) => {
                let key = (selecting.kind, selecting.namespace, selecting.name);
                let known = match &selecting.selector {
                    Some(selector) => self.selectors.insert(key, selector.clone()),
                    None => self.selectors.remove(&key),
                };
                if known != selecting.selector {
                    self.batch.retry(now);
                }
            }
        }
    }

    fn claim_applied(&mut self, name: String, claim: karpenter_api::NodeClaim, now: Timestamp) {
        if claim.metadata.deletion_timestamp.is_some() && claim.metadata.finalizers.iter().flatten().next().is_none() {
            self.claim_deleted(&name, now);
            return;
        }
        let provider_id = claim.status.as_ref().and_then(|s| s.provider_id.clone()).filter(|id| !id.is_empty());
        let nodes = provider_id.as_ref().and_then(|id| self.nodes_by_provider_id.get(id)).cloned().unwrap_or_default();
        let known = self.claims.get(&name).filter(|known| known.claim.metadata.uid == claim.metadata.uid);
        if known.is_some_and(|known| is_older(&claim.metadata, &known.claim.metadata)) {
            return;
        }
        if let Some((pool, launch)) = known.and_then(|known| self.launch_ended(&known.claim, &claim, now)) {
            self.health.entry(pool).or_default().record(launch);
        }
        self.provisioned.take();
        self.batch.stir();
        let ending: Vec<(String, bool)> =
            nodes.into_iter().map(|node| (node.clone(), self.is_ending_by_name(&node))).collect();
        match self.claims.get_mut(&name) {
            // One that this process has just created was never launched: no look-up needed.
            Some(planned) if planned.is_planned() => *planned = ClaimState::new(claim, true, now),
            Some(known) if known.claim.metadata.uid == claim.metadata.uid => {
                let was_settled = known.is_settled();
                known.update(claim);
                if known.is_settled() && !was_settled {
                    self.batch.retry(now);
                }
            }
            _ => drop(self.claims.insert(name.clone(), ClaimState::new(claim, false, now))),
        }
        if let Some(id) = provider_id {
            self.claims_by_provider_id.insert(id, name);
        }
        for (node, before) in ending {
            self.ending(&node, before, now);
        }
    }

    /// No instance becomes two claims': an answer that says so is an earlier one, repeated.
    fn claim_launched(&mut self, claim: &str, uid: &str, outcome: LaunchOutcome, now: Timestamp) {
        let outcome = match outcome {
            LaunchOutcome::Launched(of) if self.owner(&of.provider_id).is_some_and(|owner| owner != claim) => {
                LaunchOutcome::TokenSpent(format!("{} is another NodeClaim's", of.provider_id))
            }
            outcome => outcome,
        };
        if let Some(state) = self.claims.get_mut(claim)
            && state.uid() == uid
        {
            state.launched(outcome, now);
            self.batch.stir();
        }
    }

    fn owner(&self, provider_id: &str) -> Option<&str> {
        let written = self.claims_by_provider_id.get(provider_id).map(String::as_str);
        written.or_else(|| self.claims.values().find(|s| s.instance() == Some(provider_id)).map(ClaimState::name))
    }

    fn pod_applied(&mut self, pod: k8s_openapi::api::core::v1::Pod, now: Timestamp) {
        let Some(state) = PodState::new(pod, &mut self.digests) else {
            return;
        };
        let key = state.key.clone();
        let known = self.pods.get(&key).map(Arc::as_ref);
        if known.is_some_and(|known| is_older(&state.pod.metadata, &known.pod.metadata)) {
            return;
        }
        let event = self.pod_event(known, &state, now);
        let was_pending = known.is_some_and(PodState::is_provisionable);
        let newly_bound = state.node_name().is_some() && known.is_none_or(|known| known.node_name().is_none());
        // Planned once: it is nominated from then on, until it is on its way out.
        let was_leaving = known.is_some_and(|known| self.is_leaving(known) && self.may_leave(known, now));
        let is_leaving = self.is_leaving(&state);
        if is_leaving && !was_leaving && self.may_leave(&state, now) {
            self.batch.trigger(now);
        }
        let freed =
            known.is_some_and(|known| known.node_name().is_some() && !known.is_terminal()) && state.is_terminal();
        let counts_the_same = known.is_some_and(|known| {
            Arc::ptr_eq(&known.digest, &state.digest) && known.is_terminating() == state.is_terminating()
        });
        if let Some(node) = known.and_then(|known| known.node_name().map(str::to_owned)) {
            self.unindex_pod(&node, &key);
        }
        if state.is_provisionable() {
            if !was_pending {
                self.succeed(&state, now);
                self.batch.trigger(now);
            }
        } else {
            if let Some(node) = state.node_name().filter(|_| newly_bound) {
                self.taken(&key, node, now);
            }
            if state.is_terminating() && !is_leaving {
                self.vacate(&state, now);
            }
            if newly_bound || !is_leaving {
                self.nominated.remove(&key);
                self.unschedulable.remove(&key);
            }
        }
        if freed {
            self.batch.retry(now);
        }
        if newly_bound || !counts_the_same {
            self.batch.stir();
        }
        self.note_pod_event(event);
        let state = Arc::new(state);
        if let Some(node) = state.node_name() {
            self.pods_by_node.entry(node.to_owned()).or_default().insert(key.clone(), Arc::clone(&state));
        }
        self.pods.insert(key, state);
    }

    fn deleted(&mut self, object: &Object, now: Timestamp) {
        match object {
            Object::Pod(pod) => {
                let Some(key) = PodKey::of(&pod.metadata) else {
                    return;
                };
                self.pod_deleted(&key, now);
            }
            Object::Node(node) => {
                if let Some(name) = &node.metadata.name {
                    self.node_deleted(name);
                    self.flights.forget(&format!("Node/{name}"));
                    self.pod_events.remove(name);
                    self.batch.retry(now);
                }
            }
            Object::NodePool(pool) => {
                if let Some(name) = &pool.metadata.name {
                    self.disturb_pool(name);
                    self.batch.stir();
                    self.pools.remove(name);
                    self.pool_counted.remove(name);
                    self.health.remove(name);
                }
            }
            Object::NodeClaim(claim) => {
                if let Some(name) = &claim.metadata.name {
                    self.claim_deleted(name, now);
                }
            }
            Object::DaemonSet(daemon) => {
                self.daemons.remove(&namespaced(&daemon.metadata));
                self.batch.retry(now);
            }
            Object::VolumeAttachment(_) => self.storage.deleted(object),
            Object::PersistentVolumeClaim(_)
            | Object::PersistentVolume(_)
            | Object::StorageClass(_)
            | Object::CsiNode(_) => {
                self.storage.deleted(object);
                self.batch.retry(now);
            }
            Object::Namespace(namespace) => {
                if let Some(name) = &namespace.metadata.name {
                    self.namespaces.remove(name);
                    self.batch.retry(now);
                }
            }
            Object::PodDisruptionBudget(budget) => {
                let gone = self.budgets.remove(&namespaced(&budget.metadata));
                if leaving::opens(gone.as_ref(), None) {
                    self.budget_changed(now);
                }
            }
            Object::Selecting(gone) => {
                self.selectors.remove(&(gone.kind, gone.namespace.clone(), gone.name.clone()));
                self.batch.stir();
            }
        }
    }

    fn pod_deleted(&mut self, key: &PodKey, now: Timestamp) {
        if let Some(pod) = self.pods.remove(key) {
            self.note_pod_event(on_node(&pod).map(|node| (node, now)));
            self.vacate(&pod, now);
            if let Some(node) = pod.node_name().map(str::to_owned) {
                self.unindex_pod(&node, key);
                self.batch.retry(now);
            }
        }
        self.unschedulable.remove(key);
        self.batch.stir();
        self.flights.forget(&format!("Pod/{key}"));
    }

    fn node_deleted(&mut self, name: &str) {
        self.provisioned.take();
        if let Some(state) = self.nodes.remove(name)
            && let Some(id) = state.provider_id()
        {
            if let Some(names) = self.nodes_by_provider_id.get_mut(id) {
                names.remove(name);
                if names.is_empty() {
                    self.nodes_by_provider_id.remove(id);
                }
            }
            self.disturb(Some(id));
        }
    }

    /// Nothing is taken for quiet any more.
    pub fn look_at_all(&mut self) {
        self.claims.values_mut().for_each(ClaimState::disturbed);
        self.batch.stir();
    }

    /// Something of the claim's instance was observed.
    fn disturb(&mut self, provider_id: Option<&str>) {
        if let Some(claim) = provider_id.and_then(|id| self.claims_by_provider_id.get(id))
            && let Some(state) = self.claims.get_mut(claim)
        {
            state.disturbed();
        }
    }

    fn disturb_node(&mut self, name: &str) {
        let provider_id = self.nodes.get(name).and_then(NodeState::provider_id).map(str::to_owned);
        self.disturb(provider_id.as_deref());
    }

    fn disturb_pool(&mut self, pool: &str) {
        self.claims.values_mut().filter(|state| state.pool() == Some(pool)).for_each(ClaimState::disturbed);
    }

    /// The claim is gone: pods expected on it are pending again.
    fn claim_deleted(&mut self, name: &str, now: Timestamp) {
        self.batch.stir();
        self.provisioned.take();
        if let Some(state) = self.claims.remove(name) {
            if let Some(id) = state.provider_id() {
                self.claims_by_provider_id.remove(id);
            }
            let token = state.launch_token();
            if !self.claims.values().any(|other| other.launch_token() == token) {
                self.flights.forget(&format!("Launch/{token}"));
            }
        }
        self.flights.forget(&format!("NodeClaim/{name}"));
        self.forget_nominations(name, now);
    }

    /// A planned claim will not be created: pods expected on it are pending again. The next round, under another name,
    /// is the batch window's to time.
    fn claim_refused(&mut self, name: &str) {
        if self.claims.get(name).is_some_and(ClaimState::is_planned) {
            self.claims.remove(name);
            self.flights.forget(&format!("NodeClaim/{name}"));
            self.vacated.retain(|one| one.target != name);
            self.nominated.forget(name);
        }
    }

    /// A pod is bound to a node that others were expected on: they may have to go elsewhere.
    fn taken(&mut self, pod: &PodKey, node: &str, now: Timestamp) {
        let claim = self.nodes.get(node).and_then(|state| self.claim_of(state)).map(ClaimState::name);
        let names = std::iter::once(node).chain(claim);
        let expected: Vec<&PodKey> = names.flat_map(|name| self.nominated.on(name)).collect();
        if !expected.is_empty() && !expected.contains(&pod) {
            self.batch.trigger(now);
        }
    }

    fn forget_nominations(&mut self, target: &str, now: Timestamp) {
        self.vacated.retain(|one| one.target != target);
        if self.nominated.forget(target) {
            self.batch.trigger(now);
        }
    }

    fn unindex_pod(&mut self, node: &str, key: &PodKey) {
        if let Some(keys) = self.pods_by_node.get_mut(node) {
            keys.remove(key);
            if keys.is_empty() {
                self.pods_by_node.remove(node);
            }
        }
    }

    /// A complete list: what it does not name is gone, whatever events were missed.
    fn listed(&mut self, kind: Kind, names: &[String], now: Timestamp) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        match kind {
            Kind::Pod => {
                let gone: Vec<PodKey> =
                    self.pods.keys().filter(|key| !names.contains(key.to_string().as_str())).cloned().collect();
                for key in gone {
                    self.pod_deleted(&key, now);
                }
            }
            Kind::Node => {
                for name in absent(self.nodes.keys(), &names) {
                    self.node_deleted(&name);
                    self.flights.forget(&format!("Node/{name}"));
                    self.pod_events.remove(&name);
                }
            }
            Kind::NodePool => {
                self.pools.retain(|name, _| names.contains(name.as_str()));
                self.health.retain(|name, _| names.contains(name.as_str()));
            }
            Kind::NodeClaim => {
                // The list may be older than what is being created.
                let there = self.claims.iter().filter(|(_, state)| !state.is_planned()).map(|(name, _)| name);
                for name in absent(there, &names) {
                    self.claim_deleted(&name, now);
                }
            }
            Kind::DaemonSet => self.daemons.retain(|name, _| names.contains(name.as_str())),
            Kind::PodDisruptionBudget => self.budgets.retain(|name, _| names.contains(name.as_str())),
            Kind::Service | Kind::ReplicationController | Kind::ReplicaSet | Kind::StatefulSet => {
                self.selectors.retain(|(of, namespace, name), _| {
                    *of != kind || names.contains(format!("{namespace}/{name}").as_str())
                });
            }
            Kind::NodeClass => {}
            Kind::Namespace => self.namespaces.retain(|name, _| names.contains(name.as_str())),
            Kind::PersistentVolumeClaim
            | Kind::PersistentVolume
            | Kind::StorageClass
            | Kind::CsiNode
            | Kind::VolumeAttachment => {
                self.storage.listed(kind, &names);
            }
        }
        self.listed.insert(kind);
        self.batch.retry(now);
    }

    fn done(&mut self, key: &ActionKey, outcome: Result<Option<Box<Object>>, Failure>, now: Timestamp) {
        self.flights.end(key, outcome.as_ref().err(), now);
        let claim = key.subject.strip_prefix("NodeClaim/").unwrap_or_default();
        if let Some(state) = self.claims.get_mut(claim) {
            state.disturbed();
        }
        if let Some(node) = key.subject.strip_prefix("Node/") {
            self.disturb_node(node);
        }
        if let Some(pool) = key.subject.strip_prefix("NodePool/") {
            self.pool_counted.insert(pool.to_owned(), now);
        }
        match outcome {
            Ok(Some(object)) if self.knows(&object) => self.applied(*object, now),
            Err(Failure::Refused(_) | Failure::NotFound(_)) if key.verb == CREATE => self.claim_refused(claim),
            Err(Failure::Unknown(_)) if key.verb == "launch" => {
                let token = key.subject.strip_prefix("Launch/").unwrap_or_default();
                self.claims.values_mut().filter(|s| s.launch_token() == token).for_each(ClaimState::launch_uncertain);
            }
            // A write that answers after the object's deletion was seen must not bring it back.
            Ok(_) | Err(_) => {}
        }
    }

    /// Pods bound to a node that have not ended.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &PodState> {
        let all = self.pods_by_node.get(node).into_iter().flat_map(BTreeMap::values);
        all.map(Arc::as_ref).filter(|pod| !pod.is_terminal())
    }

    /// The claim that a node belongs to.
    pub fn claim_of(&self, node: &NodeState) -> Option<&ClaimState> {
        self.claims.get(self.claims_by_provider_id.get(node.provider_id()?)?)
    }

    /// What a claim's node holds: the node's own figures once it has them, the claim's before.
    pub fn capacity_of(&self, state: &ClaimState) -> Resources {
        let status = state.claim.status.as_ref();
        let mut capacity = state.capacity.clone();
        let node = status.and_then(|status| self.nodes.get(status.node_name.as_deref()?));
        for (name, amount) in node.iter().flat_map(|node| &node.capacity.0).filter(|(_, amount)| **amount > 0) {
            capacity.set(name.clone(), *amount);
        }
        capacity
    }

    /// What the claims of each pool that have an instance, and are not being deleted, hold together, and how many nodes
    /// they are.
    pub fn provisioned(&self) -> &BTreeMap<String, Resources> {
        self.provisioned.get_or_init(|| {
            let mut all: BTreeMap<String, Resources> = BTreeMap::new();
            for state in self.claims.values().filter(|state| !state.is_deleting() && state.provider_id().is_some()) {
                let Some(pool) = state.pool() else { continue };
                if !all.contains_key(pool) {
                    all.insert(pool.to_owned(), Resources::default());
                }
                if let Some(total) = all.get_mut(pool) {
                    total.add(&self.capacity_of(state));
                    total.set(resources::NODES, total.get(resources::NODES) + 1);
                }
            }
            all
        })
    }

    fn knows(&self, object: &Object) -> bool {
        let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
        match object {
            Object::Pod(pod) => PodKey::of(&pod.metadata).is_some_and(|key| self.pods.contains_key(&key)),
            Object::Node(node) => self.nodes.contains_key(&name(&node.metadata)),
            Object::NodePool(pool) => self.pools.contains_key(&name(&pool.metadata)),
            Object::NodeClaim(claim) => self.claims.contains_key(&name(&claim.metadata)),
            Object::DaemonSet(daemon) => self.daemons.contains_key(&namespaced(&daemon.metadata)),
            // Nothing of these is ever written.
            Object::PersistentVolumeClaim(_)
            | Object::PersistentVolume(_)
            | Object::StorageClass(_)
            | Object::CsiNode(_)
            | Object::VolumeAttachment(_)
            | Object::Namespace(_)
            | Object::PodDisruptionBudget(_)
            | Object::Selecting(_) => false,
        }
    }

    fn planned(&mut self, round: Round) {
        for claim in round.created {
            if let Some(name) = claim.metadata.name.clone() {
                self.claims.insert(name, ClaimState::planned(claim, round.at));
            }
        }
        let on_claims = round.claims.into_iter();
        let on_claims = on_claims.flat_map(|(claim, pods)| pods.into_iter().map(move |pod| (pod, claim.clone())));
        for (pod, target) in on_claims.chain(round.nominated) {
            self.unschedulable.remove(&pod);
            self.nominated.insert(pod, target, round.at);
        }
        for (pod, verdict) in round.unschedulable {
            self.nominated.remove(&pod);
            self.unschedulable.insert(pod, verdict);
        }
        // A pod that is expected somewhere waits as well: another may have taken its place there.
        let some_wait = !(self.unschedulable.is_empty() && self.nominated.is_empty());
        self.batch.close(round.at, some_wait, round.version);
    }
}

/// `namespace/name`
fn namespaced(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn absent<'a>(known: impl Iterator<Item = &'a String>, names: &BTreeSet<&str>) -> Vec<String> {
    known.filter(|name| !names.contains(name.as_str())).cloned().collect()
}

/// Whether `new` is an earlier version than `known` of the same object. Resource versions are
/// ordered numbers (KEP-5504); one that does not parse is taken as newer.
pub fn is_older(new: &ObjectMeta, known: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    new.uid == known.uid
        && match (version(new), version(known)) {
            (Some(new), Some(known)) => new < known,
            _ => false,
        }
}
