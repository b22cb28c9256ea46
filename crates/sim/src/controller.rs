//! The process that runs the machine: watches that lag and break, requests under way, crashes, a clock of its own.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use karpenter_aws::call::Call;
use karpenter_aws::{Aws, AwsSettings, KubernetesFacts};
use karpenter_core::{Action, Deed, Failure, Kind, KubeWrite, Observation, Settings};
use karpenter_driver::{Event, Machine};

use crate::EPOCH_MS;
use crate::agenda::{MINUTE, Ms, SECOND};
use crate::api::Changed;
use crate::checks::Invariant;
use crate::cloud::{self, CLUSTER, catalogue};
use crate::dice::Dice;
use crate::log::told;
use crate::sim::{Due, Sim};

#[derive(Debug, Default)]
struct Stream {
    /// When, and what.
    queue: VecDeque<(Ms, Changed)>,
    /// Told until here; what follows is not sooner.
    until: Ms,
    /// Listed, and not broken since.
    live: bool,
    lag: Ms,
    /// Of the list it goes on from.
    since: Ms,
}

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) machine: Option<Machine>,
    /// Of the process: what belongs to an earlier one is not heard.
    epoch: u64,
    inbox: Vec<Event>,
    streams: BTreeMap<Kind, Stream>,
    /// The next turn.
    due: Option<Ms>,
    last_turn: Ms,
    /// Events are folded for so long.
    gap: Ms,
    /// How far its clock is off.
    skew: Ms,
    dice: Dice,
}

impl Controller {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "controller");
        let gap = dice.between(50, 1_000);
        Self {
            machine: None,
            epoch: 0,
            inbox: Vec::new(),
            streams: BTreeMap::new(),
            due: None,
            last_turn: -SECOND,
            gap,
            skew: 0,
            dice,
        }
    }
}

/// After so many turns it is seen whether something was overlooked.
const LOOKED_AT_AGAIN: u64 = 50;

impl Sim {
    fn controller_clock(&self) -> Timestamp {
        Timestamp::from_millisecond(EPOCH_MS + self.now + self.controller.skew).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A process starts with nothing but its settings.
    pub(crate) fn start(&mut self) {
        let repairs = Dice::of(self.options.seed, "repairs").chance(3_000);
        let settings = Settings { cluster_name: CLUSTER.to_owned(), node_repair: repairs, ..Settings::default() };
        let aws = AwsSettings {
            cluster_name: CLUSTER.to_owned(),
            region: catalogue::REGION.to_owned(),
            vm_memory_overhead: 0.075,
            ..AwsSettings::default()
        };
        let controller = &mut self.controller;
        controller.machine = Some(Machine::new(settings, Aws::new(aws)));
        controller.epoch += 1;
        controller.inbox.clear();
        controller.streams.clear();
        controller.due = None;
        told!(self, "controller starts");
        let facts = KubernetesFacts { version: "1.36".to_owned(), dns: None };
        self.hear(Event::KubernetesSeen(facts));
        for kind in Kind::ALL {
            let later = self.controller.dice.between(20, 800);
            self.agenda.at(self.now + later, Due::Relist(kind, self.controller.epoch));
        }
    }

    fn crash(&mut self) {
        told!(self, "controller crashes");
        self.checks.figures.crashes += 1;
        self.controller.machine = None;
        self.controller.epoch += 1;
        let later = self.controller.dice.between(SECOND, 90 * SECOND);
        self.agenda.at(self.now + later, Due::Start);
    }

    /// The complete list of a kind, and its watch from there on.
    pub(crate) fn relist(&mut self, kind: Kind, epoch: u64) {
        if epoch != self.controller.epoch || self.controller.machine.is_none() {
            return;
        }
        let items = self.api.list(kind);
        let names = items.iter().map(crate::api::Item::listed).collect();
        for item in items {
            self.hear(item.event(false));
        }
        self.hear(Event::Observed(Observation::Listed { kind, names }));
        let stream = self.controller.streams.entry(kind).or_default();
        stream.queue.clear();
        stream.live = true;
        stream.since = self.now;
        self.turn_soon();
    }

    /// An event of a watch sets out.
    pub(crate) fn watch(&mut self, changed: Changed) {
        let kind = changed.kind;
        let epoch = self.controller.epoch;
        let Some(stream) = self.controller.streams.get_mut(&kind).filter(|stream| stream.live) else { return };
        let dice = &mut self.controller.dice;
        if self.troubled {
            if dice.chance(self.faults.watch_lost) {
                stream.live = false;
                stream.queue.clear();
                let later = dice.between(SECOND, 3 * MINUTE);
                if !self.saboteur.forgets_relist() {
                    self.agenda.at(self.now + later, Due::Relist(kind, epoch));
                }
                told!(self, "watch {kind:?} breaks for {later} ms");
                return;
            }
            if dice.chance(self.faults.stale) {
                stream.lag = dice.between(SECOND, 30 * SECOND);
                told!(self, "watch {kind:?} lags {} ms", stream.lag);
            } else if stream.lag > 0 && dice.chance(500) {
                stream.lag = 0;
            }
        } else {
            stream.lag = 0;
        }
        let when = (self.now + dice.between(1, 60) + stream.lag).max(stream.until);
        stream.until = when;
        stream.queue.push_back((when, changed));
        self.agenda.at(when, Due::Deliver(kind, epoch));
    }

    pub(crate) fn deliver(&mut self, kind: Kind, epoch: u64) {
        if epoch != self.controller.epoch {
            return;
        }
        let mut told_now = Vec::new();
        let Some(stream) = self.controller.streams.get_mut(&kind) else { return };
        while stream.queue.front().is_some_and(|(when, _)| *when <= self.now) {
            told_now.extend(stream.queue.pop_front().map(|(_, changed)| changed));
        }
        for changed in told_now {
            let again = self.troubled && self.controller.dice.chance(self.faults.watch_repeated);
            if again {
                let repeated = changed.clone();
                self.hear(repeated.item.event(repeated.deleted));
            }
            self.hear(changed.item.event(changed.deleted));
            self.turn_soon();
        }
    }

    fn hear(&mut self, event: Event) {
        if let Some(event) = self.saboteur.hears(event) {
            self.controller.inbox.push(event);
        }
    }

    fn turn_soon(&mut self) {
        self.turn_at((self.now + 1).max(self.controller.last_turn + self.controller.gap));
    }

    fn turn_at(&mut self, when: Ms) {
        if self.controller.due.is_none_or(|due| when < due) {
            self.controller.due = Some(when);
            self.agenda.at(when, Due::Turn(self.controller.epoch));
        }
    }

    /// One turn of the loop, and perhaps the last.
    pub(crate) fn turn(&mut self, epoch: u64) {
        if epoch != self.controller.epoch || self.controller.due != Some(self.now) {
            return;
        }
        self.controller.due = None;
        self.controller.last_turn = self.now;
        self.jump();
        let clock = self.controller_clock();
        let events = std::mem::take(&mut self.controller.inbox);
        let Some(machine) = &mut self.controller.machine else { return };
        let mut facts = Vec::new();
        for event in events {
            facts.extend(machine.apply(event, clock));
        }
        let turn = machine.turn(clock);
        facts.extend(turn.facts);
        self.checks.figures.turns += 1;
        let overlooked = if self.checks.figures.turns.is_multiple_of(LOOKED_AT_AGAIN) {
            machine.overlooked(clock)
        } else {
            Vec::new()
        };
        if let Some(first) = overlooked.first() {
            let subject = first.subject.rsplit('/').next().unwrap_or_default().to_owned();
            self.broke(Invariant::NothingOverlooked, format!("{first}"), vec![subject]);
        }
        for fact in &facts {
            if let Some(line) = brief_fact(fact) {
                told!(self, "fact {line}");
            }
        }
        if let Some(wake) = turn.wake.filter(|_| !self.saboteur.sleeps()) {
            let when = wake.as_millisecond() - EPOCH_MS - self.controller.skew;
            self.turn_at(when.max(self.now + 10));
        }
        let mut actions = Vec::new();
        for action in turn.actions {
            actions.extend(self.saboteur.does(action));
        }
        let survives = if self.troubled && self.controller.dice.chance(self.faults.crash) {
            self.controller.dice.below(actions.len() + 1)
        } else {
            usize::MAX
        };
        let epoch = self.controller.epoch;
        let count = actions.len();
        for action in actions.into_iter().take(survives) {
            let later = self.controller.dice.between(1, 30);
            self.agenda.at(self.now + later, Due::Act(Box::new(action), epoch));
        }
        if survives <= count {
            self.crash();
        }
    }

    fn jump(&mut self) {
        if self.troubled && self.controller.dice.chance(self.faults.clock_jump) {
            self.controller.skew = self.controller.dice.between(-45 * SECOND, 45 * SECOND);
            told!(self, "clock of the controller is off by {} ms", self.controller.skew);
        }
    }

    /// Its watch of pods has worked for a while, and is prompt.
    pub(crate) fn sees_pods(&self) -> bool {
        let of = |stream: &Stream| stream.live && stream.lag == 0 && stream.since + MINUTE < self.now;
        self.controller.streams.get(&Kind::Pod).is_some_and(of)
    }

    /// Its clock is right again, its watches work.
    pub(crate) fn controller_repaired(&mut self) {
        self.controller.skew = 0;
        self.turn_soon();
    }

    /// A request arrives. Of a process that is gone, half of what it sent is still on its way.
    pub(crate) fn act(&mut self, action: Action<Call>, epoch: u64) {
        if epoch != self.controller.epoch && self.controller.dice.chance(5_000) {
            return;
        }
        let (key, facts) = (action.key, action.facts);
        let (event, took) = match action.deed {
            Deed::Kube(write) => {
                let (outcome, took) = self.act_kube(&write);
                told!(self, "write {key} {} -> {}", brief(&write), said(&outcome));
                (Event::Written { key, facts, outcome }, took)
            }
            Deed::Cloud(call) => {
                let (report, took) = self.act_cloud(&call);
                told!(self, "call {} -> {}", cloud::brief(&call), crate::report_line(&report));
                (Event::Reported { key, facts, report: Box::new(report) }, took)
            }
        };
        self.agenda.at(self.now + took, Due::Ended(Box::new(event), epoch));
    }

    pub(crate) fn ended(&mut self, event: Event, epoch: u64) {
        if epoch == self.controller.epoch {
            self.hear(event);
            self.turn_soon();
        }
    }

    fn act_kube(&mut self, write: &KubeWrite) -> (crate::api::Effect, Ms) {
        let slow = self.controller.dice.between(5, 80);
        let unknown = || Err(Failure::Unknown("the request timed out".to_owned()));
        let times_out = self.troubled && self.controller.dice.chance(self.faults.api_timeout);
        if times_out && self.controller.dice.chance(5_000) {
            return (unknown(), self.controller.dice.between(SECOND, 10 * SECOND));
        }
        if self.troubled && self.controller.dice.chance(self.faults.conflict) {
            self.somebody_writes(write);
        }
        self.check_write(write);
        let clock = self.clock();
        let cluster = &self.cluster;
        let outcome = self.api.write(write, clock, |_, pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let Some(workload) = cluster.pods.get(name).map(|pod| pod.workload) else { return Ok(()) };
            match cluster.desired(workload) {
                Some(desired) if cluster.healthy(workload) <= desired => {
                    Err("Cannot evict pod as it would violate the pod's disruption budget.".to_owned())
                }
                _ => Ok(()),
            }
        });
        self.wrote(write, &outcome);
        self.settle();
        if times_out { (unknown(), self.controller.dice.between(SECOND, 10 * SECOND)) } else { (outcome, slow) }
    }

    fn act_cloud(&mut self, call: &Call) -> (karpenter_aws::report::Report, Ms) {
        let slow = self.controller.dice.between(50, 1_500);
        let dice = &mut self.controller.dice;
        if self.troubled && dice.chance(self.faults.throttled) {
            return (cloud::failed(call, cloud::error("EC2", "RequestLimitExceeded", false)), slow);
        }
        let times_out = self.troubled && dice.chance(self.faults.aws_timeout);
        let late = dice.between(2 * SECOND, 20 * SECOND);
        let timeout = || cloud::failed(call, cloud::error("EC2", "Timeout", true));
        if times_out && dice.chance(5_000) {
            return (timeout(), late);
        }
        let clock = self.controller_clock();
        let (report, deeds) = self.cloud.answer(call, &self.faults, self.now, clock);
        self.called(call, &deeds);
        if times_out { (timeout(), late) } else { (report, slow) }
    }
}

fn said(outcome: &crate::api::Effect) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

/// A write on one line.
fn brief(write: &KubeWrite) -> String {
    match write {
        KubeWrite::Create { object, .. } => format!("create {object}"),
        KubeWrite::Patch { object, part, patch } => {
            let mut patch = patch.clone();
            if let Some(meta) = patch.get_mut("metadata").and_then(|meta| meta.as_object_mut()) {
                meta.remove("resourceVersion");
            }
            if let Some(list) = patch.pointer_mut("/status/conditions") {
                *list = list.as_array().into_iter().flatten().map(condition).collect();
            }
            format!("patch {object} {part:?} {}", patch.to_string().chars().take(600).collect::<String>())
        }
        KubeWrite::Delete { object, grace_period_seconds } => format!("delete {object} grace {grace_period_seconds:?}"),
        KubeWrite::Evict { object } => format!("evict {object}"),
    }
}

/// `Type=Status`, and why where it is not True.
fn condition(of: &serde_json::Value) -> String {
    let text = |key: &str| of.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    match text("status") {
        "True" => format!("{}=True", text("type")),
        status => format!("{}={status} {} {}", text("type"), text("reason"), text("message")),
    }
}

/// Facts worth a line: those that say why something is done.
fn brief_fact(fact: &karpenter_core::Fact) -> Option<String> {
    use karpenter_core::Fact;
    match fact {
        Fact::RoundSolved { pods, claims, unschedulable, .. } => {
            Some(format!("round of {pods} pods: {claims} claims, {unschedulable} without a place"))
        }
        Fact::PodUnschedulable { pod, verdict } => Some(format!("no place for {}: {verdict}", pod.name)),
        Fact::ClaimDisrupted { claim, reason, .. } => Some(format!("claim {} disrupted: {reason}", claim.name)),
        Fact::ClaimPlanned { claim, pods, .. } => Some(format!("claim {claim} planned for {pods} pods")),
        Fact::OrphanInstance { provider_id } => Some(format!("orphan {provider_id}")),
        Fact::ActionFailed { action, failure, failures } => Some(format!("failed {action} ({failures}): {failure}")),
        _ => None,
    }
}
