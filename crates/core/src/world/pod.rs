//! Pods as observed, and what of them matters to placing: computed once, when the pod changes.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::digest::{Digest, Digests};
use crate::Timestamp;
use crate::resources::{PODS, Resources};

/// `namespace/name`, in that order of comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

impl PodKey {
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone()? })
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What `karpenter.sh/do-not-disrupt` says of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoNotDisrupt<'a> {
    No,
    Always,
    /// Protected until then, and no longer.
    Until(Timestamp),
    /// Neither `true` nor a positive duration: as if it were not there.
    Unreadable(&'a str),
}

/// A pod and what was read from it.
#[derive(Clone, Debug)]
pub struct PodState {
    pub key: PodKey,
    /// Without what only its digest is made of.
    pub pod: Pod,
    pub digest: Arc<Digest>,
    provisionable: bool,
}

impl PodState {
    /// `None` for a pod without a name or spec, which the API server never serves.
    pub(super) fn new(mut pod: Pod, digests: &mut Digests) -> Option<Self> {
        let key = PodKey::of(&pod.metadata)?;
        pod.metadata.managed_fields = None;
        let provisionable = is_provisionable(&pod);
        let digest = Digest::new(&pod, pod.spec.as_ref()?, requests(&pod));
        let digest = digests.share(digest);
        let spec = pod.spec.as_mut()?;
        spec.affinity = None;
        spec.containers = Vec::new();
        spec.init_containers = None;
        spec.node_selector = None;
        spec.topology_spread_constraints = None;
        spec.volumes = None;
        pod.metadata.labels = None;
        Some(Self { key, pod, digest, provisionable })
    }

    /// What the scheduler books for it, including one of `pods`.
    pub fn requests(&self) -> &Resources {
        &self.digest.requests
    }

    /// As its priority class says; none is zero.
    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn node_name(&self) -> Option<&str> {
        self.pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// Failed or Succeeded: holds no resources, is never moved.
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Failed" | "Succeeded"))
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// The kubelet's Ready condition is True.
    pub fn is_ready(&self) -> bool {
        let conditions = self.pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    /// What runs in it will be wanted elsewhere once its node is gone. A StatefulSet's pod is only replaced after it
    /// has ended, every other pod as soon as its end has begun.
    pub fn is_reschedulable(&self) -> bool {
        !self.is_terminal()
            && (!self.is_terminating() || self.is_owned_by("apps/v1", "StatefulSet"))
            && !self.is_daemon()
            && !self.is_node_owned()
    }

    /// Its owner wants it to stay where it is now. One that is on its way out, or has ended, need not.
    pub fn must_stay(&self, now: Timestamp) -> bool {
        !self.is_terminating()
            && !self.is_terminal()
            && match self.do_not_disrupt() {
                DoNotDisrupt::Always => true,
                DoNotDisrupt::Until(until) => now < until,
                DoNotDisrupt::No | DoNotDisrupt::Unreadable(_) => false,
            }
    }

    /// What its annotation says: `true`, or how long from its start it must stay.
    pub fn do_not_disrupt(&self) -> DoNotDisrupt<'_> {
        let annotations = self.pod.metadata.annotations.as_ref();
        let Some(value) = annotations.and_then(|all| all.get(karpenter_api::labels::DO_NOT_DISRUPT)) else {
            return DoNotDisrupt::No;
        };
        if value == "true" {
            return DoNotDisrupt::Always;
        }
        let Some(grace) = karpenter_api::duration::parse(value).filter(jiff::SignedDuration::is_positive) else {
            return DoNotDisrupt::Unreadable(value);
        };
        // One that has not started yet has all of it before it.
        let started = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let until = started.and_then(|started| started.0.checked_add(grace).ok());
        until.map_or(DoNotDisrupt::Always, DoNotDisrupt::Until)
    }

    /// Waits for a node: kube-scheduler found no place and no controller pins it to one.
    pub fn is_provisionable(&self) -> bool {
        self.provisionable
    }

    /// Owned by an object of exactly this apiVersion and kind, whoever the controller is.
    pub fn is_owned_by(&self, api_version: &str, kind: &str) -> bool {
        is_owned_by(&self.pod.metadata, api_version, kind)
    }

    /// UID of its controller.
    pub fn controller(&self) -> Option<&str> {
        let owner = self.pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        Some(owner.uid.as_str())
    }

    pub fn is_daemon(&self) -> bool {
        self.is_owned_by("apps/v1", "DaemonSet")
    }

    /// A static pod: the kubelet runs it, only its mirror is in the API.
    pub fn is_node_owned(&self) -> bool {
        self.is_owned_by("v1", "Node")
    }
}

fn is_owned_by(meta: &ObjectMeta, api_version: &str, kind: &str) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.api_version == api_version && owner.kind == kind)
}

/// Karpenter's test: some PodScheduled condition has the reason Unschedulable (whatever its
/// status says), nothing is bound or nominated, and neither a DaemonSet nor a Node owns it.
fn is_provisionable(pod: &Pod) -> bool {
    let unschedulable = pod.status.as_ref().is_some_and(|status| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"))
    });
    let set = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
    unschedulable
        && !set(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()))
        && !set(pod.status.as_ref().and_then(|status| status.nominated_node_name.as_ref()))
        && !is_owned_by(&pod.metadata, "apps/v1", "DaemonSet")
        && !is_owned_by(&pod.metadata, "v1", "Node")
}

/// What the scheduler books (KEP-753): the larger of what runs at once after start and of every
/// step on the way there, plus the pod's overhead.
fn requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let status = pod.status.as_ref();
    let main = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let mut total = spec_requests(spec, main, init);
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_quantities(overhead));
    }
    total.set(PODS, 1);
    total
}

/// As [`requests`], for a DaemonSet's template: nothing runs yet, and what the API server will
/// default (a request missing beside a limit is the limit) is not filled in.
pub(crate) fn template_requests(spec: &PodSpec) -> Resources {
    let mut spec = spec.clone();
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for resources in containers.filter_map(|c| c.resources.as_mut()) {
        let mut requests = resources.limits.clone().unwrap_or_default();
        requests.extend(resources.requests.take().unwrap_or_default());
        resources.requests = Some(requests);
    }
    let mut total = spec_requests(&spec, &[], &[]);
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_quantities(overhead));
    }
    total.set(PODS, 1);
    total
}

fn spec_requests(spec: &PodSpec, main: &[ContainerStatus], init: &[ContainerStatus]) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&container_requests(container, main));
    }
    // Sidecars (init containers that restart always) start in order and stay.
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut step = container_requests(container, init);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&step);
            peak.max(&sidecars);
        } else {
            step.add(&sidecars);
            peak.max(&step);
        }
    }
    running.add(&sidecars);
    running.max(&peak);
    // Requests of the pod as a whole (KEP-2837) replace the sum, per resource.
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        for (name, amount) in Resources::from_quantities(whole).0 {
            running.set(name, amount);
        }
    }
    running
}

/// In-place resize: until kubelet has acted, the node books the larger of wanted and given.
fn container_requests(container: &Container, statuses: &[ContainerStatus]) -> Resources {
    let mut wanted = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref())
        .map(Resources::from_quantities)
        .unwrap_or_default();
    if let Some(status) = statuses.iter().find(|s| s.name == container.name) {
        let actual = status.resources.as_ref().and_then(|r| r.requests.as_ref());
        for given in [actual, status.allocated_resources.as_ref()].into_iter().flatten() {
            wanted.max(&Resources::from_quantities(given));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn state(spec: Value, status: Value) -> PodState {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default"}, "spec": spec, "status": status,
        }));
        PodState::new(pod.unwrap(), &mut Digests::default()).unwrap()
    }

    fn amounts(state: &PodState) -> Vec<(&str, i64)> {
        state.requests().0.iter().map(|(name, amount)| (name.as_str(), *amount)).collect()
    }

    #[test]
    fn a_pod_books_the_larger_of_running_and_starting() {
        let pod = state(
            json!({
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                    {"name": "init", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
                ],
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}}}],
            }),
            json!({}),
        );
        assert_eq!(amounts(&pod), [("cpu", 2100), ("memory", 2 << 30), ("pods", 1)]);
    }

    #[test]
    fn host_ports_are_those_of_containers_and_sidecars() {
        let port = |number: u16| json!([{"containerPort": number, "hostPort": number}]);
        let pod = state(
            json!({
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "ports": port(1)}, {"name": "init", "ports": port(2)},
                ],
                "containers": [{"name": "a", "ports": port(3)}],
            }),
            json!({}),
        );
        assert_eq!(pod.digest.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_resized_container_books_what_it_still_has() {
        let pod = state(
            json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}),
            json!({"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "3"},
            }]}),
        );
        assert_eq!(amounts(&pod), [("cpu", 3000), ("pods", 1)]);
    }

    #[test]
    fn requests_of_the_whole_pod_and_its_overhead_count() {
        let pod = state(
            json!({
                "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "250m"},
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            }),
            json!({}),
        );
        assert_eq!(amounts(&pod), [("cpu", 2250), ("memory", 1 << 30), ("pods", 1)]);
    }

    #[test]
    fn only_a_pod_the_scheduler_gave_up_on_waits_for_a_node() {
        let waiting = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
        assert!(state(json!({"containers": []}), waiting.clone()).is_provisionable());
        assert!(!state(json!({"containers": []}), json!({})).is_provisionable());
        assert!(!state(json!({"containers": [], "nodeName": "n"}), waiting).is_provisionable());
    }
}
