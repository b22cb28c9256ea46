//! A NodeClaim's stages from launch to the last finalizer.
//!
//! ```text
//! create ─▶ launch ─▶ register ─▶ initialize ─▶ (in use) ─▶ terminate: taint · drain · detach volumes · end the instance
//!    └── liveness gives up on launches and registrations that take too long
//! buy: what the cloud is asked to launch, for many claims at once
//! (in use): expire, repair, restore, hydrate; pod_events, consolidatable, drift, consistency in its status
//! garbage: instances without a claim, claims without an instance
//! ```
//!
//! Each stage reads the World and names the next write; nothing is remembered here. Rules and
//! figures: Karpenter's documentation on disruption and NodeClaims.

mod buy;
mod consistency;
mod consolidatable;
mod deadline;
mod drain;
mod drift;
mod ending;
mod evict;
mod expire;
mod garbage;
mod hydrate;
mod initialize;
mod launch;
mod liveness;
mod patch;
mod pod_events;
mod register;
mod repair;
mod restore;
mod terminate;
mod volumes;

pub use evict::AT_ONCE as EVICTIONS_AT_ONCE;

use std::collections::BTreeMap;

use ending::Ending;
use karpenter_api::{NodeClaimStatus, conditions as names, labels};

use crate::action::{ActionKey, KubeWrite};
use crate::conditions;
use crate::fact::{About, Home};
use crate::world::{ClaimState, NodeState};
use crate::{Cloud, Decision, Fact, Observation, Settings, Timestamp, World};

pub fn decide<C: Cloud>(world: &World, cloud: &C, settings: &Settings, now: Timestamp) -> Decision<C::Call> {
    let mut decision = Decision::default();
    let ours = cloud.node_class_kind();
    let seen = Seen { problems: buy::decide(world, cloud, now, &mut decision), pools: drift::Pools::new(world, cloud) };
    let is_ours = |node: &&NodeState| {
        node.is_deleting()
            && match world.claim_of(node) {
                Some(claim) => ours.is_of(&claim.claim.spec.node_class_ref),
                None => node.label(ours.label).is_some(),
            }
    };
    let ending = world.nodes.values().filter(is_ours).map(|node| (node.name(), Ending::of(world, node, now)));
    let ending: BTreeMap<&str, Ending<'_>> = ending.collect();
    let (version, latest, mut quiet) = (cloud.version(), look_again(now), Vec::new());
    for state in world.claims.values().filter(|state| ours.is_of(&state.claim.spec.node_class_ref)) {
        if state.is_planned() {
            create(world, state, now, &mut decision);
        } else if state.is_deleting() {
            terminate::claim(world, cloud, state, &ending, now, &mut decision);
        } else if let Some(until) = state.quiet_until(version, now) {
            decision.wake(until);
        } else {
            let mut own = Decision::default();
            alive(world, cloud, settings, &seen, state, now, &mut own);
            if own.actions.is_empty() && status_reason(state, names::INITIALIZED).is_some() {
                let until = own.wake_at.into_iter().chain(latest).min();
                quiet.extend(until.map(|until| (state.name().to_owned(), until)));
            }
            decision.merge(own);
        }
    }
    if !quiet.is_empty() {
        decision.learned.push(Observation::Quiet { claims: quiet, version });
    }
    let mut queue = evict::Queue::default();
    for (name, ending) in ending {
        if let Some(node) = world.nodes.get(name) {
            terminate::node(world, cloud, node, ending, now, &mut queue, &mut decision);
        }
    }
    queue.ask(world, now, &mut decision);
    garbage::decide(world, cloud, now, &mut decision);
    decision
}

/// When every claim is looked at, whether or not something was observed: at full tens of minutes, all in one turn.
fn look_again(now: Timestamp) -> Option<Timestamp> {
    const EVERY: i64 = 600;
    Timestamp::from_second((now.as_second().div_euclid(EVERY) + 1).saturating_mul(EVERY)).ok()
}

/// What its round asked for was not answered, or not to say that it is refused: it is asked for again.
fn create<C>(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) {
    let (key, write) = KubeWrite::create(&state.claim);
    decision.kube(world, now, key, write);
}

/// What every claim is held against.
struct Seen<'w> {
    problems: buy::Problems<'w>,
    pools: drift::Pools<'w>,
}

/// One pass over the stages of a claim that is not being deleted: at most one write to it.
fn alive<C: Cloud>(
    world: &World,
    cloud: &C,
    settings: &Settings,
    seen: &Seen<'_>,
    state: &ClaimState,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) {
    if expire::decide(world, state, now, decision) || liveness::decide(world, state, now, decision) {
        return;
    }
    if repair::impaired(world, state, now, decision) {
        return;
    }
    if let Some(node) = node_of(world, state) {
        if settings.node_repair && repair::decide(world, cloud, state, node, now, decision) {
            return;
        }
        let kept = hydrate::node(cloud.node_class_kind(), state, node).or_else(|| restore::node(node));
        if let Some(write) = kept {
            decision.kube(world, now, ActionKey::new(format!("Node/{}", node.name()), "keep"), write);
        }
    }
    if let Some(metadata) = launch::metadata(state).or_else(|| hydrate::claim(cloud.node_class_kind(), state)) {
        decision.kube(world, now, write_key(state), metadata);
        return;
    }
    let mut status = state.claim.status.clone().unwrap_or_default();
    let mut stage = Stage { state, status: &mut status, now, facts: Vec::new() };
    for condition in [names::LAUNCHED, names::REGISTERED, names::INITIALIZED] {
        stage.begin(condition);
    }
    if launch::decide(world, &seen.problems, &mut stage, decision) {
        return;
    }
    register::decide(world, cloud, &mut stage, decision);
    initialize::decide(world, &mut stage, decision);
    restore::claim(&mut stage);
    pod_events::decide(world, &mut stage, decision);
    consolidatable::decide(world, &mut stage, decision);
    drift::decide(&seen.pools, cloud, &mut stage, decision);
    consistency::decide(world, &mut stage);
    stage.root();
    let facts = stage.facts;
    write_status(world, state, &status, facts, now, decision);
}

/// The node of a claim, once it is the claim's.
fn node_of<'w>(world: &'w World, state: &ClaimState) -> Option<&'w NodeState> {
    world.nodes.get(state.claim.status.as_ref()?.node_name.as_deref()?)
}

/// Writes the status if it differs from what the API server holds.
fn write_status<C>(
    world: &World,
    state: &ClaimState,
    status: &NodeClaimStatus,
    mut facts: Vec<Fact>,
    now: Timestamp,
    decision: &mut Decision<C>,
) {
    let known = state.claim.status.as_ref();
    if known == Some(status) {
        return;
    }
    let before = known.and_then(|known| known.conditions.as_deref());
    facts.extend(conditions::turned(&about_claim(state), before, status.conditions.as_deref()));
    decision.kube_then(world, now, write_key(state), patch::claim_status(state, status), facts);
}

/// All writes to one claim share a key, so that each is decided on the result of the one before.
fn write_key(state: &ClaimState) -> ActionKey {
    ActionKey::new(format!("NodeClaim/{}", state.name()), "write")
}

/// Deletes a claim; what follows is `terminate`'s.
fn delete_claim<C>(world: &World, state: &ClaimState, facts: Vec<Fact>, now: Timestamp, decision: &mut Decision<C>) {
    let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "delete");
    let write = KubeWrite::Delete { object: patch::claim_ref(state), grace_period_seconds: None };
    decision.kube_then(world, now, key, write, facts);
}

fn disrupted(state: &ClaimState, reason: &'static str) -> Fact {
    Fact::ClaimDisrupted { claim: about_claim(state), home: home_of(|key| state.label(key)), reason }
}

fn about_claim(state: &ClaimState) -> About {
    About { kind: "NodeClaim", namespace: String::new(), name: state.name().to_owned(), uid: state.uid().to_owned() }
}

fn about_node(node: &NodeState) -> About {
    About { kind: "Node", namespace: String::new(), name: node.name().to_owned(), uid: node.uid().to_owned() }
}

/// By the labels of a claim or of a node.
fn home_of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Home {
    let of = |key: &str| label(key).unwrap_or_default().to_owned();
    Home { pool: of(labels::NODEPOOL), capacity_type: of(labels::CAPACITY_TYPE), zone: of(labels::ZONE) }
}

fn pool_of(state: &ClaimState) -> String {
    state.pool().unwrap_or_default().to_owned()
}

/// The reason of a condition that is True.
fn status_reason(state: &ClaimState, condition: &str) -> Option<String> {
    let list = state.claim.status.as_ref()?.conditions.as_deref();
    conditions::get(list, condition).filter(|c| c.status == "True").map(|c| c.reason.clone())
}

/// The claim's status as it becomes, stage by stage.
struct Stage<'a> {
    state: &'a ClaimState,
    status: &'a mut NodeClaimStatus,
    now: Timestamp,
    /// Told once the status is written.
    facts: Vec<Fact>,
}

impl Stage<'_> {
    fn is_true(&self, condition: &str) -> bool {
        conditions::is_true(self.status.conditions.as_deref(), condition)
    }

    fn is_decided(&self, condition: &str) -> bool {
        conditions::get(self.status.conditions.as_deref(), condition).is_some_and(|c| c.status != "Unknown")
    }

    fn set(&mut self, condition: &str, status: &str, reason: &str, message: &str) {
        let generation = self.state.claim.metadata.generation;
        let list = self.status.conditions.get_or_insert_default();
        conditions::set(list, condition, status, reason, message, generation, self.now);
    }

    fn achieved(&mut self, condition: &str) {
        self.set(condition, "True", condition, "");
    }

    fn waiting(&mut self, condition: &str, reason: &str, message: &str) {
        self.set(condition, "Unknown", reason, message);
    }

    fn clear(&mut self, condition: &str) {
        if let Some(list) = &mut self.status.conditions {
            conditions::clear(list, condition);
        }
    }

    /// A condition that nobody has looked at yet.
    fn begin(&mut self, condition: &str) {
        if conditions::get(self.status.conditions.as_deref(), condition).is_none() {
            self.waiting(condition, "AwaitingReconciliation", "object is awaiting reconciliation");
        }
    }

    /// Ready: True when every stage is, otherwise the first that is not speaks for it.
    fn root(&mut self) {
        let stages = [names::LAUNCHED, names::REGISTERED, names::INITIALIZED];
        let worst = stages
            .iter()
            .filter_map(|stage| conditions::get(self.status.conditions.as_deref(), stage))
            .find(|condition| condition.status != "True")
            .map(|c| (c.status.clone(), format!("{}={}", c.type_, c.status)));
        match worst {
            None => self.achieved(names::READY),
            Some((status, message)) if status == "False" => {
                self.set(names::READY, "False", "UnhealthyDependents", &message);
            }
            Some((_, message)) => self.waiting(names::READY, "ReconcilingDependents", &message),
        }
    }
}
