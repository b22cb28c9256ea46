//! Capacity that is reserved is used first, and never twice.

use std::sync::Arc;

use karpenter_api::labels::{CAPACITY_RESERVATION_ID, CAPACITY_RESERVATION_TYPE, CAPACITY_TYPE};
use karpenter_core::cloud::CapacityType;
use karpenter_core::{Requirement, Settings};
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, kind, reserved, waiting};

fn cluster(left: u32, pool: &Value) -> Cluster {
    let types = vec![kind("m.4", 4, 16, &[]), reserved(&kind("m.16", 16, 64, &[]), "cr-1", left)];
    let mut cluster = Cluster::selling(types, Settings::default());
    cluster.pool("general", pool);
    cluster
}

fn capacity_type(answer: &Answer, pod: &str) -> String {
    answer.values(pod, CAPACITY_TYPE).join(",")
}

#[test]
fn reserved_capacity_comes_before_what_costs_money() {
    let mut cluster = cluster(2, &json!({}));
    cluster.pod(&waiting("p", "2", &json!({})));
    let answer = cluster.round();
    assert_eq!(answer.types("p"), ["m.16"]);
    assert_eq!(capacity_type(&answer, "p"), "reserved");
    assert_eq!(answer.values("p", CAPACITY_RESERVATION_ID), ["cr-1"]);
    assert_eq!(answer.zones("p"), ["a"]);
}

#[test]
fn no_more_nodes_are_planned_on_a_reservation_than_it_has_left() {
    let mut cluster = cluster(2, &json!({}));
    for n in 0..4 {
        cluster.pod(&waiting(&format!("p{n}"), "15", &json!({})));
    }
    let answer = cluster.round();
    let mut types: Vec<String> = (0..4).map(|n| capacity_type(&answer, &format!("p{n}"))).collect();
    types.sort();
    assert_eq!(types, ["on-demand", "on-demand", "reserved", "reserved"]);
}

#[test]
fn a_claim_that_is_not_launched_yet_holds_its_part() {
    let mut cluster = cluster(1, &json!({}));
    cluster.pod(&waiting("p", "15", &json!({})));
    assert_eq!(capacity_type(&cluster.round(), "p"), "reserved");
    cluster.pod(&waiting("q", "15", &json!({})));
    assert_eq!(capacity_type(&cluster.round(), "q"), "on-demand");
}

#[test]
fn a_pool_of_reserved_capacity_alone_ends_with_it() {
    let only = json!({ "template": { "spec": { "requirements": [
        { "key": CAPACITY_TYPE, "operator": "In", "values": ["reserved"] },
    ] } } });
    let mut cluster = cluster(1, &only);
    cluster.pod(&waiting("p", "15", &json!({})));
    cluster.pod(&waiting("q", "15", &json!({})));
    let answer = cluster.round();
    assert_eq!(answer.buys(), 1);
    assert_eq!(answer.unschedulable.len(), 1);
}

#[test]
fn a_pod_that_asks_for_a_reservation_gets_no_other_node() {
    let mut cluster = cluster(1, &json!({}));
    let asks = json!({ "spec": { "nodeSelector": { CAPACITY_RESERVATION_ID: "cr-1" } } });
    cluster.pod(&waiting("p", "15", &asks));
    cluster.pod(&waiting("q", "15", &asks));
    let answer = cluster.round();
    assert_eq!(answer.buys(), 1);
    assert_eq!(answer.unschedulable.len(), 1);
}

#[test]
fn pods_that_spread_over_zones_use_it_as_well() {
    let mut cluster = cluster(1, &json!({}));
    let spread = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }] } });
    for n in 0..2 {
        cluster.pod(&waiting(&format!("p{n}"), "3", &spread));
    }
    let answer = cluster.round();
    let mut types: Vec<String> = (0..2).map(|n| capacity_type(&answer, &format!("p{n}"))).collect();
    types.sort();
    assert_eq!(types, ["on-demand", "reserved"]);
}

/// Labels of a single offering count as those of the type do.
#[test]
fn a_pod_that_asks_for_what_one_offering_alone_has_gets_that_one() {
    let mut kind = (*reserved(&kind("m.16", 16, 64, &[]), "cr-1", 1)).clone();
    for offering in kind.offerings.iter_mut().filter(|offering| offering.reservation.is_some()) {
        offering.labels.insert(CAPACITY_RESERVATION_TYPE.to_owned(), "default".to_owned());
    }
    let mut requirements = (*kind.requirements).clone();
    let either = Requirement { must_exist: false, ..Requirement::one_of(["default"]) };
    requirements.0.insert(CAPACITY_RESERVATION_TYPE.to_owned(), either);
    kind.requirements = requirements.into();
    let mut cluster = Cluster::selling(vec![Arc::new(kind)], Settings::default());
    cluster.pool("general", &json!({}));
    let asks = |operator: &str| {
        json!({ "spec": { "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": CAPACITY_RESERVATION_TYPE, "operator": operator },
        ] }] },
    } } } })
    };
    cluster.pod(&waiting("with", "15", &asks("Exists")));
    cluster.pod(&waiting("without", "15", &asks("DoesNotExist")));
    let answer = cluster.round();
    assert_eq!(capacity_type(&answer, "with"), "reserved");
    assert_eq!(capacity_type(&answer, "without"), "on-demand");
}

/// Capacity that is paid for by the hour does not turn into reserved capacity because a pod asks for it.
#[test]
fn a_node_that_holds_no_reservation_does_not_become_one() {
    for key_and_value in [(CAPACITY_RESERVATION_ID, "cr-1"), (CAPACITY_TYPE, "reserved")] {
        let mut cluster = cluster(1, &json!({}));
        let asks = json!({ "spec": { "nodeSelector": { key_and_value.0: key_and_value.1 } } });
        cluster.pod(&waiting("p", "15", &json!({})));
        assert_eq!(capacity_type(&cluster.round(), "p"), "reserved", "what is reserved is used up");
        cluster.pod(&waiting("q", "12", &json!({})));
        cluster.pod(&waiting("r", "2", &asks));
        let answer = cluster.round();
        assert_eq!(capacity_type(&answer, "q"), "on-demand");
        assert_eq!(answer.unschedulable.len(), 1, "{key_and_value:?}: {answer:#?}");
    }
}

/// A pool that keeps off a reservation takes nothing of it.
#[test]
fn a_claim_that_is_not_to_use_a_reservation_does_not_hold_it() {
    let without = json!({ "template": { "spec": { "requirements": [
        { "key": CAPACITY_RESERVATION_ID, "operator": "NotIn", "values": ["cr-1"] },
    ] } } });
    let mut cluster = cluster(1, &without);
    cluster.pool("other", &json!({}));
    let in_pool = |name: &str| json!({ "spec": { "nodeSelector": { "karpenter.sh/nodepool": name } } });
    cluster.pod(&waiting("p", "15", &in_pool("general")));
    assert_eq!(capacity_type(&cluster.round(), "p"), "on-demand");
    cluster.pod(&waiting("q", "15", &in_pool("other")));
    assert_eq!(capacity_type(&cluster.round(), "q"), "reserved");
}

/// When nothing is left of it, the cheapest there is comes next.
#[test]
fn spot_takes_over_where_reserved_capacity_ends() {
    let mut kind = (*reserved(&kind("m.16", 16, 64, &[]), "cr-1", 1)).clone();
    let mut spot = kind.offerings[0].clone();
    (spot.capacity_type, spot.price) = (CapacityType::Spot, spot.price / 3);
    kind.offerings.push(spot);
    let mut requirements = (*kind.requirements).clone();
    let types = ["on-demand", "reserved", "spot"];
    requirements.0.insert(CAPACITY_TYPE.to_owned(), Requirement::one_of(types));
    kind.requirements = requirements.into();
    let mut cluster = Cluster::selling(vec![Arc::new(kind)], Settings::default());
    cluster.pool("general", &json!({}));
    cluster.pod(&waiting("p", "15", &json!({})));
    cluster.pod(&waiting("q", "15", &json!({})));
    let answer = cluster.round();
    let mut types = [capacity_type(&answer, "p"), capacity_type(&answer, "q")];
    types.sort();
    assert_eq!(types, ["on-demand,spot", "reserved"]);
}
