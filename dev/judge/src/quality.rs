//! A pod that waits although an obvious place is there: pods alone, without rules between them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Taint};
use karpenter_api::{NodePool, Operator, labels as keys};
use karpenter_core::settings::MinValuesPolicy;

use crate::amounts::{self, Amounts};
use crate::labels::{self, Labels};
use crate::pods::Port;
use crate::spots::{self, Shape, Spot};
use crate::{Cluster, Fault, Kind, Plan, Target, between, claims, pods};

/// `left`: all spots with what the plan leaves of them.
pub(crate) fn judge(cluster: &Cluster, plan: &Plan, left: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, verdict) in &plan.verdicts {
        let Some(pod) = cluster.pod(key).filter(|pod| !pods::is_odd(pod)) else { continue };
        let (key, verdict) = (key.clone(), verdict.clone());
        if verdict.starts_with("the pod cannot be read") {
            faults.push(Fault::Unread { pod: key, verdict });
        } else if is_alone(cluster, pod) {
            if let Some(place) = place_for(cluster, plan, left, pod) {
                faults.push(Fault::Neglected { pod: key, verdict, place });
            } else if let Some(node) = taken_by_less_important(cluster, plan, left, pod) {
                faults.push(Fault::Outranked { pod: key, verdict, node });
            }
        }
    }
    faults
}

/// A spot with room for the pod if the pods of this round that are less important were not there.
fn taken_by_less_important(cluster: &Cluster, plan: &Plan, left: &[Spot], pod: &Pod) -> Option<String> {
    left.iter().find_map(|spot| {
        let mut without = spot.clone();
        for (key, _) in plan.places[plan.earlier..].iter().filter(|(_, target)| spot.is(target)) {
            let other = cluster.pod(key).filter(|other| pods::priority(other) < pods::priority(pod));
            if let Some(other) = other {
                without.give_back(other);
            }
        }
        without.accepts(pod).is_ok().then(|| spot.name().to_owned())
    })
}

/// It has no rules about others, and nobody refuses it.
fn is_alone(cluster: &Cluster, pod: &Pod) -> bool {
    let refuses = |other: &Pod| {
        let mut terms = pods::anti_affinity(other).into_iter();
        terms.any(|term| labels::term_means(&cluster.namespaces, other, term, pod))
    };
    !between::has_rules(pod) && !cluster.pods.iter().any(refuses)
}

fn place_for(cluster: &Cluster, plan: &Plan, left: &[Spot], pod: &Pod) -> Option<String> {
    // What daemons take of a new node depends on what it becomes: obvious only if there are none.
    let is_obvious = |spot: &&Spot| matches!(spot.target, Target::Existing(_)) || cluster.daemons.is_empty();
    if let Some(spot) = left.iter().filter(is_obvious).find(|spot| spot.accepts(pod).is_ok()) {
        return Some(format!("node {}", spot.name()));
    }
    let pools = cluster.pools.iter().filter(|pool| claims::can_buy(pool));
    pools.into_iter().find_map(|pool| {
        let kind = kind_for(cluster, plan, pool, pod)?;
        Some(format!("a new node of nodepool {}, instance type {kind}", claims::name(pool)))
    })
}

/// An instance type that the pool may still buy and that the pod fits on, alone.
fn kind_for(cluster: &Cluster, plan: &Plan, pool: &NodePool, pod: &Pod) -> Option<String> {
    let taints: Vec<Taint> = pool.spec.template.spec.taints.iter().flatten().map(core).collect();
    if labels::untolerated(&taints, pods::tolerations(pod)).is_some() {
        return None;
    }
    let (mut used, added) = claims::used(cluster, plan, pool);
    amounts::add(&mut used, &added);
    let limits = amounts::of_api(pool.spec.limits.as_ref());
    let within = |kind: &Kind| {
        let mut capacity = Kind::amounts(&kind.capacity);
        capacity.insert("nodes".to_owned(), 1);
        limits.iter().all(|(name, limit)| {
            let of = |all: &Amounts| all.get(name).copied().unwrap_or(0);
            of(&used) + of(&capacity) <= *limit
        })
    };
    // A port that a daemon takes on some of the pool's nodes is taken on all of them.
    let ports: Vec<Port> = cluster.kinds.iter().flat_map(|kind| beside(cluster, pool, &taints, kind).1).collect();
    let able: Vec<&Kind> =
        cluster.kinds.iter().filter(|kind| within(kind) && takes(cluster, pool, &taints, kind, pod, &ports)).collect();
    let strict = cluster.min_values == MinValuesPolicy::Strict;
    for requirement in &pool.spec.template.spec.requirements {
        let Some(wanted) = requirement.min_values.filter(|_| strict) else { continue };
        if !usize::try_from(wanted).is_ok_and(|n| n <= claims::distinct(&able, &requirement.key)) {
            return None;
        }
    }
    able.first().map(|kind| kind.name.clone())
}

fn core(taint: &karpenter_api::Taint) -> Taint {
    Taint { key: taint.key.clone(), value: taint.value.clone(), effect: taint.effect.clone(), time_added: None }
}

/// Nodes with these labels as the pool makes them, if it does.
fn made(pool: &NodePool, nodes: impl IntoIterator<Item = Labels>) -> Vec<Labels> {
    let requirements = &pool.spec.template.spec.requirements;
    let of_pool = claims::labels_of(pool);
    let customs = customs(pool);
    let with = |node: Labels| -> Vec<Labels> {
        let node: Labels = node.into_iter().chain(of_pool.clone()).collect();
        customs.iter().map(|custom| custom.clone().into_iter().chain(node.clone()).collect()).collect()
    };
    let meets = |node: &Labels| requirements.iter().all(|r| labels::satisfies(node.get(&r.key), r));
    nodes.into_iter().flat_map(with).filter(meets).collect()
}

/// What every daemon that any node of the type may have leaves of it, and the ports they take.
fn beside(cluster: &Cluster, pool: &NodePool, taints: &[Taint], kind: &Kind) -> (Amounts, Vec<Port>) {
    let possible = made(pool, any_nodes(kind));
    let (mut room, mut ports) = (Kind::amounts(&kind.allocatable), Vec::new());
    for daemon in &cluster.daemons {
        let Some(spec) = daemon.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { continue };
        if possible.iter().any(|node| spots::runs(daemon, "", node, taints)) {
            amounts::subtract(&mut room, &amounts::of_template(spec));
            ports.extend(pods::ports(spec));
        }
    }
    (room, ports)
}

/// Whether some node of this type, with room for all its daemons, takes the pod.
fn takes(cluster: &Cluster, pool: &NodePool, taints: &[Taint], kind: &Kind, pod: &Pod, ports: &[Port]) -> bool {
    let (room, _) = beside(cluster, pool, taints, kind);
    let asked = amounts::of_pod(pod);
    let wanted = pod.spec.as_ref().map(pods::ports).unwrap_or_default();
    room.values().all(|amount| *amount >= 0)
        && made(pool, kind.nodes()).into_iter().any(|labels| {
            let shape = Shape { kind: kind.name.clone(), labels, room: room.clone(), ports: ports.to_vec() };
            shape.accepts(pod, "", &asked, &wanted).is_ok()
        })
}

/// Every zone with every capacity type, on offer now or not.
fn any_nodes(kind: &Kind) -> Vec<Labels> {
    let mut all = Vec::new();
    for zone in kind.offers.iter().map(|offer| &offer.zone).collect::<BTreeSet<_>>() {
        for capacity_type in ["spot", "on-demand"] {
            let mut labels = kind.labels.clone();
            labels.insert(keys::INSTANCE_TYPE.to_owned(), kind.name.clone());
            labels.insert(keys::ZONE.to_owned(), zone.clone());
            labels.insert(keys::CAPACITY_TYPE.to_owned(), capacity_type.to_owned());
            all.push(labels);
        }
    }
    all
}

/// The ways in which the pool can choose values of labels that are its own.
fn customs(pool: &NodePool) -> Vec<Labels> {
    let mut all = vec![Labels::new()];
    for requirement in &pool.spec.template.spec.requirements {
        if requirement.operator != Operator::In || keys::is_well_known(&requirement.key) {
            continue;
        }
        let values = requirement.values.clone().unwrap_or_default();
        let each = |known: Labels| {
            let key = requirement.key.clone();
            values.clone().into_iter().map(move |value| {
                let mut known = known.clone();
                known.insert(key.clone(), value);
                known
            })
        };
        all = all.into_iter().flat_map(each).collect();
    }
    all
}
