//! Judged when nothing has changed for a while, and when everything has been taken down.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use karpenter_api::{NodeClaim, conditions, labels as keys};

use super::Invariant;
use crate::agenda::SECOND;
use crate::api::Kept;
use crate::cloud::catalogue;
use crate::cluster::Phase;
use crate::scenario::must_stay;
use crate::sim::{REST, Sim};

impl Sim {
    /// Everything has been well for a while.
    pub(crate) fn judge(&mut self) {
        let (when, what) = self.checks.last_deed.clone();
        if when > self.now - REST {
            let what = format!("{} s before the end of a quiet time: {what}", (self.now - when) / SECOND);
            let subjects = what.split(['"', ' ']).filter(|word| word.contains('-')).map(str::to_owned).collect();
            self.broke(Invariant::ComesToRest, what, subjects);
        }
        self.judge_pods();
        self.judge_claims();
        self.judge_model();
    }

    fn judge_pods(&mut self) {
        let mut idle = Vec::new();
        for (at, one) in self.cluster.workloads.iter().enumerate() {
            if one.impossible {
                continue;
            }
            let runs = |name: &&String| self.cluster.pods.get(*name).is_some_and(|pod| pod.ready && !pod.terminating);
            let running = one.pods.iter().filter(runs).count();
            let wanted =
                if self.is_daemon(at) { self.cluster.nodes.len() } else { usize::try_from(one.replicas).unwrap_or(0) };
            if running != wanted {
                let mut not = one.pods.iter().filter(|name| !runs(name)).cloned();
                idle.push((at, one.name.clone(), running, wanted, not.next()));
            }
        }
        for (at, name, running, wanted, one) in idle {
            let waiting =
                one.as_ref().and_then(|pod| self.cluster.pods.get(pod)).map(|pod| (pod.node.clone(), pod.phase));
            let excused = matches!(waiting, Some((None, Phase::Pending))) && self.is_at_limits(at);
            if !excused {
                let subjects: Vec<String> = one.iter().cloned().chain([name.clone()]).collect();
                let what = format!("{name}: {running} of {wanted} pods run; {one:?} is {waiting:?}");
                self.broke(Invariant::PodsRun, what, subjects);
            }
        }
    }

    /// No pool that serves the workload has room for another node that would hold one of its pods.
    fn is_at_limits(&self, workload: usize) -> bool {
        let Some(one) = self.cluster.workloads.get(workload) else { return false };
        let pool = one.pool.as_deref().unwrap_or("general");
        let Some(limits) = self.api.pools.get(pool).and_then(|pool| pool.spec.limits.as_ref()) else { return false };
        let label =
            |claim: &&NodeClaim| claim.metadata.labels.as_ref().and_then(|all| all.get(keys::NODEPOOL)).cloned();
        let (mut cpu, mut nodes) = (0, 0);
        for claim in self.api.claims.values().filter(|claim| label(claim).as_deref() == Some(pool)) {
            let kind = claim.metadata.labels.as_ref().and_then(|all| all.get(keys::INSTANCE_TYPE));
            cpu += kind.and_then(|kind| catalogue::shape(kind)).map_or(0, |shape| shape.vcpus);
            nodes += 1;
        }
        let left = |resource: &str, used: i64| {
            limits.get(resource).and_then(|limit| limit.to_string().parse::<i64>().ok()).map(|limit| limit - used)
        };
        // Daemons take their part of a node.
        let types = catalogue::types();
        let fits = types.iter().filter_map(|info| catalogue::shape(&info.name)).filter(|shape| {
            let (free, memory) = shape.allocatable();
            shape.vcpus < 5 && free - 100 >= one.cpu && memory - (128 << 20) >= one.memory
        });
        let smallest = fits.map(|shape| shape.vcpus).min().unwrap_or(i64::MAX);
        left("cpu", cpu).is_some_and(|left| left < smallest) || left("nodes", nodes).is_some_and(|left| left < 1)
    }

    fn judge_claims(&mut self) {
        let mut wrong = Vec::new();
        for (name, claim) in &self.api.claims {
            let status = claim.status.as_ref();
            let list = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            let initialized = list.iter().any(|c| c.type_ == conditions::INITIALIZED && c.status == "True");
            let node = status.and_then(|status| status.node_name.as_ref());
            if claim.metadata.deletion_timestamp.is_none() {
                if !initialized {
                    wrong.push((Invariant::ClaimsSettle, format!("NodeClaim {name} is not initialised"), name.clone()));
                }
                continue;
            }
            let stays = node
                .and_then(|node| self.cluster.nodes.get(node))
                .is_some_and(|node| node.pods.iter().any(|pod| self.stays(pod)));
            if !stays {
                wrong.push((Invariant::FinalizersGo, format!("NodeClaim {name} is still there"), name.clone()));
            }
        }
        for (invariant, what, name) in wrong {
            self.broke(invariant, what, vec![name]);
        }
    }

    /// A pod stays on a node that is being deleted: it is not to be disrupted; or others of its workload have to run
    /// first, and its pool may not grow.
    fn stays(&self, pod: &str) -> bool {
        let Some(workload) = self.cluster.pods.get(pod).map(|pod| pod.workload) else { return false };
        let few = self.cluster.desired(workload).is_some_and(|desired| self.cluster.healthy(workload) <= desired);
        self.api.pods.get(pod).is_some_and(must_stay) || (few && self.is_at_limits(workload))
    }

    /// Recompute and compare: the machine's model against what the API server holds.
    fn judge_model(&mut self) {
        let Some(machine) = &self.controller.machine else { return };
        let world = machine.world();
        let mut wrong = Vec::new();
        let known = world.pods.values().map(|pod| version(&pod.pod.metadata));
        compare("Pod", known.collect(), versions(&self.api.pods), &mut wrong);
        let known = world.nodes.values().map(|node| version(&node.node.metadata));
        compare("Node", known.collect(), versions(&self.api.nodes), &mut wrong);
        let known = world.claims.values().map(|claim| version(&claim.claim.metadata));
        compare("NodeClaim", known.collect(), versions(&self.api.claims), &mut wrong);
        let known = world.pools.values().map(|pool| version(&pool.metadata));
        compare("NodePool", known.collect(), versions(&self.api.pools), &mut wrong);
        let known = world.budgets.values().map(|budget| version(&budget.metadata));
        compare("PodDisruptionBudget", known.collect(), versions(&self.api.budgets), &mut wrong);
        let kept = world.flights.len();
        if kept > 16 {
            wrong.push(format!("{kept} actions are remembered although none is under way"));
        }
        let kept = world.terminating.len();
        if kept > self.cloud.instances.len() + 16 {
            wrong.push(format!("{kept} ending instances are remembered"));
        }
        for pod in world.nominated.iter().map(|(pod, _)| pod).chain(world.unschedulable.keys()) {
            if !self.cluster.pods.contains_key(&pod.name) {
                wrong.push(format!("a place is kept for {pod}, which is gone"));
            }
        }
        if let Some(what) = wrong.into_iter().next() {
            let subjects = what.split(' ').filter(|word| word.contains('-')).map(str::to_owned).collect();
            self.broke(Invariant::WorldIsTrue, what, subjects);
        }
    }

    /// Everything has been taken down.
    pub(crate) fn judge_end(&mut self) {
        let claims: Vec<String> = self.api.claims.keys().cloned().collect();
        let nodes: Vec<String> = self.api.nodes.keys().cloned().collect();
        let up: Vec<String> =
            self.cloud.instances.values().filter(|one| one.state.is_up()).map(|one| one.id.clone()).collect();
        let classes: Vec<String> = self.api.classes.keys().cloned().collect();
        let templates: Vec<String> = self.cloud.templates.iter().cloned().collect();
        for (what, left) in [
            ("NodeClaim", claims),
            ("Node", nodes),
            ("instance", up),
            ("EC2NodeClass", classes),
            ("launch template", templates),
        ] {
            if let Some(first) = left.first() {
                let what = format!("{} of {what} are left, {first} among them", left.len());
                self.broke(Invariant::FinalizersGo, what, vec![first.clone()]);
            }
        }
    }
}

type Versions = BTreeMap<String, String>;

fn version(meta: &ObjectMeta) -> (String, String) {
    (meta.name.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default())
}

fn versions<K: Kept>(of: &BTreeMap<String, K>) -> Versions {
    of.values().map(|object| version(object.meta())).collect()
}

fn compare(kind: &str, known: Versions, true_ones: Versions, wrong: &mut Vec<String>) {
    for (name, version) in &true_ones {
        if known.get(name) != Some(version) {
            wrong.push(format!("{kind} {name} is known as {:?}, it is {version}", known.get(name)));
        }
    }
    for name in known.keys().filter(|name| !true_ones.contains_key(*name)) {
        wrong.push(format!("{kind} {name} is known, and is gone"));
    }
}
