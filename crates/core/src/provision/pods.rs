//! Which pods a round is for, and what their specs ask of a node.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::requirements::{Requirement, Requirements};
use crate::world::PodState;
use crate::{Timestamp, World};

/// A nomination that came to nothing within this time is forgotten: the pod is planned anew.
const NOMINATED_FOR: SignedDuration = SignedDuration::from_secs(20);

/// Pods that wait for a node and are not expected on one, largest first.
pub(super) fn pending(world: &World, now: Timestamp) -> Vec<&PodState> {
    let mut all: Vec<&PodState> = world
        .pods
        .values()
        .filter(|pod| pod.is_provisionable() && !pod.is_terminating() && !is_expected(world, pod, now))
        .collect();
    all.sort_by(|a, b| {
        let amount = |pod: &PodState, name: &str| pod.requests.get(name);
        let created = |pod: &PodState| pod.pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        amount(b, "cpu")
            .cmp(&amount(a, "cpu"))
            .then_with(|| amount(b, "memory").cmp(&amount(a, "memory")))
            .then_with(|| created(a).cmp(&created(b)))
            .then_with(|| a.uid().cmp(b.uid()))
    });
    all
}

/// On a claim whose node is still to come, or on a node that the scheduler has not looked at yet.
fn is_expected(world: &World, pod: &PodState, now: Timestamp) -> bool {
    let Some(nomination) = world.nominated.get(&pod.key) else {
        return false;
    };
    let fresh = nomination.at.checked_add(NOMINATED_FOR).is_ok_and(|until| until > now);
    match world.claims.get(&nomination.target) {
        Some(claim) if claim.is_deleting() => false,
        Some(claim) => {
            let node = claim.provider_id().and_then(|id| world.nodes_by_provider_id.get(id)?.first());
            let usable =
                node.and_then(|name| world.nodes.get(name)).is_some_and(crate::world::NodeState::is_initialized);
            !usable || fresh
        }
        // Its creation is under way, or it is a node.
        None => fresh,
    }
}

/// One way to read a pod's node constraints; preferences first, bare needs last.
pub(super) struct Reading {
    pub(super) requirements: Requirements,
    /// How many of the pod's `ScheduleAnyway` spreads are still in force.
    pub(super) soft_spreads: usize,
}

/// The readings in the order in which they are tried. Errors name the field.
pub(super) fn readings(spec: &PodSpec, soft_spreads: usize, respect: bool) -> Result<Vec<Reading>, String> {
    let mut base = Requirements::default();
    for (key, value) in spec.node_selector.iter().flatten() {
        base.add(karpenter_api::labels::normalized(key), Requirement::one_of([value.clone()]));
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let mut terms = Vec::new();
    for term in required.iter().flat_map(|selector| &selector.node_selector_terms) {
        let mut requirements = base.clone();
        requirements.add_all(&self::term(term)?);
        terms.push(requirements);
    }
    if terms.is_empty() {
        terms.push(base);
    }
    let mut preferred: Vec<(i32, Requirements)> = Vec::new();
    if respect {
        for one in affinity.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten())
        {
            preferred.push((one.weight, term(&one.preference)?));
        }
        preferred.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    }
    let soft = if respect { soft_spreads } else { 0 };
    let mut all = Vec::new();
    // The heaviest preference is dropped first, then spreads that are only wished for.
    let with = |term: &Requirements, preference: Option<&Requirements>, soft_spreads: usize| {
        let mut requirements = term.clone();
        if let Some(preference) = preference {
            requirements.add_all(preference);
        }
        Reading { requirements, soft_spreads }
    };
    for (_, preference) in &preferred {
        all.extend(terms.iter().map(|term| with(term, Some(preference), soft)));
    }
    for soft_spreads in (0..=soft).rev() {
        all.extend(terms.iter().map(|term| with(term, None, soft_spreads)));
    }
    Ok(all)
}

fn term(term: &NodeSelectorTerm) -> Result<Requirements, String> {
    let mut all = Requirements::default();
    for expression in term.match_expressions.iter().flatten() {
        all.add(karpenter_api::labels::normalized(&expression.key), requirement(expression)?);
    }
    Ok(all)
}

fn requirement(expression: &NodeSelectorRequirement) -> Result<Requirement, String> {
    let values = expression.values.clone().unwrap_or_default();
    let bound = |make: fn(i64) -> Requirement| {
        let parsed = values.first().filter(|_| values.len() == 1).and_then(|value| value.parse::<i64>().ok());
        parsed.map(make).ok_or_else(|| {
            format!(
                "nodeAffinity {:?} {}: found {values:?}, expected exactly one integer",
                expression.key, expression.operator
            )
        })
    };
    Ok(match expression.operator.as_str() {
        "In" => Requirement::one_of(values),
        "NotIn" => Requirement::none_of(values),
        "Exists" => Requirement::exists(),
        "DoesNotExist" => Requirement::does_not_exist(),
        "Gt" => bound(Requirement::greater_than)?,
        "Lt" => bound(Requirement::less_than)?,
        other => {
            let key = &expression.key;
            return Err(format!(
                "nodeAffinity {key:?}: found operator {other:?}, expected In, NotIn, Exists, DoesNotExist, Gt or Lt"
            ));
        }
    })
}
