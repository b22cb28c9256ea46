//! Pods of nodes that are being deleted are planned before they are evicted, once.

use karpenter_api::NodeClaim;
use karpenter_core::Object;
use serde_json::{Value, json};

use crate::cluster::{Cluster, bought, key, merge, running, waiting};

const SOON: &str = "2030-01-01T00:00:00Z";

fn deleted() -> Value {
    json!({ "metadata": { "deletionTimestamp": SOON } })
}

/// A pool, and a node with these pods.
fn cluster(pods: &[Value]) -> Cluster {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    cluster.node("old", &json!({}));
    for pod in pods {
        cluster.pod(pod);
    }
    cluster
}

fn of_set(name: &str) -> Value {
    json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": name, "controller": true },
    ] } })
}

#[test]
fn a_node_that_is_deleted_opens_the_batch_once() {
    let mut cluster = cluster(&[running("p", "1", "old", &json!({}))]);
    assert_eq!(cluster.due(), None, "its pod stays");
    cluster.node("old", &deleted());
    assert_eq!(cluster.due(), Some(1000));
    assert_eq!(bought(&cluster.round()), [["p"]]);
    for _ in 0..5 {
        cluster.node("old", &deleted());
        cluster.pod(&running("p", "1", "old", &json!({ "status": { "startTime": SOON } })));
        assert_eq!(cluster.due(), Some(10_000), "only a look whether it still has its place");
        assert_eq!(bought(&cluster.round()), [[""; 0]; 0], "it was planned already");
    }
}

#[test]
fn a_node_whose_claim_is_deleted_is_left_as_well() {
    let mut cluster = cluster(&[running("p", "1", "old", &json!({}))]);
    let claim = |meta: Value| {
        let mut claim = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "c", "finalizers": ["karpenter.sh/termination"] },
            "spec": { "requirements": [], "nodeClassRef": { "group": "", "kind": "", "name": "" } },
            "status": { "providerID": "id/old" },
        });
        merge(&mut claim, &meta);
        Object::NodeClaim(Box::new(serde_json::from_value::<NodeClaim>(claim).unwrap()))
    };
    cluster.see(claim(json!({})));
    assert_eq!(cluster.due(), None);
    cluster.see(claim(deleted()));
    assert_eq!(bought(&cluster.round()), [["p"]]);
}

#[test]
fn only_pods_that_are_wanted_elsewhere_are_planned() {
    let owned = |kind: &str, version: &str| {
        json!({ "metadata": { "ownerReferences": [
            { "apiVersion": version, "kind": kind, "name": "o", "uid": "o" },
        ] } })
    };
    let mut set = of_set("db");
    merge(&mut set, &deleted());
    let mut cluster = cluster(&[
        running("usual", "1", "old", &json!({})),
        running("set", "1", "old", &of_set("db")),
        running("ended-set", "1", "old", &set),
        running("ending", "1", "old", &deleted()),
        running("failed", "1", "old", &json!({ "status": { "phase": "Failed" } })),
        running("done", "1", "old", &json!({ "status": { "phase": "Succeeded" } })),
        running("daemon", "1", "old", &owned("DaemonSet", "apps/v1")),
        running("static", "1", "old", &owned("Node", "v1")),
        running(
            "kept",
            "1",
            "old",
            &json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } }),
        ),
        running("elsewhere", "1", "other", &json!({})),
    ]);
    cluster.node("old", &deleted());
    assert_eq!(bought(&cluster.round()).concat(), ["ended-set", "set", "usual"]);
}

#[test]
fn a_pod_that_may_leave_at_last_is_planned_then() {
    let kept = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
    let mut cluster = cluster(&[running("p", "1", "old", &kept)]);
    cluster.node("old", &deleted());
    assert_eq!(bought(&cluster.round()).len(), 0);
    assert_eq!(cluster.due(), None);
    cluster.pod(&running("p", "1", "old", &json!({})));
    assert_eq!(bought(&cluster.round()), [["p"]]);
}

fn budget(allowed: i32, spec: &Value) -> Object {
    let budget = json!({
        "metadata": { "name": "b", "namespace": "default" },
        "spec": spec,
        "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 },
    });
    Object::PodDisruptionBudget(Box::new(serde_json::from_value(budget).unwrap()))
}

#[test]
fn a_pod_behind_a_budget_that_allows_nothing_is_not_planned() {
    let web = json!({ "metadata": { "labels": { "app": "web" } } });
    let of_web = json!({ "selector": { "matchLabels": { "app": "web" } } });
    let mut cluster = cluster(&[
        running("web", "1", "old", &web),
        running("free", "1", "old", &json!({ "metadata": { "labels": { "app": "free" } } })),
    ]);
    cluster.see(budget(0, &of_web));
    cluster.node("old", &deleted());
    let first = cluster.round();
    assert_eq!(bought(&first), [["free"]]);
    cluster.see(budget(0, &of_web));
    assert_eq!(cluster.round().nominated.len(), 0);
    cluster.see(budget(1, &of_web));
    assert_eq!(cluster.due(), Some(1000));
    assert_eq!(cluster.round().node("web"), first.claims.keys().next().map(String::as_str));
    // Others of the budget are on their way: what is reserved stays reserved.
    cluster.see(budget(0, &of_web));
    assert!(cluster.world.nominated.contains_key(&key("web")));
}

#[test]
fn a_budget_that_is_gone_or_means_others_blocks_nothing() {
    for (spec, blocks) in [
        (json!({ "selector": {} }), true),
        (json!({}), false),
        (json!({ "selector": { "matchLabels": { "app": "other" } } }), false),
    ] {
        let mut cluster = cluster(&[running("p", "1", "old", &json!({}))]);
        cluster.see(budget(0, &spec));
        cluster.node("old", &deleted());
        assert_eq!(bought(&cluster.round()).is_empty(), blocks, "{spec}");
        if blocks {
            cluster.gone(budget(0, &spec));
            assert_eq!(bought(&cluster.round()), [["p"]]);
        }
    }
}

#[test]
fn a_budget_may_let_go_of_pods_that_are_not_ready() {
    let mut cluster = cluster(&[
        running("ready", "1", "old", &json!({})),
        running("broken", "1", "old", &json!({ "status": { "conditions": null } })),
    ]);
    cluster.see(budget(0, &json!({ "selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow" })));
    cluster.node("old", &deleted());
    assert_eq!(bought(&cluster.round()), [["broken"]]);
}

/// P is nominated, then evicted; its replacement Q finds the room that was P's.
#[test]
fn the_replacement_of_an_evicted_pod_finds_the_reserved_room() {
    let old = running("p", "3", "old", &json!({}));
    let mut cluster = cluster(std::slice::from_ref(&old));
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    let round = cluster.round();
    assert_eq!(round.nominated.get(&key("p")).map(String::as_str), Some("spare"));

    cluster.pod(&waiting("other", "3", &json!({})));
    let round = cluster.round();
    assert_eq!(bought(&round), [["other"]], "the room is taken");

    cluster.later(60);
    cluster.pod(&running("p", "3", "old", &deleted()));
    assert!(!cluster.world.nominated.contains_key(&key("p")), "its end has begun");
    cluster.pod(&waiting("q", "3", &json!({})));
    let round = cluster.round();
    assert_eq!(round.nominated.get(&key("q")).map(String::as_str), Some("spare"));
    cluster.pod_gone(&old);
    assert!(cluster.world.nominated.contains_key(&key("q")));
}

fn of_replica_set(more: &Value) -> Value {
    let mut owned = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true },
    ] } });
    merge(&mut owned, more);
    owned
}

/// P and Q were planned on a claim; P is evicted before the claim has an instance. What comes for P takes P's place.
#[test]
fn a_replacement_takes_the_planned_place_before_the_node_is_launched() {
    let owned = of_replica_set(&json!({}));
    let mut cluster = cluster(&[running("p", "3", "old", &owned), running("q", "3", "old", &owned)]);
    cluster.node("old", &deleted());
    let round = cluster.round();
    assert_eq!(bought(&round), [["p", "q"]]);
    let claim = round.claims.keys().next().cloned();

    cluster.pod(&running("p", "3", "old", &of_replica_set(&deleted())));
    cluster.pod(&waiting("other", "3", &json!({})));
    cluster.pod(&waiting("p2", "3", &owned));
    let target =
        |cluster: &Cluster, pod: &str| cluster.world.nominated.get(&key(pod)).map(|known| known.target.clone());
    assert_eq!(target(&cluster, "p2"), claim);
    let round = cluster.round();
    assert_eq!(bought(&round), [["other"]], "nothing is bought twice");

    // One place, one successor.
    cluster.pod_gone(&running("p", "3", "old", &owned));
    cluster.pod(&waiting("p3", "3", &owned));
    assert_eq!(bought(&cluster.round()), [["p3"]]);
}

/// A Deployment that was scaled down replaces nothing: its place is free again after a while.
#[test]
fn a_place_that_no_replacement_comes_for_is_free_again() {
    let mut cluster = cluster(&[running("p", "3", "old", &of_replica_set(&json!({})))]);
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    assert_eq!(cluster.round().nominated.len(), 1);
    cluster.pod(&running("p", "3", "old", &of_replica_set(&deleted())));
    cluster.pod(&waiting("soon", "3", &json!({})));
    assert_eq!(bought(&cluster.round()), [["soon"]]);
    cluster.later(30);
    cluster.round();
    cluster.pod(&waiting("late", "3", &json!({})));
    assert_eq!(cluster.round().nominated.get(&key("late")).map(String::as_str), Some("spare"));
}

#[test]
fn a_kept_place_keeps_its_host_port() {
    let port = json!([{ "containerPort": 80, "hostPort": 80 }]);
    let with_port = |mut pod: Value| {
        pod["spec"]["containers"][0]["ports"] = port.clone();
        pod
    };
    let owned = of_replica_set(&json!({}));
    let mut cluster = cluster(&[with_port(running("p", "1", "old", &owned))]);
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    assert_eq!(cluster.round().nominated.len(), 1);
    cluster.pod(&with_port(running("p", "1", "old", &of_replica_set(&deleted()))));
    cluster.pod(&with_port(waiting("other", "1", &json!({}))));
    assert_eq!(bought(&cluster.round()), [["other"]], "the port is kept for what replaces p");
}

/// A StatefulSet creates the next pod of a name when the one before it is gone: until then the room is kept.
#[test]
fn the_room_of_a_stateful_pod_is_kept_until_it_is_gone() {
    let mut cluster = cluster(&[running("db-0", "3", "old", &of_set("db"))]);
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    assert_eq!(cluster.round().nominated.len(), 1);
    let mut ending = of_set("db");
    merge(&mut ending, &deleted());
    let ending = running("db-0", "3", "old", &ending);
    cluster.pod(&ending);
    cluster.later(60);
    cluster.pod(&waiting("other", "3", &json!({})));
    assert_eq!(bought(&cluster.round()), [["other"]]);

    cluster.pod_gone(&ending);
    let mut next = of_set("db");
    merge(&mut next, &json!({ "metadata": { "uid": "next" } }));
    cluster.pod(&waiting("db-0", "3", &next));
    cluster.round();
    assert_eq!(cluster.world.nominated.get(&key("db-0")).map(|known| known.target.as_str()), Some("spare"));
}

#[test]
fn a_pod_whose_planned_place_is_lost_is_planned_anew() {
    let mut cluster = cluster(&[running("p", "3", "old", &json!({}))]);
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    assert_eq!(cluster.round().nominated.len(), 1);
    // The spare node goes as well.
    cluster.node("spare", &deleted());
    assert_eq!(bought(&cluster.round()), [["p"]]);
}

#[test]
fn a_pod_whose_planned_room_was_taken_is_planned_anew() {
    let mut cluster = cluster(&[running("p", "3", "old", &json!({}))]);
    cluster.node("spare", &json!({}));
    cluster.node("old", &deleted());
    assert_eq!(cluster.round().nominated.len(), 1);
    cluster.pod(&running("faster", "3", "spare", &json!({})));
    assert_eq!(bought(&cluster.round()), [["p"]]);
}

fn spread() -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }] } })
}

fn in_zone(zone: &str) -> Value {
    json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } })
}

/// One pod in each zone; the one in zone a has to leave, and so has its zone to itself.
#[test]
fn spreads_do_not_count_a_pod_where_it_has_to_leave() {
    let mut cluster = cluster(&[running("p", "1", "old", &spread())]);
    cluster.node("b1", &in_zone("b"));
    cluster.pod(&running("r", "1", "b1", &spread()));
    cluster.node("old", &deleted());
    let round = cluster.round();
    assert_eq!(bought(&round), [["p"]], "there is room in zone b, but one too many would be there");
}

#[test]
fn spreads_count_a_pod_at_its_planned_place() {
    let mut cluster = cluster(&[running("p", "1", "old", &spread())]);
    cluster.node("b1", &in_zone("b"));
    cluster.node("old", &deleted());
    let round = cluster.round();
    assert_eq!(round.nominated.get(&key("p")).map(String::as_str), Some("b1"), "an empty zone like the other");

    cluster.pod(&waiting("q", "1", &spread()));
    let round = cluster.round();
    assert_eq!(bought(&round), [["q"]], "zone b holds one, so the next goes to zone a");
}

/// A pool that may have one node only: the one that is left waits for its pod, whose next place is on another.
#[test]
fn a_node_that_is_left_does_not_count_for_its_pools_limits() {
    for limits in [json!({ "nodes": "1" }), json!({ "cpu": "2" })] {
        for claim_first in [true, false] {
            let mut cluster = Cluster::bare();
            cluster.pool("general", &json!({ "limits": limits }));
            cluster.pod(&waiting("first", "1", &json!({})));
            let round = cluster.round();
            let name = round.claims.keys().next().unwrap().clone();
            let mut claim = (*cluster.world.claims[&name].claim).clone();
            claim.metadata.uid = Some("c".to_owned());
            claim.status = serde_json::from_value(json!({ "providerID": "id/n", "capacity": { "cpu": "2" } })).unwrap();
            cluster.see(Object::NodeClaim(Box::new(claim.clone())));
            let mut node = json!({ "metadata": { "labels": {
                "karpenter.sh/nodepool": "general", "karpenter.sh/registered": "true", "karpenter.sh/initialized": "true",
            } } });
            cluster.node("n", &node);
            cluster.pod(&running("first", "1", "n", &json!({})));
            cluster.pod(&waiting("second", "4", &json!({})));
            let round = cluster.round();
            assert_eq!(round.unschedulable.keys().collect::<Vec<_>>(), [&key("second")], "a node that stays counts");

            if claim_first {
                claim.metadata.deletion_timestamp = serde_json::from_value(json!(SOON)).unwrap();
                cluster.see(Object::NodeClaim(Box::new(claim)));
            } else {
                merge(&mut node, &deleted());
                cluster.node("n", &node);
            }
            cluster.pod_gone(&waiting("second", "4", &json!({})));
            assert_eq!(bought(&cluster.round()), [["first"]], "{limits}, the claim first: {claim_first}");
        }
    }
}

/// The replacement was bound elsewhere at once, and never took the place that was kept for it.
#[test]
fn a_place_that_nobody_takes_is_kept_for_a_while_only() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    for node in ["n1", "n2", "n3"] {
        cluster.node(node, &json!({}));
    }
    let owned = of_replica_set(&json!({}));
    cluster.pod(&running("p", "3", "n1", &owned));
    cluster.node("n1", &deleted());
    let kept = cluster.round().node("p").map(str::to_owned);
    let ended = of_replica_set(&deleted());
    cluster.pod(&running("p", "3", "n1", &ended));
    cluster.pod_gone(&running("p", "3", "n1", &ended));
    let other = if kept.as_deref() == Some("n2") { "n3" } else { "n2" };
    cluster.pod(&running("q", "3", other, &owned));
    cluster.later(3600);
    cluster.pod(&waiting("x", "3", &json!({})));
    assert_eq!(cluster.round().node("x").map(str::to_owned), kept);
}

#[test]
fn a_claim_whose_pod_is_gone_does_not_stop_the_others() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    let gone = waiting("gone", "1", &json!({}));
    cluster.pod(&gone);
    let first = cluster.round();
    assert_eq!(first.buys(), 1);
    cluster.pod_gone(&gone);
    cluster.pod(&waiting("other", "2", &json!({})));
    cluster.pod(&waiting("another", "2", &json!({})));
    let second = cluster.round();
    assert_eq!(
        second.nominated.values().collect::<Vec<_>>(),
        first.claims.keys().collect::<Vec<_>>(),
        "its place is free"
    );
    assert_eq!(second.buys(), 1);
}
