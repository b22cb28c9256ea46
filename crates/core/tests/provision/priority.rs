//! The most important pods first, and none before its gates are open.

use karpenter_core::Settings;
use serde_json::json;

use crate::cluster::{Cluster, bought, key, kind, waiting};

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

/// Under a limit, what the most important pods need is planned for them alone: the others take what is left of it.
#[test]
fn no_less_important_pod_has_room_that_a_more_important_one_waits_for() {
    let sold = |sizes: &[(&str, i64, i64, i64)]| {
        let with_pods = |(name, cores, gib, pods): &(&str, i64, i64, i64)| kind(name, *cores, *gib, &[("pods", *pods)]);
        Cluster::selling(sizes.iter().map(with_pods).collect(), Settings::default())
    };
    let has_place = |cluster: &mut Cluster, name: &str| {
        let round = cluster.round();
        let vital = |n: usize| round.unschedulable.contains_key(&key(&format!("vital-{n}")));
        assert!(!(0..9).any(vital), "{name}: {:?}", round.unschedulable);
        assert!(!round.claims.is_empty());
    };
    let limit = json!({ "limits": { "memory": "30Gi" } });
    // Two of the cheaper nodes are beyond the limit; the dearer one holds all three.
    let mut cluster = sold(&[("cheap.4", 4, 16, 3), ("dear.8", 8, 16, 4)]);
    cluster.pool("general", &limit);
    for n in 0..3 {
        cluster.pod(&waiting(&format!("vital-{n}"), "1500m", &json!({ "spec": { "priority": 7 } })));
    }
    cluster.pod(&waiting("idle", "4", &json!({})));
    has_place(&mut cluster, "one type");
    // A large node and a small one hold four; two small ones with the fifth pod would not.
    let mut cluster = sold(&[("large.4", 4, 16, 3), ("small.2", 2, 8, 1)]);
    cluster.pool("general", &limit);
    for n in 0..4 {
        cluster.pod(&waiting(&format!("vital-{n}"), "100m", &json!({ "spec": { "priority": 7 } })));
    }
    cluster.pod(&waiting("idle", "100m", &json!({})));
    has_place(&mut cluster, "two types");
}
