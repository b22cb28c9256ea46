//! kube-controller-manager's smaller parts: budgets, garbage, pods of nodes that are gone.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use karpenter_api::NodeClaim;

use crate::agenda::{Ms, SECOND};
use crate::api::{Api, Kept};
use crate::sim::{Due, Sim};

const COUNT_LAG: Ms = 500;

impl Sim {
    /// The budget of a workload is counted anew soon.
    pub(crate) fn count_soon(&mut self, workload: usize) {
        let has = self.cluster.workloads.get(workload).is_some_and(|one| self.api.budgets.contains_key(&one.name));
        if has && self.cluster.counting.insert(workload) {
            self.agenda.at(self.now + COUNT_LAG, Due::Count(workload));
        }
    }

    pub(crate) fn count(&mut self, workload: usize) {
        self.cluster.counting.remove(&workload);
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let (name, replicas) = (one.name.clone(), one.replicas);
        let healthy = self.cluster.healthy(workload);
        let Some(desired) = self.cluster.desired(workload) else { return };
        let small = |number: i64| i32::try_from(number.max(0)).unwrap_or(i32::MAX);
        self.api.update::<PodDisruptionBudget>(&name, |budget| {
            let status = budget.status.get_or_insert_default();
            let before = status.clone();
            status.disruptions_allowed = Some(small(healthy - desired));
            status.current_healthy = Some(small(healthy));
            status.desired_healthy = Some(small(desired));
            status.expected_pods = Some(small(replicas));
            *status != before
        });
        self.settle();
    }

    /// The spec of a workload's budget follows the workload.
    pub(crate) fn write_budget(&mut self, workload: usize) {
        let Some(one) = self.cluster.workloads.get(workload) else { return };
        let Some(wanted) = one.budget() else {
            let name = one.name.clone();
            self.api.remove::<PodDisruptionBudget>(&name);
            return self.settle();
        };
        let name = one.name.clone();
        if self.api.budgets.contains_key(&name) {
            self.api.update::<PodDisruptionBudget>(&name, |budget| {
                let changed = budget.spec != wanted.spec;
                budget.spec = wanted.spec;
                changed
            });
        } else {
            self.api.create(wanted, self.clock());
        }
        self.settle();
        self.count_soon(workload);
    }

    /// Objects whose owner is gone go too.
    pub(crate) fn collect(&mut self) {
        self.collecting = false;
        let nodes = ownerless::<Node>(&self.api, |uid| {
            self.api.claims.values().any(|c| c.metadata.uid.as_deref() == Some(uid))
        });
        let claims = ownerless::<NodeClaim>(&self.api, |uid| {
            self.api.pools.values().any(|pool| pool.metadata.uid.as_deref() == Some(uid))
        });
        for name in nodes {
            let _ = self.api.delete::<Node>(&name, None, None, self.clock());
        }
        for name in claims {
            let _ = self.api.delete::<NodeClaim>(&name, None, None, self.clock());
        }
        self.settle();
    }

    pub(crate) fn collect_soon(&mut self) {
        if !self.collecting {
            self.collecting = true;
            self.agenda.at(self.now + 2 * SECOND, Due::Collect);
        }
    }

    /// Pods of a node that is gone are removed without grace.
    pub(crate) fn sweep_node(&mut self, node: &str) {
        if self.cluster.nodes.contains_key(node) {
            return;
        }
        let on = |pod: &&String| self.cluster.pods.get(*pod).is_some_and(|pod| pod.node.as_deref() == Some(node));
        let pods: Vec<String> = self.cluster.pods.keys().filter(on).cloned().collect();
        for pod in pods {
            self.api.remove::<Pod>(&pod);
        }
        self.settle();
    }

    pub(crate) fn is_daemon(&self, workload: usize) -> bool {
        let of = self.cluster.workloads.get(workload);
        of.is_some_and(|one| one.owner == crate::cluster::workloads::Owner::DaemonSet)
    }
}

fn ownerless<K: Kept>(api: &Api, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let lost = |object: &&K| {
        let mut owners = object.meta().owner_references.iter().flatten().peekable();
        owners.peek().is_some()
            && object.meta().deletion_timestamp.is_none()
            && !owners.any(|owner| is_there(&owner.uid))
    };
    K::all(api).values().filter(lost).filter_map(|object| object.meta().name.clone()).collect()
}
