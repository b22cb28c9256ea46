//! Claims on their way count and take pods from the moment they are planned: created or not, launched or not, joined or
//! not. (In these tests the cloud launches nothing by itself.)

use karpenter_api::{NodeClaim, labels};
use karpenter_core::world::LaunchState;
use karpenter_core::{ActionKey, Failure, Object, Observation, Settings};
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, bought, kind, merge, reserved, waiting};

/// How far a planned claim has come when the next round is solved.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Planned,
    Created,
}

const STAGES: [Stage; 2] = [Stage::Planned, Stage::Created];

fn bare() -> Cluster {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    cluster
}

fn round(cluster: &mut Cluster, stage: Stage) -> Answer {
    match stage {
        Stage::Planned => cluster.round_unanswered(),
        Stage::Created => cluster.round(),
    }
}

/// The only new claim of a round.
fn only(answer: &Answer) -> String {
    assert_eq!(answer.created.len(), 1, "{answer:#?}");
    answer.created[0].metadata.name.clone().unwrap()
}

fn create(claim: &str) -> ActionKey {
    ActionKey::new(format!("NodeClaim/{claim}"), "create")
}

/// What of a pod says that pods of its app are spread over the values of a key.
fn spread(key: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }] } })
}

fn in_zones(operator: &str, zones: &[&str]) -> Value {
    let terms = json!([{ "matchExpressions": [{ "key": labels::ZONE, "operator": operator, "values": zones }] }]);
    json!({ "spec": { "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
    } } } })
}

#[test]
fn limits_hold_from_round_to_round() {
    for stage in STAGES {
        for limits in [json!({ "nodes": "1" }), json!({ "cpu": "16" })] {
            let mut cluster = Cluster::bare();
            cluster.pool("general", &json!({ "limits": limits }));
            cluster.pod(&waiting("first", "16", &json!({})));
            assert_eq!(round(&mut cluster, stage).buys(), 1);
            cluster.pod(&waiting("second", "16", &json!({})));
            let answer = round(&mut cluster, stage);
            assert_eq!(answer.buys(), 0, "{limits}, {stage:?}");
            assert!(answer.refusal("second").contains("limit"), "{}", answer.refusal("second"));
        }
    }
}

#[test]
fn a_reservation_is_given_once() {
    for stage in STAGES {
        let types = vec![kind("m.4", 4, 16, &[]), reserved(&kind("m.16", 16, 64, &[]), "cr-1", 1)];
        let mut cluster = Cluster::selling(types, Settings::default());
        cluster.pool("general", &json!({}));
        for (pod, bought_as) in [("first", "reserved"), ("second", "on-demand")] {
            cluster.pod(&waiting(pod, "15", &json!({})));
            assert_eq!(round(&mut cluster, stage).values(pod, labels::CAPACITY_TYPE), [bought_as], "{stage:?}");
        }
    }
}

/// Each in a round of its own; the fourth would be the second in its domain.
#[test]
fn a_spread_counts_what_is_on_its_way() {
    for stage in STAGES {
        let mut cluster = Cluster::new();
        cluster.pool("general", &json!({}));
        let mut zones = Vec::new();
        for n in 0..3 {
            let pod = format!("p{n}");
            cluster.pod(&waiting(&pod, "16", &spread(labels::ZONE)));
            zones.extend(round(&mut cluster, stage).zones(&pod));
        }
        zones.sort();
        assert_eq!(zones, ["a", "b", "c"], "{stage:?}");
    }
}

#[test]
fn pods_that_keep_apart_do_not_meet_on_a_node_that_is_on_its_way() {
    for stage in STAGES {
        let mut cluster = bare();
        for n in 0..3 {
            cluster.pod(&waiting(&format!("p{n}"), "500m", &spread(labels::HOSTNAME)));
            let answer = round(&mut cluster, stage);
            assert_eq!(answer.buys(), 1, "{stage:?}: {answer:#?}");
        }
    }
}

/// Sixteen pods of a quarter core, one a round: the least that the first claim may become has two cores.
#[test]
fn pods_that_trickle_in_fill_what_is_on_its_way() {
    for stage in STAGES {
        let mut cluster = bare();
        let mut buys = 0;
        for n in 0..16 {
            let pod = format!("p{n}");
            cluster.pod(&waiting(&pod, "250m", &json!({})));
            let answer = round(&mut cluster, stage);
            buys += answer.buys();
            assert_eq!(answer.unschedulable.len(), 0, "{answer:#?}");
        }
        assert_eq!(buys, 2, "{stage:?}");
    }
}

/// It is the cheapest that will be bought, but nobody knows what is to be had: of each resource the least counts.
#[test]
fn the_room_on_its_way_is_what_every_type_of_the_claim_has_beside_daemons() {
    let daemon = json!({
        "kind": "DaemonSet", "metadata": { "name": "d", "namespace": "default", "uid": "d" },
        "spec": { "selector": {}, "template": { "spec": {
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
        } } },
    });
    for (daemons, taken, fits) in [(0, "1", "1"), (0, "1", "1500m"), (1, "500m", "500m"), (1, "500m", "1")] {
        let types = vec![kind("wide.2", 2, 64, &[]), kind("long.8", 8, 8, &[])];
        let mut cluster = Cluster::selling(types, Settings::default());
        cluster.pool("general", &json!({}));
        if daemons > 0 {
            cluster.has(daemon.clone());
        }
        cluster.pod(&waiting("first", taken, &json!({})));
        let first = cluster.round();
        assert_eq!(first.types("first").len(), 2);
        cluster.pod(&waiting(
            "memory",
            "0",
            &json!({ "spec": { "containers": [{ "name": "c", "resources": {
            "requests": { "cpu": "0", "memory": "9Gi" },
        } }] } }),
        ));
        assert_eq!(bought(&cluster.round()), [["memory"]], "one of the types has 8 GiB");
        cluster.pod(&waiting("next", fits, &json!({})));
        let next = cluster.round();
        let expected = ["1", "500m"].contains(&fits) && (daemons == 0 || fits == "500m");
        assert_eq!(next.node("next") == Some(only(&first).as_str()), expected, "{daemons} {taken} {fits}: {next:#?}");
    }
}

/// A claim is not narrowed once it is planned: where its zone is open, a pod comes only if all will do.
#[test]
fn a_pod_comes_only_if_it_suits_everything_that_the_claim_may_become() {
    let cases = [
        (in_zones("In", &["a"]), false),
        (in_zones("NotIn", &["a"]), false),
        (in_zones("NotIn", &["z"]), true),
        (in_zones("In", &["a", "b", "z"]), true),
        (in_zones("Exists", &[]), true),
        (json!({ "spec": { "nodeSelector": { labels::INSTANCE_TYPE: "m.2" } } }), false),
        (json!({ "spec": { "nodeSelector": { labels::ARCH: "amd64" } } }), true),
        (json!({ "spec": { "nodeSelector": { labels::NODEPOOL: "general" } } }), true),
        (spread(labels::ZONE), true),
        (json!({ "spec": { "nodeSelector": { labels::HOSTNAME: "n" } } }), false),
    ];
    for stage in STAGES {
        for (more, comes) in &cases {
            let mut cluster = bare();
            cluster.pod(&waiting("first", "500m", &json!({})));
            let first = round(&mut cluster, stage);
            cluster.pod(&waiting("next", "500m", more));
            let next = round(&mut cluster, stage);
            assert_eq!(next.node("next") == Some(only(&first).as_str()), *comes, "{stage:?} {more}: {next:#?}");
        }
    }
}

/// Whatever zone the first comes to, the next must not be the second in it: it waits until that is known.
#[test]
fn a_pod_whose_zone_is_open_counts_in_every_zone_it_may_come_to() {
    let mut cluster = bare();
    cluster.pod(&waiting("first", "2", &json!({ "metadata": { "labels": { "app": "web" } } })));
    let first = cluster.round();
    assert_eq!(first.zones("first"), [""; 0], "it is open");
    cluster.pod(&waiting("next", "2", &spread(labels::ZONE)));
    assert_eq!(cluster.round().unschedulable.len(), 1);
    let claim = launched(&first.created[0], "b", "2");
    cluster.see(Object::NodeClaim(Box::new(claim)));
    assert!(cluster.is_roused());
    assert_eq!(cluster.round().zones("next"), ["a"]);
}

/// The claim as its launch has settled it.
fn launched(claim: &NodeClaim, zone: &str, cpu: &str) -> NodeClaim {
    let mut claim = claim.clone();
    claim.metadata.uid.clone_from(&claim.metadata.name);
    let amounts = json!({ "cpu": cpu, "memory": "8Gi", "pods": "100" });
    claim.status =
        serde_json::from_value(json!({ "providerID": "id/n", "capacity": amounts, "allocatable": amounts })).unwrap();
    let all = claim.metadata.labels.get_or_insert_default();
    all.insert(labels::ZONE.to_owned(), zone.to_owned());
    all.insert(labels::ARCH.to_owned(), "amd64".to_owned());
    claim
}

#[test]
fn a_claim_that_is_refused_gives_its_pods_back() {
    for failure in [Failure::Refused("403".to_owned()), Failure::NotFound("404".to_owned())] {
        let mut cluster = bare();
        cluster.pod(&waiting("p", "1", &json!({})));
        let first = cluster.round_unanswered();
        cluster.answered(&create(&only(&first)), Err(failure.clone()));
        assert!(cluster.world.claims.is_empty(), "{failure}");
        assert!(cluster.world.flights.is_empty(), "{failure}");
        assert_eq!(cluster.due(), Some(10_000), "not at once: it may be refused again");
        let second = cluster.round_unanswered();
        assert_eq!(bought(&second), [["p"]], "{failure}");
        assert_ne!(only(&second), only(&first));
    }
}

/// It may be there, or not: the same claim is asked for again, never another.
#[test]
fn a_claim_whose_creation_is_uncertain_is_created_again() {
    let failures = [
        Failure::Unknown("timeout".to_owned()),
        Failure::Overloaded,
        Failure::Blocked("429".to_owned()),
        Failure::Conflict("409".to_owned()),
    ];
    for failure in failures {
        let mut cluster = bare();
        cluster.pod(&waiting("p", "1", &json!({})));
        let first = cluster.round_unanswered();
        let key = create(&only(&first));
        for _ in 0..3 {
            cluster.answered(&key, Err(failure.clone()));
            assert_eq!(cluster.creations(), [], "{failure}: not at once");
            cluster.later(1);
            assert_eq!(cluster.creations(), std::slice::from_ref(&key), "{failure}");
        }
        cluster.later(3600);
        assert_eq!(bought(&cluster.round()).len(), 0, "{failure}: its pod is expected there");
        // It was there after all.
        cluster.created(&first.created[0]);
        assert!(!cluster.creations().contains(&key), "{failure}");
        cluster.answered(&key, Err(Failure::Refused("late".to_owned())));
        assert_eq!(cluster.world.claims.len(), 1, "{failure}: what is there is not refused");
    }
}

#[test]
fn while_a_creation_is_under_way_it_is_not_asked_for_again() {
    let mut cluster = bare();
    cluster.pod(&waiting("p", "1", &json!({})));
    let first = cluster.round_unanswered();
    let key = create(&only(&first));
    let now = cluster.now;
    cluster.world.begin(&key, now);
    // A list that was read before it was created does not know it.
    cluster.learns(Observation::Listed { kind: karpenter_core::Kind::NodeClaim, names: Vec::new() });
    cluster.later(60);
    assert_eq!(cluster.creations(), []);
    assert_eq!(cluster.world.claims.len(), 1);
    // Created, deleted by somebody, and only then answered: it does not come back.
    cluster.created(&first.created[0]);
    let launch = |cluster: &Cluster| cluster.world.claims.values().next().map(|state| state.launch.clone());
    assert_eq!(launch(&cluster), Some(LaunchState::Absent), "nobody but this process can have launched it");
    cluster.gone(Object::NodeClaim(Box::new((*first.created[0]).clone())));
    let object = Object::NodeClaim(Box::new((*first.created[0]).clone()));
    cluster.learns(Observation::Done { key, outcome: Ok(Some(Box::new(object))) });
    assert!(cluster.world.claims.is_empty());
    assert_eq!(bought(&cluster.round()), [["p"]]);
}

/// A claim as an earlier process left it, for 3 cores on a node of 4 or of 8.
fn left_behind(name: &str, more: &Value) -> Value {
    let mut claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {
            "name": name, "uid": name, "finalizers": ["karpenter.sh/termination"],
            "labels": { "karpenter.sh/nodepool": "general" },
        },
        "spec": {
            "requirements": [{ "key": labels::INSTANCE_TYPE, "operator": "In", "values": ["m.4", "m.8"] }],
            "resources": { "requests": { "cpu": "3", "pods": "3" } },
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
        },
    });
    merge(&mut claim, more);
    claim
}

/// Nobody remembers what the claims were made for: their pods find them again, and nothing waits for their launch.
#[test]
fn after_a_restart_every_pod_has_a_place_or_a_verdict_before_launches_are_settled() {
    let mut cluster = bare();
    for name in ["general-1", "general-2"] {
        cluster.has(left_behind(name, &json!({})));
    }
    for n in 0..8 {
        cluster.pod(&waiting(&format!("p{n}"), "1", &json!({})));
    }
    cluster.pod(&waiting("new", "5", &json!({})));
    cluster.pod(&waiting("huge", "99", &json!({})));
    let answer = cluster.round();
    assert_eq!(answer.nominated.len(), 8, "four on each: {answer:#?}");
    assert_eq!(bought(&answer), [["new"]]);
    assert_eq!(answer.unschedulable.len(), 1);
}

/// What it requests it will have, whatever has become of its pool.
#[test]
fn a_claim_whose_pool_is_not_on_offer_takes_what_it_requests() {
    let ready = json!({ "template": { "spec": {} } });
    for pool in [Value::Null, ready] {
        let mut cluster = Cluster::bare();
        cluster.pool("other", &json!({}));
        if !pool.is_null() {
            cluster.pool("general", &pool);
        }
        cluster.has(left_behind("general-1", &json!({})));
        for n in 0..4 {
            cluster.pod(&waiting(&format!("p{n}"), "1", &json!({})));
        }
        let pods = if pool.is_null() { 3 } else { 4 };
        assert_eq!(cluster.round().nominated.len(), pods, "{pool}");
    }
}

/// A node with the provider id of the claim, as kubelet made it: not ready, not registered.
fn joined(more: &Value) -> Value {
    let mut node = json!({
        "metadata": { "labels": { labels::ZONE: "a", labels::HOSTNAME: "n" } },
        "spec": { "taints": [
            { "key": "karpenter.sh/unregistered", "effect": "NoExecute" },
            { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" },
        ] },
        "status": { "conditions": [{ "type": "Ready", "status": "False" }] },
    });
    merge(&mut node, more);
    node
}

/// Registration writes the claim's labels and taints onto the node: until then they count as if they were there.
#[test]
fn before_a_node_is_registered_its_claim_says_what_it_will_be() {
    let claim = |spec: &Value| {
        let mut claim = left_behind(
            "general-1",
            &json!({
                "metadata": { "labels": { "team": "blue" } },
                "status": { "providerID": "id/n", "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "100" } },
            }),
        );
        merge(&mut claim, &json!({ "spec": spec }));
        claim
    };
    let taint = json!([{ "key": "gpu", "effect": "NoSchedule" }]);
    let tolerant = json!({ "spec": { "tolerations": [{ "key": "gpu", "operator": "Exists" }] } });
    let blue = json!({ "spec": { "nodeSelector": { "team": "blue" } } });
    let own_taint = joined(&json!({ "spec": { "taints": [{ "key": "own", "effect": "NoSchedule" }] } }));
    let unsynced = joined(&json!({ "metadata": { "labels": { "karpenter.sh/do-not-sync-taints": "true" } } }));
    let cases = [
        ("nothing keeps it away", json!({}), joined(&json!({})), json!({}), true),
        ("the claim's label", json!({}), joined(&json!({})), blue.clone(), true),
        (
            "the claim's label wins",
            json!({}),
            joined(&json!({ "metadata": { "labels": { "team": "red" } } })),
            blue,
            true,
        ),
        ("the node's own label stays", json!({}), joined(&json!({})), in_zones("In", &["a"]), true),
        ("the claim's taint", json!({ "taints": taint }), joined(&json!({})), json!({}), false),
        ("is tolerated", json!({ "taints": taint }), joined(&json!({})), tolerant.clone(), true),
        ("a startup taint passes", json!({ "startupTaints": taint }), joined(&json!({})), json!({}), true),
        ("the node's own taint stays", json!({}), own_taint, json!({}), false),
        ("kubelet sets the taints", json!({ "taints": taint }), unsynced, json!({}), true),
    ];
    for (rule, spec, node, more, comes) in cases {
        let mut cluster = bare();
        cluster.has(claim(&spec));
        cluster.node("n", &node);
        cluster.pod(&waiting("p", "1", &more));
        let answer = cluster.round();
        assert_eq!(answer.node("p") == Some("n"), comes, "{rule}: {answer:#?}");
    }
}

/// Once it is registered its own taints count, those that pass aside; once it is initialised, all.
#[test]
fn after_registration_the_nodes_own_taints_count() {
    let startup = json!([{ "key": "cni", "effect": "NoSchedule" }]);
    let claim = json!({
        "spec": { "taints": [{ "key": "removed", "effect": "NoSchedule" }], "startupTaints": startup },
        "status": { "providerID": "id/n", "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "100" } },
    });
    for (initialized, comes) in [(false, true), (true, false)] {
        let mut cluster = bare();
        cluster.has(left_behind("general-1", &claim));
        let mut node =
            json!({ "metadata": { "labels": { "karpenter.sh/registered": "true" } }, "spec": { "taints": startup } });
        if initialized {
            node["metadata"]["labels"]["karpenter.sh/initialized"] = json!("true");
        }
        cluster.node("n", &node);
        cluster.pod(&waiting("p", "1", &json!({})));
        assert_eq!(cluster.round().node("p") == Some("n"), comes, "initialised: {initialized}");
    }
}

/// Pods count in the zone that the claim says, though the node does not yet.
#[test]
fn a_spread_counts_pods_in_the_zone_that_the_claim_of_a_node_says() {
    let mut cluster = bare();
    cluster.pod(&waiting("first", "16", &spread(labels::ZONE)));
    let first = cluster.round();
    assert_eq!(first.zones("first"), ["a"]);
    cluster.see(Object::NodeClaim(Box::new(launched(&first.created[0], "a", "16"))));
    cluster.node("n", &joined(&json!({ "metadata": { "labels": { labels::ZONE: "b" } } })));
    cluster.pod(&waiting("second", "16", &spread(labels::ZONE)));
    assert_eq!(cluster.round().zones("second"), ["b"]);
}
