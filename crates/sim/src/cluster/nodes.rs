//! From an instance to a node and back: joining, getting ready, being lost, being forgotten.

use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::labels as keys;
use serde_json::{Value, json};

use crate::agenda::{MINUTE, Ms, SECOND};
use crate::cloud::{State, catalogue};
use crate::log::told;
use crate::sim::{Due, Sim};

/// The node controller believes a silent kubelet for this long.
const MONITOR_GRACE: Ms = 50 * SECOND;
/// Pods without tolerations of their own stay on a lost node for this long.
const TOLERATED: Ms = 300 * SECOND;

impl Sim {
    /// EC2 has started the instance: its kubelet joins after a while, or never.
    pub(crate) fn instance_runs(&mut self, id: &str) {
        let Some(instance) = self.cloud.instances.get_mut(id).filter(|one| one.state == State::Pending) else { return };
        instance.state = State::Running;
        if self.dice.chance(self.faults.never_joins) {
            told!(self, "instance {id} will never join");
            return;
        }
        let boot = self.dice.between(15 * SECOND, 50 * SECOND);
        self.agenda.at(self.now + boot, Due::NodeJoins(id.to_owned()));
    }

    pub(crate) fn node_joins(&mut self, id: &str) {
        let Some(instance) = self.cloud.instances.get(id).filter(|one| one.state == State::Running) else { return };
        let Some(shape) = catalogue::shape(&instance.kind) else { return };
        let name = format!("ip-{id}.sim.internal");
        let launched = self.launched.get(id);
        let mut labels = launched.map(|node| node.labels.clone()).unwrap_or_default();
        let capacity_type = if instance.spot { "spot" } else { "on-demand" };
        for (key, value) in [
            (keys::INSTANCE_TYPE, instance.kind.as_str()),
            (keys::ZONE, instance.zone.as_str()),
            (keys::REGION, catalogue::REGION),
            (keys::ARCH, "amd64"),
            (keys::OS, "linux"),
            (keys::CAPACITY_TYPE, capacity_type),
            (keys::HOSTNAME, name.as_str()),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        let mut taints = launched.map(|node| node.taints.clone()).unwrap_or_default();
        taints.push(json!({"key": "karpenter.sh/unregistered", "effect": "NoExecute"}));
        taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
        let (cpu, memory) = shape.allocatable();
        let amounts = |cpu: i64, memory: i64| {
            json!({
                "cpu": format!("{cpu}m"), "memory": memory.to_string(), "pods": shape.pods.to_string(),
                "ephemeral-storage": "19Gi",
            })
        };
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"providerID": instance.provider_id(), "taints": taints},
            "status": {
                "capacity": amounts(shape.vcpus * 1000, shape.memory),
                "allocatable": amounts(cpu, memory),
                "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
            },
        });
        if let Ok(node) = serde_json::from_value::<Node>(node)
            && self.api.create(node, self.clock()).is_some()
        {
            told!(self, "node {name} joins");
            let ready = self.dice.between(3 * SECOND, 15 * SECOND);
            self.agenda.at(self.now + ready, Due::NodeReady(name));
            self.settle();
        }
    }

    pub(crate) fn node_ready(&mut self, name: &str) {
        let Some(info) = self.cluster.nodes.get_mut(name).filter(|node| node.alive) else { return };
        info.ready = true;
        info.lost = None;
        self.set_ready(name, "True", &[]);
        if self.dice.chance(self.faults.hangs) {
            let later = self.now + self.dice.between(MINUTE, 180 * MINUTE);
            self.agenda.at(later, Due::NodeSilent(name.to_owned(), None));
        } else if self.dice.chance(self.faults.flaps) {
            let later = self.now + self.dice.between(MINUTE, 120 * MINUTE);
            let silent = self.dice.between(30 * SECOND, 8 * MINUTE);
            self.agenda.at(later, Due::NodeSilent(name.to_owned(), Some(silent)));
        }
        self.kubelet_catches_up(name);
        self.settle();
    }

    /// Whoever put the start-up taint there takes it away, whenever a ready node has it.
    pub(crate) fn startup_done(&mut self, name: &str) {
        if let Some(info) = self.cluster.nodes.get_mut(name) {
            info.starting = false;
        }
        self.api.update::<Node>(name, |node| {
            let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
            let before = taints.len();
            taints.retain(|taint| taint.key != "sim/starting");
            before != taints.len()
        });
        self.settle();
    }

    /// The kubelet says nothing more, for a while or for good.
    pub(crate) fn node_silent(&mut self, name: &str, back_after: Option<Ms>) {
        let Some(info) = self.cluster.nodes.get_mut(name).filter(|node| node.alive) else { return };
        let is_up = self.cloud.instances.get(&info.instance).is_some_and(|one| one.state.is_up());
        if is_up && !self.troubled {
            return;
        }
        info.alive = false;
        info.hung = back_after.is_none();
        told!(self, "node {name} silent, back after {back_after:?}");
        self.agenda.at(self.now + MONITOR_GRACE, Due::NodeLost(name.to_owned()));
        if let Some(after) = back_after {
            self.agenda.at(self.now + after, Due::NodeBack(name.to_owned()));
        }
    }

    pub(crate) fn node_lost(&mut self, name: &str) {
        let now = self.now;
        let Some(info) = self.cluster.nodes.get_mut(name).filter(|node| !node.alive && node.lost.is_none()) else {
            return;
        };
        info.ready = false;
        info.lost = Some(now);
        let pods: Vec<String> = info.pods.iter().cloned().collect();
        told!(self, "node {name} lost");
        self.set_ready(name, "Unknown", &["NoSchedule", "NoExecute"]);
        for pod in pods {
            self.api.update::<Pod>(&pod, |pod| {
                let conditions = pod.status.as_mut().and_then(|status| status.conditions.as_mut());
                let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
                ready.map(|ready| "False".clone_into(&mut ready.status)).is_some()
            });
        }
        self.agenda.at(self.now + TOLERATED, Due::Intolerable(name.to_owned(), now));
        self.agenda.at(self.now + self.dice.between(5 * SECOND, MINUTE), Due::CloudAsked(name.to_owned()));
        self.settle();
    }

    /// Pods do not tolerate the lost node any longer.
    pub(crate) fn intolerable(&mut self, name: &str, since: Ms) {
        let Some(info) = self.cluster.nodes.get(name).filter(|node| node.lost == Some(since)) else { return };
        for pod in info.pods.clone() {
            let daemon = self.cluster.pods.get(&pod).is_some_and(|pod| self.is_daemon(pod.workload));
            if !daemon {
                let _ = self.api.delete::<Pod>(&pod, None, None, self.clock());
            }
        }
        self.settle();
    }

    /// The cloud's node controller asks whether a lost node's instance exists.
    pub(crate) fn cloud_asked(&mut self, name: &str) {
        let Some(info) = self.cluster.nodes.get(name).filter(|node| node.lost.is_some()) else { return };
        let state = self.cloud.instances.get(&info.instance).map(|instance| instance.state);
        match state {
            None | Some(State::Terminated) => {
                told!(self, "cloud node controller deletes {name}");
                let _ = self.api.delete::<Node>(name, None, None, self.clock());
                self.settle();
            }
            Some(_) => self.agenda.at(self.now + 30 * SECOND, Due::CloudAsked(name.to_owned())),
        }
    }

    pub(crate) fn node_back(&mut self, name: &str) {
        let Some(info) = self.cluster.nodes.get(name) else { return };
        let up = self.cloud.instances.get(&info.instance).is_some_and(|instance| instance.state.is_up());
        if info.alive || !up {
            return;
        }
        told!(self, "node {name} back");
        if let Some(info) = self.cluster.nodes.get_mut(name) {
            info.alive = true;
            info.hung = false;
            info.ready = true;
            info.lost = None;
        }
        self.set_ready(name, "True", &[]);
        self.kubelet_catches_up(name);
        self.settle();
    }

    fn set_ready(&mut self, name: &str, status: &str, unreachable: &[&str]) {
        let taints: Vec<Value> = unreachable
            .iter()
            .map(|effect| json!({"key": "node.kubernetes.io/unreachable", "effect": effect}))
            .collect();
        self.api.update::<Node>(name, |node| {
            let conditions = json!([{"type": "Ready", "status": status}]);
            node.status.get_or_insert_default().conditions = serde_json::from_value(conditions).ok();
            let known = node.spec.get_or_insert_default().taints.get_or_insert_default();
            known.retain(|taint| !taint.key.starts_with("node.kubernetes.io/"));
            known.extend(taints.into_iter().filter_map(|taint| serde_json::from_value(taint).ok()));
            true
        });
    }

    /// An instance's end has begun, whoever asked for it.
    pub(crate) fn instance_ends(&mut self, id: &str) {
        if let Some(node) = self.cluster.joined.get(id).cloned() {
            self.agenda.at(self.now + 5 * SECOND, Due::NodeSilent(node, None));
        }
        let gone = self.dice.between(10 * SECOND, 60 * SECOND);
        self.agenda.at(self.now + gone, Due::InstanceGone(id.to_owned()));
    }

    pub(crate) fn instance_gone(&mut self, id: &str) {
        if let Some(instance) = self.cloud.instances.get_mut(id) {
            instance.state = State::Terminated;
            told!(self, "instance {id} terminated");
        }
        self.launched.remove(id);
        self.cloud.forget(self.now);
    }
}
