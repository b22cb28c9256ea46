//! The world: one clock, one agenda, and everybody who acts on it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_aws::call::Call;
use karpenter_core::{Action, Kind, Object};
use karpenter_driver::Event;
use serde_json::Value;

use crate::EPOCH_MS;
use crate::agenda::{Agenda, HOUR, MINUTE, Ms, SECOND};
use crate::api::{Api, Changed, Item};
use crate::checks::{Broken, Checks, Figures};
use crate::cloud::{Cloud, catalogue};
use crate::cluster::{Cluster, NodeInfo, Phase, PodInfo};
use crate::controller::Controller;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::log::Log;
use crate::log::told;
use crate::options::Options;
use crate::saboteur::Saboteur;

/// Everything that can be on the agenda.
#[derive(Debug)]
pub(crate) enum Due {
    // The controller and its wires.
    Start,
    Relist(Kind, u64),
    Deliver(Kind, u64),
    Turn(u64),
    Act(Box<Action<Call>>, u64),
    Ended(Box<Event>, u64),
    // The cluster.
    Schedule,
    Reconcile(usize),
    Count(usize),
    Collect,
    PodStarts(String, String),
    PodEnds(String, String),
    JobEnds(String, String),
    Sweep(String, String),
    SweepNode(String),
    InstanceRuns(String),
    NodeJoins(String),
    NodeReady(String),
    StartupDone(String),
    NodeSilent(String, Option<Ms>),
    NodeLost(String),
    NodeBack(String),
    Intolerable(String, Ms),
    CloudAsked(String),
    InstanceGone(String),
    // Trouble and its end.
    Disturb,
    UserDeletesPod(String),
    Unblock(usize),

    Orphan(String),
    Calm,
    Judge,
    TearDown,
    Empty,
    JudgeEnd,
}

/// How a node of an instance registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Value>,
}

#[derive(Debug)]
pub struct Sim {
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    pub(crate) now: Ms,
    pub(crate) agenda: Agenda<Due>,
    pub(crate) log: Log,
    pub(crate) dice: Dice,
    pub(crate) api: Api,
    pub(crate) cloud: Cloud,
    pub(crate) cluster: Cluster,
    pub(crate) controller: Controller,
    pub(crate) checks: Checks,
    pub(crate) saboteur: Saboteur,
    pub(crate) launched: BTreeMap<String, Registration>,
    pub(crate) collecting: bool,
    /// Faults and disturbances happen.
    pub(crate) troubled: bool,
    pub(crate) over: bool,
}

/// After the trouble: everything is repaired, and has so long to come right.
const CALM: Ms = 75 * MINUTE;
/// Nothing may be done in the last part of it.
pub(crate) const REST: Ms = 20 * MINUTE;
/// From the order to take everything down until nothing is left.
const TEAR_DOWN: Ms = 45 * MINUTE;

impl Sim {
    pub fn new(options: Options) -> Self {
        let seed = options.seed;
        let faults = options.faults.clone().unwrap_or_else(|| Faults::drawn(seed));
        Self {
            faults,
            now: 0,
            agenda: Agenda::default(),
            log: Log::default(),
            dice: Dice::of(seed, "cluster"),
            api: Api::default(),
            cloud: Cloud::new(seed),
            cluster: Cluster::default(),
            controller: Controller::new(seed),
            checks: Checks::default(),
            saboteur: Saboteur::new(options.mutation, seed),
            launched: BTreeMap::new(),
            collecting: false,
            troubled: true,
            over: false,
            options,
        }
    }

    /// Lives through everything; the first broken invariant ends it.
    pub fn run(&mut self) -> Option<&Broken> {
        told!(self, "seed {} faults {}", self.options.seed, self.faults);
        self.populate();
        self.agenda.at(0, Due::Start);
        let trouble = self.options.hours * HOUR;
        self.agenda.at(trouble, Due::Calm);
        self.agenda.at(trouble + CALM, Due::Judge);
        self.agenda.at(trouble + CALM + SECOND, Due::TearDown);
        self.agenda.at(trouble + CALM + 5 * MINUTE, Due::Empty);
        self.agenda.at(trouble + CALM + TEAR_DOWN, Due::JudgeEnd);
        while !self.over && self.checks.broken.is_none() {
            let Some((when, due)) = self.agenda.next(Ms::MAX) else { break };
            self.now = when.max(self.now);
            self.happen(due);
        }
        self.checks.broken.as_ref()
    }

    pub fn broken(&self) -> Option<&Broken> {
        self.checks.broken.as_ref()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The faults of the time of trouble.
    pub fn faults(&self) -> Faults {
        self.options.faults.clone().unwrap_or_else(|| Faults::drawn(self.options.seed))
    }

    pub fn figures(&self) -> Figures {
        self.checks.figures
    }

    /// The cluster's time, which everybody but the controller shares.
    pub(crate) fn clock(&self) -> Timestamp {
        Timestamp::from_millisecond(EPOCH_MS + self.now).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Start => self.start(),
            Due::Relist(kind, epoch) => self.relist(kind, epoch),
            Due::Deliver(kind, epoch) => self.deliver(kind, epoch),
            Due::Turn(epoch) => self.turn(epoch),
            Due::Act(action, epoch) => self.act(*action, epoch),
            Due::Ended(event, epoch) => self.ended(*event, epoch),
            Due::Schedule => self.schedule(),
            Due::Reconcile(workload) => self.reconcile(workload),
            Due::Count(workload) => self.count(workload),
            Due::Collect => self.collect(),
            Due::PodStarts(name, uid) => self.pod_starts(&name, &uid),
            Due::PodEnds(name, uid) => self.pod_ends(&name, &uid),
            Due::JobEnds(name, uid) => self.job_ends(&name, &uid),
            Due::Sweep(name, uid) => {
                if self.cluster.pods.get(&name).is_some_and(|pod| pod.uid == uid) {
                    self.api.remove::<Pod>(&name);
                    self.settle();
                }
            }
            Due::SweepNode(node) => self.sweep_node(&node),
            Due::InstanceRuns(id) => self.instance_runs(&id),
            Due::NodeJoins(id) => self.node_joins(&id),
            Due::NodeReady(node) => self.node_ready(&node),
            Due::StartupDone(node) => self.startup_done(&node),
            Due::NodeSilent(node, back) => self.node_silent(&node, back),
            Due::NodeLost(node) => self.node_lost(&node),
            Due::NodeBack(node) => self.node_back(&node),
            Due::Intolerable(node, since) => self.intolerable(&node, since),
            Due::CloudAsked(node) => self.cloud_asked(&node),
            Due::InstanceGone(id) => self.instance_gone(&id),
            Due::Disturb => self.disturb(),
            Due::UserDeletesPod(name) => {
                let _ = self.api.delete::<Pod>(&name, None, None, self.clock());
                self.settle();
            }
            Due::Unblock(workload) => self.unblock(workload),

            Due::Orphan(id) => self.check_orphan(&id),
            Due::Calm => self.calm(),
            Due::Judge => self.judge(),
            Due::TearDown => self.tear_down(),
            Due::Empty => self.empty(),
            Due::JudgeEnd => {
                self.judge_end();
                self.over = true;
            }
        }
    }

    /// What changed at the API server reaches the watches, and those in the cluster who react to it.
    pub(crate) fn settle(&mut self) {
        while !self.api.changes.is_empty() {
            for changed in std::mem::take(&mut self.api.changes) {
                self.react(&changed);
                self.watch(changed);
            }
        }
    }

    fn react(&mut self, changed: &Changed) {
        match &changed.item {
            Item::Core(Object::Pod(pod)) if changed.deleted => self.pod_removed(pod),
            Item::Core(Object::Pod(pod)) => self.pod_changed(pod),
            Item::Core(Object::Node(node)) if changed.deleted => self.node_removed(node),
            Item::Core(Object::Node(node)) => self.node_changed(node),
            Item::Core(Object::NodeClaim(claim)) if changed.deleted => {
                self.claim_removed(claim);
                self.collect_soon();
            }
            Item::Core(Object::NodeClaim(claim)) => self.claim_changed(claim),
            Item::Core(Object::NodePool(_)) if changed.deleted => self.collect_soon(),
            _ => {}
        }
    }

    fn pod_changed(&mut self, pod: &Pod) {
        let Some(name) = pod.metadata.name.clone() else { return };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let status = pod.status.as_ref();
        let phase = match status.and_then(|status| status.phase.as_deref()) {
            Some("Running") => Phase::Running,
            Some("Succeeded" | "Failed") => Phase::Ended,
            _ => Phase::Pending,
        };
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let terminating = pod.metadata.deletion_timestamp.is_some();
        if !self.cluster.pods.contains_key(&name) {
            self.pod_created(&name, pod);
        }
        let Some(info) = self.cluster.pods.get_mut(&name) else { return };
        let before = info.clone();
        (info.phase, info.ready, info.terminating) = (phase, ready, terminating);
        let (workload, uid) = (info.workload, info.uid.clone());
        if before.node.is_none()
            && let Some(node) = node
        {
            info.node = Some(node.clone());
            self.pod_bound(&name, &uid, workload, &node);
        }
        if terminating && !before.terminating {
            self.cluster.waiting.remove(&before.arrival);
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
            self.pod_told_to_end(&name, &uid, grace);
            self.reconcile_soon(workload);
            if self.cluster.workloads.get(workload).is_some_and(|one| one.zonal) {
                self.schedule_soon();
            }
        }
        if phase == Phase::Ended && before.phase != Phase::Ended {
            self.release(&name, workload);
            self.reconcile_soon(workload);
        }
        if ready != before.ready {
            self.count_soon(workload);
        }
    }

    fn pod_created(&mut self, name: &str, pod: &Pod) {
        let app = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app"));
        let Some(workload) = self.cluster.workloads.iter().position(|one| Some(&one.name) == app) else { return };
        let sticks = self.troubled && self.dice.chance(self.faults.pod_sticks);
        let info = PodInfo {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            workload,
            node: None,
            phase: Phase::Pending,
            ready: false,
            terminating: false,
            sticks,
            refused: false,
            arrival: self.cluster.arrivals + 1,
        };
        self.cluster.pods.insert(name.to_owned(), info);
        let figures = &mut self.checks.figures;
        figures.pods_max = figures.pods_max.max(self.cluster.pods.len());
        if let Some(one) = self.cluster.workloads.get_mut(workload) {
            one.pods.insert(name.to_owned());
        }
        self.cluster.arrivals += 1;
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
            self.cluster.waiting.insert(self.cluster.arrivals, name.to_owned());
            self.schedule_soon();
        }
    }

    fn pod_bound(&mut self, name: &str, uid: &str, workload: usize, node: &str) {
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let (cpu, memory) = (one.cpu, one.memory);
        if let Some(arrival) = self.cluster.pods.get(name).map(|pod| pod.arrival) {
            self.cluster.waiting.remove(&arrival);
        }
        if let Some(node) = self.cluster.nodes.get_mut(node) {
            node.cpu_left -= cpu;
            node.memory_left -= memory;
            node.pods_left -= 1;
            *node.held.entry(workload).or_default() += 1;
            node.pods.insert(name.to_owned());
        }
        self.checks.bound.insert(name.to_owned(), self.now);
        let start = self.dice.between(SECOND, 6 * SECOND);
        self.agenda.at(self.now + start, Due::PodStarts(name.to_owned(), uid.to_owned()));
    }

    /// What a pod held of its node is free.
    fn release(&mut self, name: &str, workload: usize) {
        let Some(node) = self.cluster.pods.get(name).and_then(|pod| pod.node.clone()) else { return };
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let (cpu, memory) = (one.cpu, one.memory);
        if let Some(node) = self.cluster.nodes.get_mut(&node)
            && node.pods.remove(name)
        {
            node.cpu_left += cpu;
            node.memory_left += memory;
            node.pods_left += 1;
            if let Some(held) = node.held.get_mut(&workload) {
                *held -= 1;
                if *held == 0 {
                    node.held.remove(&workload);
                }
            }
        }
        self.schedule_soon();
    }

    fn pod_removed(&mut self, pod: &Pod) {
        let Some(name) = &pod.metadata.name else { return };
        let Some(workload) = self.cluster.pods.get(name).map(|info| info.workload) else { return };
        self.release(name, workload);
        if let Some(info) = self.cluster.pods.remove(name) {
            self.cluster.waiting.remove(&info.arrival);
        }
        self.checks.bound.remove(name);
        if let Some(one) = self.cluster.workloads.get_mut(workload) {
            one.pods.remove(name);
        }
        self.reconcile_soon(workload);
    }

    fn node_changed(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.clone() else { return };
        let deleting = node.metadata.deletion_timestamp.is_some();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let starting = taints.iter().any(|taint| taint.key == "sim/starting");
        if let Some(info) = self.cluster.nodes.get_mut(&name) {
            info.fits.clear();
            info.deleting = deleting;
            if starting && info.ready && !info.starting {
                info.starting = true;
                let agent = self.dice.between(SECOND, 20 * SECOND);
                self.agenda.at(self.now + agent, Due::StartupDone(name));
            }
            return self.schedule_soon();
        }
        let provider = node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default();
        let instance = provider.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(shape) = self.cloud.instances.get(&instance).and_then(|one| catalogue::shape(&one.kind)) else {
            return;
        };
        let (cpu_left, memory_left) = shape.allocatable();
        let zone = self.cloud.instances.get(&instance).map(|one| one.zone.clone()).unwrap_or_default();
        self.cluster.joined.insert(instance.clone(), name.clone());
        let info = NodeInfo {
            instance,
            zone,
            cpu_left,
            memory_left,
            pods_left: shape.pods,
            held: BTreeMap::new(),
            pods: std::collections::BTreeSet::new(),
            alive: true,
            hung: false,
            ready: false,
            deleting,
            lost: None,
            starting: false,
            fits: BTreeMap::new(),
        };
        self.cluster.nodes.insert(name, info);
        let figures = &mut self.checks.figures;
        figures.nodes_max = figures.nodes_max.max(self.cluster.nodes.len());
        let daemons: Vec<usize> = (0..self.cluster.workloads.len()).filter(|at| self.is_daemon(*at)).collect();
        for workload in daemons {
            self.reconcile_soon(workload);
        }
        self.schedule_soon();
    }

    fn node_removed(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.clone() else { return };
        if let Some(info) = self.cluster.nodes.remove(&name) {
            told!(self, "node {name} removed");
            self.cluster.joined.remove(&info.instance);
            self.agenda.at(self.now + 20 * SECOND, Due::SweepNode(name));
        }
    }
}
