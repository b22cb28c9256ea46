//! What the world is made of, and what people and AWS do to it.

use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool, labels as keys};
use karpenter_core::KubeWrite;
use karpenter_core::action::WriteKind;
use serde_json::{Value, json};

use crate::agenda::{HOUR, MINUTE, Ms, SECOND};
use crate::api::Kept;
use crate::cloud::State;
use crate::cluster::workloads::{Owner, Workload};
use crate::dice::Dice;
use crate::log::told;
use crate::sim::{Due, Sim};

const CLASS: &str = "default";
/// About so many disturbances in a world's time of trouble.
const DISTURBANCES: i64 = 40;

impl Sim {
    /// Class, pools and workloads, as the seed has them.
    pub(crate) fn populate(&mut self) {
        let clock = self.clock();
        let mut dice = Dice::of(self.options.seed, "world");
        let class = json!({
            "metadata": {"name": CLASS},
            "spec": {
                "subnetSelectorTerms": [{"tags": {"discovery": "sim"}}],
                "securityGroupSelectorTerms": [{"tags": {"discovery": "sim"}}],
                "amiSelectorTerms": [{"alias": "al2023@latest"}],
                "role": "node",
            },
        });
        if let Ok(class) = serde_json::from_value::<Ec2NodeClass>(class) {
            self.api.create(class, clock);
        }
        let nodes = self.options.nodes;
        self.add_pool(pool("general", &mut dice, nodes * 2, false));
        self.add_pool(pool("dedicated", &mut dice, (nodes / 4).max(2), true));
        for workload in workloads(self.options.pods, nodes, &mut dice) {
            self.add_workload(workload);
        }
        self.settle();
        let first = dice.between(2 * MINUTE, 10 * MINUTE);
        self.agenda.at(first, Due::Disturb);
        self.dice = dice;
        self.draw_capacity();
    }

    fn add_pool(&mut self, manifest: Value) {
        if let Ok(pool) = serde_json::from_value::<NodePool>(manifest) {
            let clock = self.clock();
            self.api.create(pool, clock);
        }
    }

    fn add_workload(&mut self, workload: Workload) {
        let clock = self.clock();
        if workload.owner == Owner::DaemonSet
            && let Some(set) = workload.daemon_set()
        {
            self.api.create(set, clock);
        }
        self.cluster.workloads.push(workload);
        let at = self.cluster.workloads.len() - 1;
        self.write_budget(at);
        self.reconcile_soon(at);
    }

    /// Something happens, and then, a while later, something else.
    pub(crate) fn disturb(&mut self) {
        if !self.troubled {
            return;
        }
        let mean = (self.options.hours * HOUR / DISTURBANCES).max(2 * MINUTE);
        let later = self.dice.between(mean / 4, mean * 7 / 4);
        self.agenda.at(self.now + later, Due::Disturb);
        match self.dice.below(16) {
            0..=2 => self.scale_some(true),
            3 | 4 => self.scale_some(false),
            5 => self.roll_some(),
            6 | 7 => self.delete_claims(3),
            8 => self.delete_claims((self.api.claims.len() / 10).max(2)),
            9 => self.delete_nodes(),
            10 | 11 => self.kill_instances(),
            12 => self.draw_capacity(),
            13 => self.burst(),
            14 => self.block(),
            _ => self.standalone(),
        }
        self.settle();
    }

    fn scalable(&self) -> Vec<usize> {
        let of = |at: &usize| {
            self.cluster
                .workloads
                .get(*at)
                .is_some_and(|one| matches!(one.owner, Owner::Deployment | Owner::StatefulSet) && !one.impossible)
        };
        (0..self.cluster.workloads.len()).filter(of).collect()
    }

    /// All workloads together stay within the world's size.
    fn scale_some(&mut self, up: bool) {
        let all = self.scalable();
        let Some(at) = self.dice.pick(&all).copied() else { return };
        let total: i64 = self.cluster.workloads.iter().map(|one| one.replicas).sum();
        let Some(replicas) = self.cluster.workloads.get(at).map(|one| one.replicas) else { return };
        let step = self.dice.between(1, (replicas / 2).max(2));
        let room = (self.options.pods - total).max(0);
        self.scale(at, if up { replicas + step.min(room) } else { replicas - step });
    }

    fn roll_some(&mut self) {
        let all = self.scalable();
        if let Some(at) = self.dice.pick(&all).copied() {
            self.roll(at);
        }
    }

    fn delete_claims(&mut self, count: usize) {
        for name in some::<NodeClaim>(&self.api.claims, &mut self.dice, count) {
            told!(self, "user deletes NodeClaim {name}");
            let _ = self.api.delete::<NodeClaim>(&name, None, None, self.clock());
        }
    }

    fn delete_nodes(&mut self) {
        for name in some::<Node>(&self.api.nodes, &mut self.dice, 2) {
            told!(self, "user deletes Node {name}");
            let _ = self.api.delete::<Node>(&name, None, None, self.clock());
        }
    }

    /// Spot reclaims, failures of hardware, somebody at the console.
    fn kill_instances(&mut self) {
        let up: Vec<String> =
            self.cloud.instances.values().filter(|one| one.state.is_up()).map(|one| one.id.clone()).collect();
        for _ in 0..=self.dice.below(3) {
            let Some(id) = self.dice.pick(&up).cloned() else { return };
            if let Some(instance) = self.cloud.instances.get_mut(&id).filter(|one| one.state.is_up()) {
                instance.state = State::Ending;
                told!(self, "AWS takes instance {id}");
                self.instance_ends(&id);
            }
        }
    }

    pub(crate) fn draw_capacity(&mut self) {
        let rate = if self.troubled { u32::try_from(self.dice.between(0, 3_000)).unwrap_or(0) } else { 0 };
        self.cloud.draw_capacity(rate);
        told!(self, "capacity: {} offerings are sold out", self.cloud.dry.len());
    }

    fn burst(&mut self) {
        let mut job = Workload::new(format!("job-{}", self.cluster.workloads.len()), Owner::Job);
        job.replicas = self.dice.between(1, (self.options.pods / 20).max(3));
        job.cpu = self.dice.between(1, 12) * 100;
        job.memory = self.dice.between(1, 8) * (128 << 20);
        job.lifetime = self.dice.between(2 * MINUTE, 30 * MINUTE);
        told!(self, "job {} of {} pods", job.name, job.replicas);
        self.add_workload(job);
    }

    /// A budget allows nothing for a while.
    fn block(&mut self) {
        let with: Vec<usize> = (0..self.cluster.workloads.len())
            .filter(|at| self.cluster.workloads.get(*at).is_some_and(|one| one.max_unavailable.is_some()))
            .collect();
        let Some(at) = self.dice.pick(&with).copied() else { return };
        if let Some(one) = self.cluster.workloads.get_mut(at) {
            one.blocked = true;
            told!(self, "budget of {} allows nothing", one.name);
        }
        self.write_budget(at);
        let later = self.dice.between(5 * MINUTE, 60 * MINUTE);
        self.agenda.at(self.now + later, Due::Unblock(at));
    }

    pub(crate) fn unblock(&mut self, workload: usize) {
        if let Some(one) = self.cluster.workloads.get_mut(workload).filter(|one| one.blocked) {
            one.blocked = false;
            told!(self, "budget of {} allows some", one.name);
            self.write_budget(workload);
        }
    }

    /// A NodeClaim that no pool made.
    fn standalone(&mut self) {
        let name = format!("alone-{}", self.now / SECOND);
        let claim = json!({
            "metadata": {"name": name},
            "spec": {
                "requirements": [
                    {"key": keys::INSTANCE_CPU, "operator": "In", "values": ["2"]},
                    {"key": keys::CAPACITY_TYPE, "operator": "In", "values": ["on-demand"]},
                ],
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": CLASS},
                "expireAfter": "Never",
            },
        });
        if let Ok(claim) = serde_json::from_value::<NodeClaim>(claim) {
            told!(self, "user creates NodeClaim {name}");
            let clock = self.clock();
            self.api.create(claim, clock);
        }
    }

    /// Another client touches the object, and sometimes leaves a taint of its own on a node.
    pub(crate) fn somebody_writes(&mut self, write: &KubeWrite) {
        let KubeWrite::Patch { object, .. } = write else { return };
        let name = object.name.clone();
        let now = self.now.to_string();
        match object.kind {
            WriteKind::Node => {
                let taint = self.dice.chance(2_000);
                let mark = json!({"key": "sim/foreign", "effect": "PreferNoSchedule"});
                let written = self.api.update::<Node>(&name, |node| {
                    if taint && let Ok(mark) = serde_json::from_value(mark) {
                        let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
                        taints.retain(|taint| taint.key != "sim/foreign");
                        taints.push(mark);
                    }
                    touch(node, &now)
                });
                if taint && written {
                    self.checks.marked.insert(name);
                }
            }
            WriteKind::NodeClaim => {
                self.api.update::<NodeClaim>(&name, |claim| touch(claim, &now));
            }
            WriteKind::NodePool => {
                self.api.update::<NodePool>(&name, |pool| touch(pool, &now));
            }
            WriteKind::Ec2NodeClass => {
                self.api.update::<Ec2NodeClass>(&name, |class| touch(class, &now));
            }
            WriteKind::Pod => {}
        }
        self.settle();
    }

    /// The trouble is over, and what is broken is mended.
    pub(crate) fn calm(&mut self) {
        told!(self, "calm");
        self.troubled = false;
        self.faults = crate::faults::Faults::none();
        self.draw_capacity();
        self.controller_repaired();
        for at in 0..self.cluster.workloads.len() {
            self.unblock(at);
        }
        let sticking: Vec<(String, String)> = self
            .cluster
            .pods
            .iter_mut()
            .filter_map(|(name, pod)| {
                let stuck = std::mem::take(&mut pod.sticks) && pod.terminating;
                stuck.then(|| (name.clone(), pod.uid.clone()))
            })
            .collect();
        for (name, uid) in sticking {
            self.agenda.at(self.now + SECOND, Due::PodEnds(name, uid));
        }
        let silent: Vec<String> =
            self.cluster.nodes.iter().filter(|(_, node)| !node.alive).map(|(name, _)| name.clone()).collect();
        for node in silent {
            let later = self.dice.between(SECOND, 2 * MINUTE);
            self.agenda.at(self.now + later, Due::NodeBack(node));
        }
    }

    /// Pools and class are deleted, with all that they brought.
    pub(crate) fn tear_down(&mut self) {
        told!(self, "everything is taken down");
        let clock = self.clock();
        for name in self.api.pools.keys().cloned().collect::<Vec<_>>() {
            let _ = self.api.delete::<NodePool>(&name, None, None, clock);
        }
        let alone = |claim: &&NodeClaim| claim.metadata.owner_references.is_none();
        let alone: Vec<String> =
            self.api.claims.values().filter(alone).filter_map(|claim| claim.metadata.name.clone()).collect();
        for name in alone {
            let _ = self.api.delete::<NodeClaim>(&name, None, None, clock);
        }
        let _ = self.api.delete::<Ec2NodeClass>(CLASS, None, None, clock);
        self.settle();
    }

    /// The workloads go as well.
    pub(crate) fn empty(&mut self) {
        for at in 0..self.cluster.workloads.len() {
            if let Some(one) = self.cluster.workloads.get_mut(at) {
                one.replicas = 0;
                one.max_unavailable = None;
            }
            self.write_budget(at);
            if !self.is_daemon(at) {
                self.reconcile_soon(at);
            }
        }
        self.settle();
    }
}

/// A pod that is not to be disrupted.
pub(crate) fn must_stay(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.get(keys::DO_NOT_DISRUPT).is_some_and(|v| v == "true"))
}

fn touch<K: Kept>(object: &mut K, now: &str) -> bool {
    let annotations = object.meta_mut().annotations.get_or_insert_default();
    annotations.insert("sim/touched".to_owned(), now.to_owned());
    true
}

fn some<K: Kept>(of: &std::collections::BTreeMap<String, K>, dice: &mut Dice, count: usize) -> Vec<String> {
    let living = of.iter().filter(|(_, object)| object.meta().deletion_timestamp.is_none());
    let names: Vec<String> = living.map(|(name, _)| name.clone()).collect();
    let mut chosen: Vec<String> = (0..=dice.below(count)).filter_map(|_| dice.pick(&names).cloned()).collect();
    chosen.sort();
    chosen.dedup();
    chosen
}

fn pool(name: &str, dice: &mut Dice, nodes: i64, dedicated: bool) -> Value {
    let mut pool = json!({
        "metadata": {"name": name},
        "spec": {
            "template": {"metadata": {}, "spec": {
                "requirements": [
                    {"key": keys::INSTANCE_CPU, "operator": "Lt", "values": ["5"]},
                    {"key": keys::CAPACITY_TYPE, "operator": "In", "values": ["spot", "on-demand"]},
                ],
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": CLASS},
                "expireAfter": "Never",
            }},
            "disruption": {"consolidateAfter": "Never"},
            "limits": {"cpu": (nodes * 4).to_string()},
        },
    });
    if dice.chance(3_000) {
        pool["spec"]["limits"] = json!({"nodes": nodes.to_string()});
    }
    let spec = &mut pool["spec"]["template"]["spec"];
    if dice.chance(4_000) {
        spec["startupTaints"] = json!([{"key": "sim/starting", "effect": "NoSchedule"}]);
    }
    if dice.chance(4_000) {
        spec["terminationGracePeriod"] = json!(format!("{}m", dice.between(3, 30)));
    }
    if dedicated {
        spec["taints"] = json!([{"key": "dedicated", "effect": "NoSchedule"}]);
    }
    pool
}

/// So many pods that the pools' nodes of up to four cores come to about the number asked for.
fn workloads(pods: i64, nodes: i64, dice: &mut Dice) -> Vec<Workload> {
    let mut all: Vec<Workload> = Vec::new();
    for name in ["agent", "proxy"] {
        let mut daemon = Workload::new(name.to_owned(), Owner::DaemonSet);
        daemon.cpu = 50;
        daemon.memory = 64 << 20;
        all.push(daemon);
    }
    let per_pod = (3_200 * nodes / pods.max(1)).clamp(50, 3_000);
    let mut left = pods * 7 / 10;
    while left > 0 {
        let number = all.len();
        let owner = if dice.chance(2_000) { Owner::StatefulSet } else { Owner::Deployment };
        let mut one = Workload::new(format!("app-{number}"), owner);
        one.replicas = dice.between(1, (pods / 12).max(2)).min(left);
        left -= one.replicas;
        one.cpu = dice.between(per_pod / 3, per_pod * 5 / 3).max(10);
        one.memory = dice.between(1, 8) * (96 << 20);
        one.grace = dice.between(1, 120);
        one.zonal = dice.chance(2_000);
        one.apart = dice.chance(1_500);
        if one.apart {
            one.replicas = one.replicas.min((nodes / 2).max(2));
        }
        one.critical = dice.chance(700);
        one.must_stay = dice.chance(600);
        if dice.chance(1_500) {
            one.pool = Some("dedicated".to_owned());
            one.replicas = one.replicas.min((pods / 20).max(2));
        }
        if dice.chance(5_000) {
            one.max_unavailable = Some(dice.between(1, (one.replicas / 3).max(1)));
        }
        all.push(one);
    }
    if dice.chance(2_000) {
        let mut huge = Workload::new("huge".to_owned(), Owner::Deployment);
        huge.replicas = 2;
        huge.cpu = 64_000;
        huge.impossible = true;
        all.push(huge);
    }
    all
}

/// Until then nothing is decided that was not decided before.
pub(crate) const ORPHAN_WITHIN: Ms = 10 * MINUTE;
