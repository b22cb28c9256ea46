//! Which pods a round is for, and what their specs ask of a node.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm};

use crate::requirements::{Requirement, Requirements};
use crate::resources;
use crate::world::{ClaimState, Digest, NodeState, PodState};
use crate::{Timestamp, World};

/// A nomination that came to nothing within this time is forgotten: the pod is planned anew.
const NOMINATED_FOR: SignedDuration = SignedDuration::from_secs(20);

/// Pods that wait for a node, or have to leave theirs, and are not expected on one: the most important first, then the
/// largest.
pub(super) fn pending(world: &World, now: Timestamp) -> Vec<&PodState> {
    let waits = |pod: &PodState| pod.is_provisionable() && !pod.is_terminating();
    let mut all: Vec<&PodState> =
        world.pods.values().map(Arc::as_ref).filter(|pod| waits(pod)).chain(leaving(world, now)).collect();
    all.retain(|pod| !is_expected(world, pod, now));
    all.sort_by_cached_key(|pod| {
        let amount = |name: &str| Reverse(pod.requests().get(name));
        let created = pod.pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (Reverse(pod.priority()), amount(resources::CPU), amount(resources::MEMORY), created, pod.uid())
    });
    all
}

/// Pods of nodes that are being deleted, as far as they can leave.
fn leaving(world: &World, now: Timestamp) -> impl Iterator<Item = &PodState> {
    let ending = world.nodes.values().filter(|node| world.is_ending(node));
    let pods = ending.flat_map(|node| world.pods_on(node.name()));
    pods.filter(move |pod| world.is_leaving(pod) && world.may_leave(pod, now))
}

/// On a claim whose node is still to come or to start, or on a node that the scheduler has not looked at yet. A pod that
/// is still bound is expected for as long as there is room: the scheduler looks at its replacement first.
fn is_expected(world: &World, pod: &PodState, now: Timestamp) -> bool {
    let Some(nomination) = world.nominated.get(&pod.key) else {
        return false;
    };
    let fresh = || nomination.at.checked_add(NOMINATED_FOR).is_ok_and(|until| until > now);
    let holds = || fresh() || pod.node_name().is_some();
    // Either name may have been given to it.
    let node_of = |id: &str| world.nodes.get(world.nodes_by_provider_id.get(id)?.first()?);
    let named = world.claims.get(&nomination.target);
    let node = match named {
        Some(claim) => claim.provider_id().and_then(node_of),
        None => world.nodes.get(&nomination.target),
    };
    let claim = named.or_else(|| world.claim_of(node?));
    if claim.is_some_and(ClaimState::is_deleting) || node.is_some_and(|node| world.is_ending(node)) {
        return false;
    }
    match node {
        Some(node) if claim.is_none() || node.is_initialized() => holds() && has_room(world, node, pod),
        _ => claim.is_some(),
    }
}

/// Whether what is bound to a node leaves room for a pod: others may have taken its place.
fn has_room(world: &World, node: &NodeState, pod: &PodState) -> bool {
    let mut left = node.allocatable.clone();
    for other in world.pods_on(node.name()) {
        left.subtract(other.requests());
    }
    pod.requests().fits(&left)
}

/// One way to read a pod's constraints: the needs, and the preferences that are still in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) requirements: Requirements,
    /// How many of the pod's `ScheduleAnyway` spreads are in force, from the last one back.
    pub(super) soft_spreads: usize,
    /// Preferred affinity and anti-affinity terms in force, by position in the list by weight.
    pub(super) soft_affinities: usize,
    pub(super) soft_anti_affinities: usize,
    /// `PreferNoSchedule` taints no longer keep it away.
    pub(super) tolerates_all_preferences: bool,
}

/// The name of a node, which `matchFields` ask for, as if it were a label; no label's key has a colon. Nodes to
/// come lack it: nobody knows their names.
pub(super) const NODE_NAME: &str = "field:metadata.name";

/// Readings of one pod; beyond that, preferences are dropped several at a time.
const READINGS_MAX: usize = 64;

/// What a node's labels must be whatever is preferred: one of these. Errors name the field.
pub(super) fn needs(
    selector: &BTreeMap<String, String>,
    affinity: Option<&NodeAffinity>,
) -> Result<Vec<Requirements>, String> {
    let mut base = Requirements::default();
    for (key, value) in selector {
        base.add(karpenter_api::labels::normalized(key), Requirement::one_of([value.clone()]));
    }
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return Ok(vec![base]) };
    let mut all = Vec::new();
    for term in &required.node_selector_terms {
        let mut requirements = base.clone();
        requirements.add_all(&self::term(term)?);
        // A term without expressions matches no node (Kubernetes API, NodeSelectorTerm).
        let expressions = term.match_expressions.iter().chain(&term.match_fields);
        if expressions.flatten().next().is_some() {
            all.push(requirements);
        }
    }
    if all.is_empty() {
        return Err("nodeAffinity: found only empty nodeSelectorTerms, expected at least one expression".to_owned());
    }
    Ok(all)
}

/// The readings of a pod in the order in which they are tried. Preferences fall as in Karpenter: pod
/// affinity, pod anti-affinity, node affinity, each from the heaviest, then spreads that are only
/// wished for, then `PreferNoSchedule`. At every step each of the required node terms will do.
pub(super) fn readings(of: &Digest, respect: bool) -> Result<Vec<Reading>, String> {
    let affinity = of.affinity.as_ref();
    let node = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = needs(&of.node_selector, node)?;
    let mut preferred: Vec<(i32, Requirements)> = Vec::new();
    let (mut together, mut apart, mut soft) = (0, 0, 0);
    if respect {
        for one in node.iter().flat_map(|n| n.preferred_during_scheduling_ignored_during_execution.iter().flatten()) {
            preferred.push((one.weight, term(&one.preference)?));
        }
        preferred.sort_by_key(|(weight, _)| Reverse(*weight));
        together = super::problem::preferred_affinity(of).len();
        apart = super::problem::preferred_anti_affinity(of).len();
        soft = of.spreads.iter().filter(|spread| spread.when_unsatisfiable != "DoNotSchedule").count();
    }
    let mut steps = Vec::new();
    let step = |preference: Option<usize>, spreads, affinities, anti, tolerant| {
        (preference, spreads, affinities, anti, tolerant)
    };
    let first = (!preferred.is_empty()).then_some(0);
    for affinities in (1..=together).rev() {
        steps.push(step(first, soft, affinities, apart, false));
    }
    for anti in (1..=apart).rev() {
        steps.push(step(first, soft, 0, anti, false));
    }
    for preference in 0..preferred.len() {
        steps.push(step(Some(preference), soft, 0, 0, false));
    }
    for spreads in (0..=soft).rev() {
        steps.push(step(None, spreads, 0, 0, false));
    }
    steps.push(step(None, 0, 0, 0, true));
    let skip = (steps.len() * terms.len()).div_ceil(READINGS_MAX).max(1);
    let last = steps.len() - 1;
    let kept = steps.into_iter().enumerate().filter(|(at, _)| at % skip == 0 || at + 2 > last);
    let mut all = Vec::new();
    for (_, (preference, soft_spreads, soft_affinities, soft_anti_affinities, tolerates_all_preferences)) in kept {
        for term in &terms {
            let mut requirements = term.clone();
            if let Some((_, wanted)) = preference.and_then(|at| preferred.get(at)) {
                requirements.add_all(wanted);
            }
            all.push(Reading {
                requirements,
                soft_spreads,
                soft_affinities,
                soft_anti_affinities,
                tolerates_all_preferences,
            });
        }
    }
    Ok(all)
}

/// What a term asks of each key.
pub(super) fn term(term: &NodeSelectorTerm) -> Result<Requirements, String> {
    let mut all = Requirements::default();
    for expression in term.match_expressions.iter().flatten() {
        all.add(karpenter_api::labels::normalized(&expression.key), requirement(expression)?);
    }
    for field in term.match_fields.iter().flatten() {
        if field.key != "metadata.name" {
            return Err(format!("nodeAffinity matchFields: found {:?}, expected metadata.name", field.key));
        }
        all.add(NODE_NAME, requirement(field)?);
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
    let key = &expression.key;
    match expression.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            return Err(format!("nodeAffinity {key:?} {}: found no values, expected some", expression.operator));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            return Err(format!("nodeAffinity {key:?} {}: found {values:?}, expected no values", expression.operator));
        }
        _ => {}
    }
    Ok(match expression.operator.as_str() {
        "In" => Requirement::one_of(values),
        "NotIn" => Requirement::none_of(values),
        "Exists" => Requirement::exists(),
        "DoesNotExist" => Requirement::does_not_exist(),
        "Gt" => bound(Requirement::greater_than)?,
        "Lt" => bound(Requirement::less_than)?,
        other => {
            return Err(format!(
                "nodeAffinity {key:?}: found operator {other:?}, expected In, NotIn, Exists, DoesNotExist, Gt or Lt"
            ));
        }
    })
}
