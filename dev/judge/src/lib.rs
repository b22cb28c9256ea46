//! A slow, obvious judge of provisioning rounds, and random clusters to try them on.
//!
//! ```text
//! any_cluster() ─▶ Cluster ─▶ Cluster::plan (the World and provision::decide) ─▶ Plan ─▶ judge ─▶ faults
//! ```
//!
//! The judge is written from Kubernetes' documented rules on whole objects. It has a reader of quantities, an algebra
//! of labels and a sum of requests of its own: of the code it judges it uses the types alone.

mod amounts;
mod between;
mod claims;
mod cluster;
mod fault;
pub mod generate;
mod labels;
mod pods;
mod quality;
mod spots;

use std::collections::BTreeSet;

pub use cluster::{Cluster, Kind, Offer, Plan, Target};
pub use fault::{ClaimFault, Fault, Rule};
pub use generate::{any_cluster, any_cluster_with};
pub use labels::{pod_chooses, untolerated};

use spots::Spot;

/// Everything that is wrong with a plan, in the order of its pods.
pub fn judge(cluster: &Cluster, plan: &Plan) -> Vec<Fault> {
    let mut faults = once_each(cluster, plan);
    let spots = spots::all(cluster, plan);
    faults.extend(claims::judge(cluster, plan, &spots));
    let (alone, left) = placed(cluster, plan, &spots);
    faults.extend(alone);
    // Where a pod stands on a node that cannot have it, the others need not be asked.
    if faults.is_empty() {
        faults.extend(between::judge(cluster, plan, &spots));
        faults.extend(quality::judge(cluster, plan, &left));
    }
    faults
}

/// Every pod that waits has a place or a verdict, once, and nothing else has.
fn once_each(cluster: &Cluster, plan: &Plan) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut waiting: BTreeSet<String> = cluster.pods.iter().filter(|pod| pods::waits(pod)).map(pods::key).collect();
    for (pod, _) in &plan.places {
        if !waiting.remove(pod) {
            faults.push(Fault::Unasked { pod: pod.clone() });
        }
    }
    for (pod, verdict) in &plan.verdicts {
        if !waiting.remove(pod) {
            faults.push(Fault::Unasked { pod: pod.clone() });
        }
        if verdict.is_empty() {
            faults.push(Fault::NoReason { pod: pod.clone() });
        }
    }
    faults.extend(waiting.into_iter().map(|pod| Fault::Forgotten { pod }));
    faults
}

/// What concerns one pod and one node: taints, labels, room, ports. Also: what is left of every node.
fn placed(cluster: &Cluster, plan: &Plan, spots: &[Spot]) -> (Vec<Fault>, Vec<Spot>) {
    let mut left = spots.to_vec();
    let mut faults = Vec::new();
    for (key, target) in &plan.places {
        let fault = |rule| Fault::Placed { pod: key.clone(), node: target.name().to_owned(), rule };
        let Some(pod) = cluster.pod(key) else { continue };
        let Some(spot) = left.iter_mut().find(|spot| spot.is(target)) else {
            faults.push(fault(Rule::NoSuchNode));
            continue;
        };
        if let Err(rule) = spot.accepts(pod) {
            faults.push(fault(rule));
        }
        spot.take(pod);
    }
    (faults, left)
}
