//! Every pod without a place is told why, whatever is wrong, in a line of bounded length.

use std::time::Instant;

use karpenter_core::provision::{Constraint, Reason, Verdict};
use karpenter_core::{Object, Settings};
use serde_json::{Value, json};

use crate::cluster::{Cluster, kind, merge, pool, running, waiting};

/// What a pod is told in a cluster with one pool, called general.
fn told(pool: &Value, pod: &Value) -> String {
    let mut cluster = Cluster::bare();
    cluster.pool("general", pool);
    cluster.pod(pod);
    cluster.round();
    cluster.told("p")
}

fn requiring(requirements: &Value) -> Value {
    json!({ "template": { "spec": { "requirements": requirements } } })
}

fn selecting(selector: &Value) -> Value {
    waiting("p", "1", &json!({ "spec": { "nodeSelector": selector } }))
}

fn needs(expressions: &Value) -> Value {
    let terms = json!([{ "matchExpressions": expressions }]);
    waiting(
        "p",
        "1",
        &json!({ "spec": { "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
    } } } }),
    )
}

#[test]
fn a_pod_is_told_what_rules_each_pool_out() {
    let usual = json!({});
    let spread = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": "topology.kubernetes.io/zone", "labelSelector": { "matchLabels": { "no": "one" } } },
        ],
    } } } });
    let taint =
        json!({ "template": { "spec": { "taints": [{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }] } } });
    let few = requiring(&json!([
        { "key": "node.kubernetes.io/instance-type", "operator": "Exists", "minValues": 2 },
    ]));
    let gone = selecting(&json!({ "topology.kubernetes.io/zone": "c" }));
    for (pool, pod, expected) in [
        (
            &usual,
            waiting("p", "100", &json!({})),
            "no instance type is left of 4, 4 removed by resources (cpu: asked for 100, the largest has 16)",
        ),
        (&usual, gone, "4 removed by requirements (\"topology.kubernetes.io/zone\": [c])"),
        (
            &usual,
            selecting(&json!({ "example.com/rack": "seven" })),
            "label \"example.com/rack\": the pod asks for [seven], the nodepool has none of it",
        ),
        (&usual, selecting(&json!({ "karpenter.sh/nodepool": "other" })), "label \"karpenter.sh/nodepool\""),
        (&taint, waiting("p", "1", &json!({})), "did not tolerate taint gpu=yes:NoSchedule"),
        (
            &json!({ "limits": { "cpu": "1" } }),
            waiting("p", "1", &json!({})),
            "4 removed by the nodepool's limits (cpu)",
        ),
        (&json!({ "limits": { "nodes": "0" } }), waiting("p", "1", &json!({})), "its limit of nodes is reached"),
        (
            &few,
            waiting("p", "15", &json!({})),
            "fewer values of \"node.kubernetes.io/instance-type\" are left than its minValues",
        ),
        (&usual, waiting("p", "1", &spread), "no domain of \"topology.kubernetes.io/zone\" is open"),
    ] {
        let line = told(pool, &pod);
        assert!(line.starts_with("incompatible with nodepool \"general\": ") && line.contains(expected), "{line}");
    }
}

/// Nine constraints would be too many for a line; each is counted all the same.
#[test]
fn the_tree_says_how_many_types_each_constraint_removed() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({ "limits": { "cpu": "4" } }));
    cluster.pod(&waiting("p", "3", &json!({})));
    cluster.pod(&waiting("q", "4", &json!({})));
    cluster.round();
    let said: Vec<_> = cluster.world.unschedulable.values().collect();
    let [Verdict::ByPool(tree)] = said[..] else { panic!("one pod has no place: {said:?}") };
    let Reason::Types { removed, more: 0, of: 4 } = &tree.branches[0].reason else { panic!("{tree:?}") };
    let counted: Vec<_> =
        removed.iter().map(|(constraint, count)| (matches!(constraint, Constraint::Limit(_)), *count)).collect();
    assert_eq!(counted, [(true, 3), (false, 1)], "three are beyond what is left of the limit, one is too small");
}

#[test]
fn a_pod_learns_that_no_pool_can_buy_anything_and_why() {
    let mut cluster = Cluster::bare();
    cluster.pod(&waiting("p", "1", &json!({})));
    cluster.round();
    assert_eq!(cluster.told("p"), "there is no nodepool that takes pods");

    cluster.pool("arm", &requiring(&json!([{ "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] }])));
    cluster.round();
    assert_eq!(
        cluster.told("p"),
        "incompatible with nodepool \"arm\": the nodepool's requirements exclude all 4 instance types"
    );

    let mut late = pool("late", &json!({}));
    late.status = None;
    cluster.see(Object::NodePool(Box::new(late)));
    cluster.round();
    assert!(
        cluster.told("p").contains("incompatible with nodepool \"late\": it is not ready"),
        "{}",
        cluster.told("p")
    );

    let mut empty = Cluster::selling(Vec::new(), Settings::default());
    empty.pool("general", &json!({}));
    empty.pod(&waiting("p", "1", &json!({})));
    empty.round();
    assert_eq!(empty.told("p"), "incompatible with nodepool \"general\": no instance types are on offer");
}

/// Beside a pool that only lacks room, those that can buy nothing are told of as well.
#[test]
fn pools_with_the_same_reason_share_a_branch() {
    let mut cluster = Cluster::bare();
    for n in 0..5 {
        cluster.pool(&format!("plain-{n}"), &json!({}));
        cluster.pool(&format!("full-{n}"), &json!({ "limits": { "nodes": "0" } }));
    }
    cluster.pool("arm", &requiring(&json!([{ "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] }])));
    cluster.pod(&waiting("p", "100", &json!({})));
    cluster.round();
    let line = cluster.told("p");
    for part in [
        "incompatible with nodepools \"plain-4\", \"plain-3\", \"plain-2\" and 2 more: no instance type is left of 4",
        "incompatible with nodepools \"full-4\", \"full-3\", \"full-2\" and 2 more: its limit of nodes is reached",
        "incompatible with nodepool \"arm\": the nodepool's requirements exclude",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_line_never_outgrows_an_event() {
    let mut cluster = Cluster::bare();
    for n in 0..60 {
        let taint = json!([{ "key": format!("{}/{n}", "long.".repeat(40)), "effect": "NoSchedule" }]);
        cluster.pool(&format!("{n}-{}", "p".repeat(60)), &json!({ "template": { "spec": { "taints": taint } } }));
    }
    cluster.pod(&waiting("p", "1", &json!({})));
    cluster.round();
    let line = cluster.told("p");
    assert!(line.len() <= 1024, "{} bytes: {line}", line.len());
    let Some(Verdict::ByPool(tree)) = cluster.world.unschedulable.values().next() else { panic!("no verdict") };
    assert_eq!((tree.branches.len(), tree.more), (5, 55));
}

#[test]
fn bad_input_ends_in_a_verdict() {
    let expression = |operator: &str, values: Value| {
        let mut one = json!({ "key": "kubernetes.io/arch", "operator": operator });
        merge(&mut one, &json!({ "values": values }));
        one
    };
    let taken =
        json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 1, "hostPort": 99999 }] }] } });
    for (pod, expected) in [
        (waiting("p", "a lot", &json!({})), "resources (cpu"),
        (waiting("p", "99999999999999999999999999E", &json!({})), "resources (cpu"),
        (
            needs(&json!([expression("In", json!(["amd64"])), expression("NotIn", json!(["amd64"]))])),
            "kubernetes.io/arch",
        ),
        (needs(&json!([expression("In", json!([]))])), "kubernetes.io/arch"),
        (
            needs(&json!([expression("Exists", Value::Null), expression("DoesNotExist", Value::Null)])),
            "kubernetes.io/arch",
        ),
        (needs(&json!([expression("Gt", json!(["many"]))])), "cannot be planned"),
        (needs(&json!([expression("Gt", json!(["1", "2"]))])), "cannot be planned"),
        (needs(&json!([expression("Near", json!(["1"]))])), "found operator \"Near\""),
        (needs(&json!([])), "cannot be planned"),
        (selecting(&json!({ "nobody.example.com/has": "this" })), "nobody.example.com/has"),
        (selecting(&json!({ "": "" })), "the pod asks for"),
        (waiting("p", "-99999999999999999999E", &json!({})), ""),
        (waiting("p", "1", &taken), ""),
    ] {
        let line = told(&json!({}), &pod);
        assert!(line.contains(expected) && (!line.is_empty() || expected.is_empty()), "{pod}: {line}");
    }
}

#[test]
fn a_port_that_is_taken_everywhere_is_no_reason_to_be_silent() {
    let port =
        json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] } });
    let mut cluster = Cluster::bare();
    cluster.node("n", &json!({}));
    cluster.pod(&running("other", "1", "n", &port));
    cluster.pool("general", &json!({ "limits": { "nodes": "0" } }));
    cluster.pod(&waiting("p", "1", &port));
    cluster.round();
    assert!(cluster.told("p").contains("its limit of nodes is reached"), "{}", cluster.told("p"));
}

/// Many pools, and twenty kinds of pods that fit nowhere.
#[test]
fn ten_thousand_pools_are_explained_in_time() {
    let explained = |pools: usize| {
        let types: Vec<_> = (1..=100).map(|n| kind(&format!("m.{n}"), n, n * 4, &[])).collect();
        let mut cluster = Cluster::selling(types, Settings::default());
        for n in 0..pools {
            cluster.pool(&format!("pool-{n}"), &json!({}));
        }
        for n in 0..20 {
            cluster.pod(&waiting(&format!("p{n}"), &format!("{}", 1000 + n), &json!({})));
        }
        let began = Instant::now();
        let round = cluster.round();
        let took = began.elapsed();
        println!("{pools} pools, 100 types, 20 classes without a place: {took:?}");
        assert_eq!(round.unschedulable.len(), 20);
        let rest = format!("and {} more: no instance type is left of 100, 100 removed by resources", pools - 3);
        assert!(cluster.told("p7").contains(&rest), "{}", cluster.told("p7"));
        took
    };
    // Linear would be ten times as long; a machine that has other things to do measures badly.
    let (few, many) = (explained(1_000), explained(10_000));
    assert!(many < few * 30, "1,000 pools took {few:?}, 10,000 took {many:?}");
}
