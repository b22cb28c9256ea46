//! What of a pod the judge asks about.

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint};

use crate::amounts;
use crate::labels::{self, Labels};

/// `namespace/name`
pub(crate) fn key(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), pod.metadata.name.as_deref().unwrap_or_default())
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn labels(pod: &Pod) -> &Labels {
    static NONE: Labels = Labels::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

pub(crate) fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

pub(crate) fn is_owned_by(pod: &Pod, api_version: &str, kind: &str) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.api_version == api_version && owner.kind == kind)
}

pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(crate) fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// kube-scheduler found no place for it, and nobody else will.
pub(crate) fn waits(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let gave_up = |c: &k8s_openapi::api::core::v1::PodCondition| {
        c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable")
    };
    conditions.iter().any(gave_up)
        && node_of(pod).is_none()
        && status.and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default().is_empty()
        && !is_ending(pod)
        && !is_owned_by(pod, "apps/v1", "DaemonSet")
        && !is_owned_by(pod, "v1", "Node")
}

/// Host ports of what runs for good, sidecars included.
pub(crate) fn ports(spec: &PodSpec) -> Vec<Port> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| EVERY.to_owned());
        Some(Port { number: port.host_port.filter(|number| *number > 0)?, protocol, ip })
    });
    taken.collect()
}

const EVERY: &str = "0.0.0.0";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    number: i32,
    protocol: String,
    ip: String,
}

impl Port {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.number == other.number
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == EVERY || other.ip == EVERY)
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.ip, self.number, self.protocol)
    }
}

/// Spreads that forbid.
pub(crate) fn spreads(pod: &Pod) -> Vec<&TopologySpreadConstraint> {
    let all = pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    all.filter(|spread| spread.when_unsatisfiable == "DoNotSchedule").collect()
}

/// Required terms.
pub(crate) fn affinity(pod: &Pod) -> Vec<&PodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    affinity.into_iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten()).collect()
}

/// As [`affinity`].
pub(crate) fn anti_affinity(pod: &Pod) -> Vec<&PodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    affinity.into_iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten()).collect()
}

/// Whether something in its spec is such that nobody can be asked to understand it, or that is known to be out of
/// reach: the scheduler may say so instead of placing the pod.
pub(crate) fn is_odd(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let node = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let required_says_nothing = required.is_some_and(|required| required.node_selector_terms.is_empty());
    let required: Vec<_> = required.into_iter().flat_map(|all| &all.node_selector_terms).collect();
    let preferred = node.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred = preferred.into_iter().flatten().map(|one| &one.preference);
    let expressions =
        required.iter().copied().chain(preferred).flat_map(|term| term.match_expressions.iter().flatten());
    let by_labels = |term: &&PodAffinityTerm| {
        let selector = term.namespace_selector.as_ref();
        selector
            .is_some_and(|s| s.match_labels.iter().flatten().count() + s.match_expressions.iter().flatten().count() > 0)
    };
    let resources = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref());
    let resources = resources.chain([spec.resources.as_ref()]).flatten().filter_map(|r| r.requests.as_ref());
    let mut amounts = resources.chain(spec.overhead.as_ref()).flatten();
    amounts.any(|(_, amount)| !amounts::is_short(&amount.0))
        || required_says_nothing
        || expressions.into_iter().any(|expression| !labels::is_well_formed(expression))
        || required.iter().any(|term| term.match_fields.iter().flatten().next().is_some())
        || required.iter().any(|term| term.match_expressions.iter().flatten().next().is_none())
        || affinity(pod).iter().chain(&anti_affinity(pod)).any(by_labels)
        || spec.resource_claims.iter().flatten().next().is_some()
}

/// Of pods that cannot all have a place, those with the highest come first.
pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}
