//! The most important pods first, and none before its gates are open.

use serde_json::json;

use crate::cluster::{Cluster, bought, key, waiting};

#[test]
fn what_a_limit_leaves_goes_to_the_most_important_pod() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({ "limits": { "cpu": "8" } }));
    cluster.pod(&waiting("small", "1", &json!({ "spec": { "priority": 1 } })));
    cluster.pod(&waiting("large", "7", &json!({ "spec": { "priority": 0 } })));
    cluster.pod(&waiting("vital", "3", &json!({ "spec": { "priority": 1000 } })));
    cluster.pod(&waiting("usual", "6", &json!({})));
    let round = cluster.round();
    assert_eq!(bought(&round), [["small", "vital"]], "the cheapest node for both leaves too little for the others");
    assert_eq!(round.unschedulable.keys().collect::<Vec<_>>(), [&key("large"), &key("usual")]);
}

/// Even if more pods, or a cheaper plan, would come of leaving it out.
#[test]
fn an_important_pod_is_not_outweighed_by_many_that_are_not() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({ "limits": { "cpu": "4" } }));
    for n in 0..3 {
        cluster.pod(&waiting(&format!("p{n}"), "1", &json!({})));
    }
    cluster.pod(&waiting("vital", "4", &json!({ "spec": { "priority": 1 } })));
    let round = cluster.round();
    assert_eq!(bought(&round), [["vital"]]);
    assert_eq!(round.unschedulable.len(), 3);
}

/// kube-scheduler would give it that room as well.
#[test]
fn free_room_on_a_node_goes_to_the_most_important_pod_even_if_it_would_rather_be_elsewhere() {
    let mut cluster = Cluster::bare();
    cluster.node("old", &json!({}));
    let elsewhere = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1,
        "preference": { "matchExpressions": [
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["b"] },
        ] },
    }] } });
    cluster.pod(&waiting("usual", "3", &json!({})));
    cluster.pod(&waiting("vital", "3", &json!({ "spec": { "priority": 1, "affinity": elsewhere } })));
    cluster.pool("none", &json!({ "limits": { "nodes": "0" } }));
    let round = cluster.round();
    assert_eq!(round.nominated.keys().collect::<Vec<_>>(), [&key("vital")]);
}

#[test]
fn among_equals_the_largest_comes_first() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({ "limits": { "cpu": "8" } }));
    cluster.pod(&waiting("small", "1", &json!({ "spec": { "priority": 7 } })));
    cluster.pod(&waiting("large", "8", &json!({ "spec": { "priority": 7 } })));
    assert_eq!(bought(&cluster.round()), [["large"]]);
}

#[test]
fn a_pod_behind_a_scheduling_gate_waits_for_nothing_of_ours() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    let gated = json!([{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" }]);
    let mut pod = waiting("gated", "1", &json!({ "spec": { "schedulingGates": [{ "name": "example.com/quota" }] } }));
    let open = pod["status"]["conditions"].take();
    pod["status"]["conditions"] = gated;
    cluster.pod(&pod);
    cluster.pod(&waiting("free", "1", &json!({})));
    let first = cluster.round();
    assert_eq!(bought(&first), [["free"]]);

    pod["spec"]["schedulingGates"].take();
    pod["status"]["conditions"] = open;
    cluster.pod(&pod);
    assert_eq!(cluster.round().node("gated"), first.claims.keys().next().map(String::as_str), "there is room for both");
}
