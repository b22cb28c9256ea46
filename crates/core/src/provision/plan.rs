//! The solver's answer as actions: claims with every detail fixed, assumptions, facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use karpenter_api::{NodeClaim, NodeClaimSpec, Operator, RequirementSpec, ResourceRequests, hash, labels as keys};
use karpenter_solver::{Claim, Layout, Place, Solution};
use rustc_hash::FxHashMap;

use super::Round;
use super::explain;
use super::launches;
use super::problem::{Barren, Interned, pool_requirements};
use super::verdict::Verdict;
use crate::action::KubeWrite;
use crate::fact::About;
use crate::resources;
use crate::world::PodState;
use crate::{Cloud, Decision, Fact, Observation, Timestamp, World};

pub(super) fn act<C: Cloud>(
    world: &World,
    cloud: &C,
    interned: &Interned<'_>,
    solution: &Solution,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) {
    let mut round = Round { at: now, version: Some(cloud.version()), ..Round::default() };
    let names = names(world, interned, solution, now);
    let mut labels = FxHashMap::default();
    let mut bodies: Vec<NodeClaim> = Vec::with_capacity(names.len());
    for (claim, name) in solution.claims.iter().zip(&names) {
        let labels = labels.entry((claim.pool, &claim.row)).or_insert_with(|| label_requirements(interned, claim));
        bodies.push(node_claim(interned, claim, name, labels.clone()));
    }
    let held_back = launches::on_trial(world, cloud, &bodies);
    launches::form(&mut bodies, now);
    for (((claim, name), body), held_back) in solution.claims.iter().zip(&names).zip(bodies).zip(&held_back) {
        if held_back.is_some() {
            continue;
        }
        let body = Arc::new(body);
        let (key, write) = KubeWrite::create(&body);
        decision.kube(world, now, key, write);
        round.created.push(body);
        decision.facts.push(Fact::ClaimPlanned {
            claim: name.clone(),
            pool: interned.pools[claim.pool].0.metadata.name.clone().unwrap_or_default(),
            pods: claim.pods.len(),
            cheapest: Some(claim.price),
            instance_types: claim.types.len(),
        });
    }
    launches::prepare(world, cloud, &round.created, now, decision);
    let explained = explain::verdicts(interned, solution);
    // Facts come in the order in which the pods can be bound.
    let nowhere = (0..solution.places.len()).filter(|at| solution.places[*at] == Place::Nowhere);
    for at in solution.order.iter().copied().chain(nowhere) {
        let pod = interned.pods[at];
        let (node, claim) = match &solution.places[at] {
            Place::Node(node) => {
                let name = interned.nodes[*node].clone();
                round.nominated.insert(pod.key.clone(), name.clone());
                if world.nodes.contains_key(&name) { (Some(name), None) } else { (None, Some(name)) }
            }
            Place::Claim(claim) if held_back[*claim].is_some() => {
                let verdict = Verdict::Trial(held_back[*claim].clone().unwrap_or_default());
                unplaced(pod, verdict, &mut round, decision);
                continue;
            }
            Place::Claim(claim) => {
                round.claims.entry(names[*claim].clone()).or_default().push(pod.key.clone());
                (None, Some(names[*claim].clone()))
            }
            Place::Nowhere => {
                let verdict = explained.get(&interned.problem.pods[at]).cloned().unwrap_or(Verdict::NoPools);
                unplaced(pod, verdict, &mut round, decision);
                continue;
            }
        };
        decision.facts.push(Fact::PodNominated { pod: about(pod), node, claim });
    }
    for (key, problem) in &interned.invalid {
        if let Some(pod) = world.pods.get(key) {
            unplaced(pod, Verdict::Invalid(problem.clone()), &mut round, decision);
        }
    }
    for Barren { pool, problem, .. } in interned.barren.iter().filter(|barren| barren.excludes_all) {
        let meta = &pool.metadata;
        let about = About {
            kind: "NodePool",
            namespace: String::new(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        decision.facts.push(Fact::PoolWithoutInstanceTypes { pool: about, message: problem.clone() });
    }
    if !interned.pods.is_empty() {
        decision.facts.push(Fact::RoundSolved {
            pods: interned.pods.len(),
            claims: held_back.iter().filter(|held_back| held_back.is_none()).count(),
            unschedulable: round.unschedulable.len(),
            instance_types: interned.types.len(),
        });
    }
    decision.learned.push(Observation::Planned(Box::new(round)));
}

fn unplaced<C>(pod: &PodState, verdict: Verdict, round: &mut Round, decision: &mut Decision<C>) {
    decision.facts.push(Fact::PodUnschedulable { pod: about(pod), verdict: verdict.clone() });
    round.unschedulable.insert(pod.key.clone(), verdict);
}

fn about(pod: &PodState) -> About {
    About { kind: "Pod", namespace: pod.key.namespace.clone(), name: pod.key.name.clone(), uid: pod.uid().to_owned() }
}

/// A name for every claim, new to the World and to this round.
fn names(world: &World, interned: &Interned<'_>, solution: &Solution, now: Timestamp) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut all = Vec::with_capacity(solution.claims.len());
    for claim in &solution.claims {
        let names = (0..u32::MAX).map(|attempt| name(interned, claim, now, attempt));
        let is_free = |name: &String| !taken.contains(name) && !world.claims.contains_key(name);
        let name = names.into_iter().find(is_free).unwrap_or_default();
        taken.insert(name.clone());
        all.push(name);
    }
    all
}

/// `<pool>-<5 characters>`: the same round over the same pods gives the same names.
fn name(interned: &Interned<'_>, claim: &Claim, now: Timestamp, attempt: u32) -> String {
    // No vowels and no digits that look like letters, as Kubernetes' generated names.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let pool = interned.pools[claim.pool].0;
    let first = claim.pods.first().map(|pod| interned.pods[*pod].uid()).unwrap_or_default();
    let uid = pool.metadata.uid.as_deref().unwrap_or_default();
    let seed = format!("{uid}/{first}/{}/{attempt}", now.as_microsecond());
    let mut hash = super::hash(&seed);
    let mut suffix = String::new();
    for _ in 0..5 {
        let index = usize::try_from(hash % 27).unwrap_or_default();
        suffix.push(char::from(ALPHABET[index]));
        hash /= 27;
    }
    format!("{}-{suffix}", pool.metadata.name.as_deref().unwrap_or_default())
}

fn node_claim(interned: &Interned<'_>, claim: &Claim, name: &str, labels_asked: Vec<RequirementSpec>) -> NodeClaim {
    let pool = interned.pools[claim.pool].0;
    let template = &pool.spec.template;
    let pool_name = pool.metadata.name.clone().unwrap_or_default();
    let class = template.spec.node_class_ref.clone();
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(keys::NODEPOOL.to_owned(), pool_name.clone());
    labels.insert(keys::EC2_NODE_CLASS.to_owned(), class.name.clone());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(keys::NODEPOOL_HASH.to_owned(), hash::nodepool_hash(pool));
    annotations.insert(keys::NODEPOOL_HASH_VERSION.to_owned(), hash::NODEPOOL_HASH_VERSION.to_owned());
    if interned.problem.relax_min_values && !claim.min_values.is_empty() {
        annotations.insert(keys::MIN_VALUES_RELAXED.to_owned(), claim.min_values_relaxed.to_string());
    }
    let requirements = requirements(interned, claim, labels_asked);
    for (key, value) in own_labels(interned, claim) {
        labels.entry(key).or_insert(value);
    }
    let mut object = NodeClaim::new(
        name,
        NodeClaimSpec {
            taints: template.spec.taints.clone(),
            startup_taints: template.spec.startup_taints.clone(),
            requirements,
            resources: Some(ResourceRequests { requests: Some(requests(interned, claim)) }),
            node_class_ref: class,
            termination_grace_period: template.spec.termination_grace_period.clone(),
            expire_after: template.spec.expire_after.clone(),
        },
    );
    object.metadata.labels = Some(labels);
    object.metadata.annotations = Some(annotations);
    object.metadata.finalizers = Some(vec![keys::TERMINATION_FINALIZER.to_owned()]);
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "karpenter.sh/v1".to_owned(),
        kind: "NodePool".to_owned(),
        name: pool_name,
        uid: pool.metadata.uid.clone().unwrap_or_default(),
        block_owner_deletion: Some(true),
        controller: None,
    }]);
    object
}

/// A value for every label that the node must have and that nothing but the claim gives it: one that nobody speaks of
/// if that will do, so that no pod takes the node for what it is not.
fn own_labels(interned: &Interned<'_>, claim: &Claim) -> Vec<(String, String)> {
    let (words, layout) = (&interned.words, &interned.problem.layout);
    let of_claim = |(_, key): &(usize, &String)| !keys::is_well_known(key) && keys::restriction(key).is_none();
    let value = |(at, key): (usize, &String)| {
        let has = |bit| layout.has(&claim.row, at, bit);
        if has(Layout::ABSENT) {
            return None;
        }
        let values = &words.values[at];
        let value = if has(Layout::OTHER) {
            (1..=values.len() + 1).map(|number| number.to_string()).find(|number| !values.contains(number))
        } else {
            values.iter().enumerate().find(|(bit, _)| has(bit + Layout::FIRST)).map(|(_, value)| value.clone())
        };
        Some((key.clone(), value?))
    };
    words.keys.iter().enumerate().filter(of_claim).filter_map(value).collect()
}

/// Pods and the least that daemons take of any type on the list.
fn requests(interned: &Interned<'_>, claim: &Claim) -> BTreeMap<String, karpenter_api::Quantity> {
    let pool = &interned.problem.pools[claim.pool];
    let of = |kind: &usize| Some(pool.types[pool.types.binary_search_by_key(kind, |(known, _)| *known).ok()?].1);
    let overheads: BTreeSet<usize> = claim.types.iter().filter_map(of).collect();
    let overhead = |resource: usize| overheads.iter().map(|at| pool.overheads[*at][resource]).min().unwrap_or(0);
    let names = interned.words.resources.iter().enumerate();
    names
        .map(|(at, name)| (name, claim.requests[at] + overhead(at)))
        .filter(|(name, amount)| *amount > 0 && !interned.contested.contains_key(*name))
        .map(|(name, amount)| (name.clone(), resources::quantity(name, amount)))
        .collect()
}

/// The pool's requirements as its manifest has them, then what pods and spreads narrowed; types and capacity types
/// come later.
fn label_requirements(interned: &Interned<'_>, claim: &Claim) -> Vec<RequirementSpec> {
    let (words, layout) = (&interned.words, &interned.problem.layout);
    let pool = interned.pools[claim.pool].0;
    let pool_row = words.pool_row(layout, &pool_requirements(pool));
    let mut all = pool.spec.template.spec.requirements.clone();
    for (at, key) in words.keys.iter().enumerate() {
        if key == keys::INSTANCE_TYPE || key == keys::CAPACITY_TYPE {
            continue;
        }
        let allowed = |row| {
            (0..words.values[at].len() + Layout::FIRST).filter(|bit| layout.has(row, at, *bit)).collect::<BTreeSet<_>>()
        };
        let (left, before) = (allowed(&claim.row), allowed(&pool_row));
        if left == before {
            continue;
        }
        let values = |bits: &mut dyn Iterator<Item = usize>| {
            bits.filter(|bit| *bit >= Layout::FIRST)
                .map(|bit| words.values[at][bit - Layout::FIRST].clone())
                .collect::<Vec<_>>()
        };
        let spec = |operator: Operator, values: Vec<String>| RequirementSpec {
            key: key.clone(),
            operator,
            values: (!values.is_empty()).then_some(values),
            min_values: None,
        };
        let listed = values(&mut left.iter().copied());
        if !left.contains(&Layout::OTHER) {
            if listed.is_empty() {
                all.push(spec(Operator::DoesNotExist, Vec::new()));
            } else {
                all.retain(|known| known.key != *key || known.min_values.is_some());
                all.push(spec(Operator::In, listed));
            }
            continue;
        }
        let gone = values(&mut before.difference(&left).copied());
        if !gone.is_empty() {
            all.push(spec(Operator::NotIn, gone));
        }
        if before.contains(&Layout::ABSENT) && !left.contains(&Layout::ABSENT) {
            all.push(spec(Operator::Exists, Vec::new()));
        }
    }
    all
}

/// With the instance types, and `minValues` as far as they hold for this claim.
fn requirements(interned: &Interned<'_>, claim: &Claim, mut all: Vec<RequirementSpec>) -> Vec<RequirementSpec> {
    let words = &interned.words;
    let wanted = |key: &str| {
        let at = words.key(keys::normalized(key))?;
        claim.min_values.iter().filter(|(known, _)| *known == at).map(|(_, count)| *count).max()
    };
    for spec in &mut all {
        // Under BestEffort they hold as far as they could be reached.
        let reached = wanted(&spec.key).and_then(|count| i64::try_from(count).ok()).unwrap_or(0);
        spec.min_values = spec.min_values.map(|own| own.min(reached)).filter(|count| *count > 0);
    }
    let min_values = |key: &str| all.iter().filter(|r| r.key == key).filter_map(|r| r.min_values).max();
    let types = claim.types.iter().map(|kind| interned.types[*kind].name.clone()).collect();
    let instance_types = RequirementSpec {
        key: keys::INSTANCE_TYPE.to_owned(),
        operator: Operator::In,
        values: Some(types),
        min_values: min_values(keys::INSTANCE_TYPE),
    };
    let capacity_types = RequirementSpec {
        key: keys::CAPACITY_TYPE.to_owned(),
        operator: Operator::In,
        values: Some(capacity_types(interned, claim)),
        min_values: min_values(keys::CAPACITY_TYPE),
    };
    all.retain(|known| known.key != keys::INSTANCE_TYPE && known.key != keys::CAPACITY_TYPE);
    all.extend([capacity_types, instance_types]);
    all
}

/// The capacity types that can be had now.
fn capacity_types(interned: &Interned<'_>, claim: &Claim) -> Vec<String> {
    let layout = &interned.problem.layout;
    let Some(key) = interned.words.key(keys::CAPACITY_TYPE) else {
        return Vec::new();
    };
    let offerings = claim.types.iter().flat_map(|kind| &interned.problem.types[*kind].offerings);
    let held = offerings.filter(|offering| offering.reservation == claim.reservation);
    let open = held.filter(|o| o.labels.iter().all(|(key, bit)| layout.has(&claim.row, *key, *bit)));
    let bits: BTreeSet<usize> =
        open.flat_map(|o| &o.labels).filter(|(of, _)| *of == key).map(|(_, bit)| *bit).collect();
    bits.into_iter().map(|bit| interned.words.values[key][bit - Layout::FIRST].clone()).collect()
}
