//! Judged as it happens: what a write or a call does to the world.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::{NodeClaim, conditions, labels as keys};
use karpenter_aws::call::Call;
use karpenter_core::action::WriteKind;
use karpenter_core::{Failure, KubeWrite, Timestamp};

use super::Invariant;
use crate::agenda::{MINUTE, SECOND};
use crate::api::Effect;
use crate::cloud::{self, Deeds, catalogue};
use crate::cluster::Phase;
use crate::scenario::{ORPHAN_WITHIN, must_stay};
use crate::sim::{Due, Registration, Sim};

/// How far the controller's clock may be off, twice: a deadline is judged with that much mercy.
const CLOCK_MERCY: SignedDuration = SignedDuration::from_secs(100);

impl Sim {
    /// Before a write takes effect.
    pub(crate) fn check_write(&mut self, write: &KubeWrite) {
        self.checks.figures.writes += 1;
        match write {
            KubeWrite::Evict { object } => {
                self.checks.figures.evictions += 1;
                self.check_eviction(&object.name, object.uid.as_deref());
            }
            KubeWrite::Delete { object, .. } if object.kind == WriteKind::Pod => {
                self.check_pod_deletion(&object.name, object.uid.as_deref());
            }
            KubeWrite::Delete { object, .. } if object.kind == WriteKind::NodeClaim => {
                self.check_disruption(&object.name);
            }
            _ => {}
        }
    }

    /// After it took effect.
    pub(crate) fn wrote(&mut self, write: &KubeWrite, outcome: &Effect) {
        // An eviction that a budget blocks changes nothing, and is rightly asked for again.
        if !matches!(outcome, Err(Failure::Blocked(_))) {
            self.deed(format!("{write:?}").chars().take(300).collect());
        }
        if outcome.is_ok()
            && let KubeWrite::Patch { object, .. } = write
            && object.kind == WriteKind::Node
            && self.checks.marked.contains(&object.name)
        {
            let kept = self.api.nodes.get(&object.name).is_none_or(|node| has_taint(node, "sim/foreign"));
            if !kept {
                let what = format!("the taint that somebody put on {} is gone after a write of ours", object.name);
                self.broke(Invariant::ForeignWritesKept, what, vec![object.name.clone()]);
            }
        }
    }

    pub(crate) fn deed(&mut self, what: String) {
        self.checks.last_deed = (self.now, what);
    }

    fn meant(&self, name: &str, uid: Option<&str>) -> Option<Pod> {
        let pod = self.api.pods.get(name).filter(|pod| uid.is_none() || pod.metadata.uid.as_deref() == uid)?;
        let info = self.cluster.pods.get(name)?;
        (info.phase != Phase::Ended && !info.terminating && info.node.is_some()).then(|| pod.clone())
    }

    fn check_eviction(&mut self, name: &str, uid: Option<&str>) {
        let Some(pod) = self.meant(name, uid) else { return };
        if must_stay(&pod) {
            let what = format!("{name} is do-not-disrupt and is evicted");
            return self.broke(Invariant::DoNotDisruptKept, what, vec![name.to_owned()]);
        }
        self.check_leaving(name);
    }

    fn check_leaving(&mut self, name: &str) {
        let node = self.cluster.pods.get(name).and_then(|pod| pod.node.clone()).unwrap_or_default();
        if self.cluster.nodes.get(&node).is_some_and(|node| !node.deleting) {
            let what = format!("{name} has to leave {node}, which is not being deleted");
            self.broke(Invariant::LivingNodesLeftAlone, what, vec![name.to_owned(), node]);
        }
    }

    fn check_pod_deletion(&mut self, name: &str, uid: Option<&str>) {
        let Some(pod) = self.meant(name, uid) else { return };
        self.check_leaving(name);
        let node = self.cluster.pods.get(name).and_then(|pod| pod.node.clone()).unwrap_or_default();
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let due = self.deadline(&node).and_then(|at| at.checked_sub(SignedDuration::from_secs(grace)).ok());
        let forced = due.is_some_and(|due| due.checked_sub(CLOCK_MERCY).is_ok_and(|due| self.clock() > due));
        if forced {
            return;
        }
        let subjects = vec![name.to_owned(), node];
        let workload = self.cluster.pods.get(name).map(|pod| pod.workload);
        if must_stay(&pod) {
            let what = format!("{name} is do-not-disrupt and is deleted");
            return self.broke(Invariant::DoNotDisruptKept, what, subjects);
        }
        if let Some((workload, desired)) = workload.and_then(|of| Some((of, self.cluster.desired(of)?)))
            && self.cluster.healthy(workload) <= desired
        {
            let what = format!("{name} is deleted although its budget wants {desired} healthy pods");
            return self.broke(Invariant::PodBudgetsKept, what, subjects);
        }
        self.broke(Invariant::EvictedNotKilled, format!("{name} is deleted"), subjects);
    }

    /// When a node's grace ends, if it has one.
    fn deadline(&self, node: &str) -> Option<Timestamp> {
        let claim = self.claim_of(node)?;
        let text = claim.metadata.annotations.as_ref()?.get(keys::TERMINATION_TIMESTAMP)?;
        text.parse().ok()
    }

    pub(crate) fn claim_of(&self, node: &str) -> Option<&NodeClaim> {
        let provider = self.api.nodes.get(node)?.spec.as_ref()?.provider_id.clone()?;
        self.api
            .claims
            .values()
            .find(|claim| claim.status.as_ref().and_then(|status| status.provider_id.as_ref()) == Some(&provider))
    }

    /// Voluntary disruption, within the budgets of the pool.
    fn check_disruption(&mut self, name: &str) {
        let reason = |claim: &NodeClaim| {
            let list = claim.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            list.iter()
                .find(|c| c.type_ == conditions::DISRUPTION_REASON && c.status == "True")
                .map(|c| c.reason.clone())
        };
        let Some(claim) = self.api.claims.get(name).filter(|claim| claim.metadata.deletion_timestamp.is_none()) else {
            return;
        };
        let Some(why) = reason(claim) else { return };
        let pool_of =
            |claim: &NodeClaim| claim.metadata.labels.as_ref().and_then(|all| all.get(keys::NODEPOOL)).cloned();
        let Some(pool) = pool_of(claim).and_then(|name| self.api.pools.get(&name)) else { return };
        let mine: Vec<&NodeClaim> =
            self.api.claims.values().filter(|other| pool_of(other) == pool.metadata.name).collect();
        let total = i64::try_from(mine.len()).unwrap_or(i64::MAX);
        let going = |other: &&&NodeClaim| other.metadata.deletion_timestamp.is_some();
        let leaving = i64::try_from(mine.iter().filter(going).count()).unwrap_or(0) + 1;
        let default = vec!["10%".to_owned()];
        let budgets = pool.spec.disruption.budgets.as_ref().map_or(default, |all| {
            let means = |budget: &&karpenter_api::nodepool::Budget| {
                let of = budget.reasons.as_ref();
                budget.schedule.is_none() && of.is_none_or(|all| all.iter().any(|one| format!("{one:?}") == why))
            };
            all.iter().filter(means).map(|budget| budget.nodes.clone()).collect()
        });
        let allows = |text: &String| match text.strip_suffix('%') {
            Some(percent) => (total * percent.parse::<i64>().unwrap_or(0) + 99) / 100,
            None => text.parse().unwrap_or(0),
        };
        if let Some(most) = budgets.iter().map(allows).min().filter(|most| leaving > *most) {
            let what = format!("{name} is disrupted ({why}) as number {leaving} of {total}, and {most} may be");
            self.broke(Invariant::BudgetsKept, what, vec![name.to_owned()]);
        }
    }

    /// After a call took effect.
    pub(crate) fn called(&mut self, call: &Call, deeds: &Deeds) {
        self.checks.figures.calls += 1;
        if matches!(call, Call::Launch(_) | Call::Terminate { .. } | Call::Find { .. }) {
            self.deed(cloud::brief(call));
        }
        for id in &deeds.launched {
            self.launched(id);
        }
        for id in &deeds.ended {
            self.check_drained(id);
            self.instance_ends(id);
        }
    }

    fn launched(&mut self, id: &str) {
        self.checks.figures.launches += 1;
        let Some(instance) = self.cloud.instances.get(id).cloned() else { return };
        let is_it = |of: &&karpenter_aws::call::ClaimRef| {
            self.api.claims.get(&of.name).is_some_and(|claim| claim.metadata.uid.as_ref() == Some(&of.uid))
        };
        // The claims of a launch are alike.
        let claim = instance.claims.iter().find(is_it).and_then(|of| self.api.claims.get(&of.name));
        if let Some(claim) = claim {
            let taints = claim.spec.taints.iter().chain(&claim.spec.startup_taints).flatten();
            let registration = Registration {
                labels: claim.metadata.labels.clone().unwrap_or_default(),
                taints: taints.filter_map(|taint| serde_json::to_value(taint).ok()).collect(),
            };
            self.launched.insert(id.to_owned(), registration);
        }
        self.agenda.at(self.now + ORPHAN_WITHIN, Due::Orphan(id.to_owned()));
        let later = self.dice.between(2 * SECOND, 10 * SECOND);
        self.agenda.at(self.now + later, Due::InstanceRuns(id.to_owned()));
        self.check_twins(id);
        self.check_limits(id);
    }

    /// Instances of claims that stay, against the limits of their pool.
    fn check_limits(&mut self, id: &str) {
        let pool_of =
            |claim: &NodeClaim| claim.metadata.labels.as_ref().and_then(|all| all.get(keys::NODEPOOL)).cloned();
        let owners = self.owners();
        let Some(pool) = owners.get(id).and_then(|claim| pool_of(claim)) else { return };
        let Some(limits) = self.api.pools.get(&pool).and_then(|pool| pool.spec.limits.clone()) else { return };
        let (mut cpu, mut nodes) = (0, 0);
        for (id, claim) in owners {
            let stays = claim.metadata.deletion_timestamp.is_none() && pool_of(claim).as_deref() == Some(&pool);
            if let Some(instance) = self.cloud.instances.get(id).filter(|_| stays) {
                cpu += catalogue::shape(&instance.kind).map_or(0, |shape| shape.vcpus);
                nodes += 1;
            }
        }
        for (resource, used) in [("cpu", cpu), ("nodes", nodes)] {
            let limit = limits.get(resource).and_then(|limit| limit.to_string().parse::<i64>().ok());
            if let Some(limit) = limit.filter(|limit| used > *limit) {
                let what = format!("NodePool {pool} has {used} {resource}, its limit is {limit}");
                self.broke(Invariant::LimitsKept, what, vec![id.to_owned()]);
            }
        }
    }

    /// The end of an instance has been asked for: its pods must be gone, or past waiting for.
    fn check_drained(&mut self, id: &str) {
        let Some((name, node)) = self.cluster.joined.get(id).and_then(|name| self.cluster.nodes.get_key_value(name))
        else {
            return;
        };
        let Some(claim) = self.claim_of(name) else { return };
        let list = claim.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let registered = list.iter().any(|c| c.type_ == conditions::REGISTERED && c.status == "True");
        let over = self.deadline(name).is_some_and(|at| at.checked_sub(CLOCK_MERCY).is_ok_and(|at| self.clock() > at));
        if !node.alive || !registered || over || !self.sees_pods() {
            return;
        }
        let clock = self.clock();
        let waits = |pod: &&String| {
            let Some(info) = self.cluster.pods.get(*pod) else { return false };
            let ends = self.api.pods.get(*pod).and_then(|pod| pod.metadata.deletion_timestamp.clone());
            let stuck = ends.is_some_and(|at| {
                at.0.checked_add(SignedDuration::from_mins(1))
                    .is_ok_and(|at| at.checked_sub(CLOCK_MERCY).is_ok_and(|at| at < clock))
            });
            let seen = self.checks.bound.get(*pod).is_some_and(|at| *at + MINUTE < self.now);
            info.phase != Phase::Ended && !self.is_daemon(info.workload) && !stuck && seen
        };
        let left: Vec<String> = node.pods.iter().filter(waits).cloned().collect();
        if let Some(pod) = left.first() {
            let what = format!("the instance {id} of {name} ends with {} pods on it, {pod} among them", left.len());
            let subjects = vec![id.to_owned(), name.clone(), pod.clone()];
            self.broke(Invariant::DrainedFirst, what, subjects);
        }
    }
}

fn has_taint(node: &Node, key: &str) -> bool {
    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten().any(|taint| taint.key == key)
}
