//! A node that is deleted is drained, its volumes are detached, its instance ends, and then it is gone.

use karpenter_core::lifecycle::EVICTIONS_AT_ONCE;
use serde_json::{Value, json};

use crate::life::{Life, claim_in_use, merge, node, owned, pod};

/// A node `n` with these pods, whose claim is being deleted.
fn ending(claim: &Value, pods: &[Value]) -> Life {
    let mut life = Life::new();
    life.node("n", claim);
    for pod in pods {
        life.has(pod);
    }
    life.deletes("NodeClaim", "n");
    life
}

fn grace(text: &str) -> Value {
    json!({ "spec": { "terminationGracePeriod": text } })
}

fn annotated(key: &str, value: &str) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

fn with(mut base: Value, more: &Value) -> Value {
    merge(&mut base, more);
    base
}

const KEEP: &str = "karpenter.sh/do-not-disrupt";

#[test]
fn an_empty_node_is_gone_after_five_seconds() {
    let mut life = ending(&json!({}), &[]);
    life.pass(4);
    assert_eq!(life.claim_condition("n", "Drained"), "Unknown Draining");
    assert_eq!(life.done(&["terminate"]), [""; 0]);
    life.pass(2);
    assert_eq!(life.done(&["terminate", "gone"]), ["terminate id/n", "gone Node n", "gone NodeClaim n"]);
}

#[test]
fn the_node_is_shut_before_anything_leaves() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated(KEEP, "true"))]);
    let other = json!({ "spec": { "taints": [
        { "key": "karpenter.sh/disrupted", "effect": "NoExecute" }, { "key": "own", "effect": "NoSchedule" },
    ] } });
    life.changes("Node", "n", &other);
    life.pass(1);
    let node = life.get("Node", "n").unwrap();
    let taints = json!([
        { "key": "own", "effect": "NoSchedule" }, { "key": "karpenter.sh/disrupted", "effect": "NoSchedule" },
    ]);
    assert_eq!(node["spec"]["taints"], taints, "the same key with another effect is replaced");
    assert_eq!(node["metadata"]["labels"]["node.kubernetes.io/exclude-from-external-load-balancers"], "karpenter");
}

#[test]
fn pods_leave_in_groups() {
    let class = |name: &str| json!({ "spec": { "priorityClassName": name } });
    let daemon = owned("apps/v1", "DaemonSet");
    let mut life = ending(
        &json!({}),
        &[
            pod("critical-daemon", "n", &with(daemon.clone(), &class("system-node-critical"))),
            pod("critical", "n", &class("system-cluster-critical")),
            pod("critical-2", "n", &class("system-node-critical")),
            pod("daemon", "n", &with(daemon, &class("my-own-critical"))),
            pod("plain", "n", &annotated("ends", "slow")),
            pod("large", "n", &json!({ "spec": { "priority": 2_000_000_000 } })),
        ],
    );
    life.pass(29);
    assert_eq!(life.done(&["evict"]), ["evict large", "evict plain"], "one that takes its time holds the next group");
    life.pass(2);
    let rest = ["evict daemon", "evict critical", "evict critical-2", "evict critical-daemon"];
    assert_eq!(life.done(&["evict"])[2..], rest);
}

#[test]
fn static_pods_pods_that_tolerate_the_end_and_pods_that_ended_are_left_alone() {
    let tolerates = |toleration: Value| json!({ "spec": { "tolerations": [toleration] } });
    let mut life = ending(
        &json!({}),
        &[
            pod("static", "n", &owned("v1", "Node")),
            pod("tolerant", "n", &tolerates(json!({ "operator": "Exists" }))),
            pod("exact", "n", &tolerates(json!({ "key": "karpenter.sh/disrupted", "operator": "Exists" }))),
            pod("done", "n", &json!({ "status": { "phase": "Succeeded" } })),
            pod("other", "n", &tolerates(json!({ "key": "karpenter.sh/disrupted", "effect": "NoExecute" }))),
        ],
    );
    life.pass(6);
    assert_eq!(life.done(&["evict", "terminate"]), ["evict other", "terminate id/n"]);
}

#[test]
fn a_budget_that_blocks_is_asked_again_at_growing_intervals_of_at_most_ten_seconds() {
    let mut life = ending(&json!({}), &[pod("p", "n", &json!({}))]);
    life.held.insert("p".into());
    life.pass(60);
    let times: Vec<f64> =
        life.journal.iter().filter_map(|line| line.strip_suffix(" blocked p")?.parse().ok()).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] >= pair[0] - 0.001), "{gaps:?}");
    assert!((0.09..0.2).contains(&gaps[0]) && gaps.iter().all(|gap| *gap <= 10.001), "{gaps:?}");
    assert!(times.len() >= 10, "{times:?}");
    assert_eq!(life.done(&["terminate"]), [""; 0]);

    life.held.clear();
    life.pass(20);
    assert_eq!(life.done(&["evict", "gone"]), ["evict p", "gone Pod p", "gone Node n", "gone NodeClaim n"]);
}

#[test]
fn a_pod_that_must_not_be_disrupted_holds_the_drain() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated(KEEP, "true")), pod("q", "n", &json!({}))]);
    life.pass(3600);
    assert_eq!(life.done(&["evict", "terminate"]), ["evict q"]);
    life.changes("Pod", "p", &json!({ "metadata": { "annotations": { KEEP: null } } }));
    life.pass(10);
    assert_eq!(life.done(&["evict", "terminate"]), ["evict q", "evict p", "terminate id/n"]);
}

#[test]
fn a_pod_that_must_not_be_disrupted_for_a_while_leaves_after_it() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated(KEEP, "10m"))]);
    life.pass(599);
    assert_eq!(life.done(&["evict"]), [""; 0]);
    assert_eq!(life.told("DoNotDisruptUntil"), ["Pod p: Pod must not be disrupted until 2030-01-01T00:10:00Z"]);
    life.pass(2);
    assert!((life.second("evict p") - 600.0).abs() < 0.1, "{:?}", life.journal);
}

#[test]
fn what_is_neither_true_nor_a_duration_protects_nothing() {
    for value in ["false", "yes", "-5m", "0s", ""] {
        let mut life = ending(&json!({}), &[pod("p", "n", &annotated(KEEP, value))]);
        life.pass(2);
        assert_eq!(life.done(&["evict"]), ["evict p"], "{value:?}");
        assert_eq!(life.told("InvalidDoNotDisruptAnnotation").len(), 1, "{value:?}");
    }
}

#[test]
fn a_pod_that_has_not_started_has_its_time_before_it() {
    let mut young = pod("p", "n", &annotated(KEEP, "1m"));
    merge(&mut young, &json!({ "status": { "startTime": null } }));
    let mut life = ending(&json!({}), &[young]);
    life.pass(600);
    assert_eq!(life.done(&["evict"]), [""; 0]);
}

#[test]
fn a_pod_that_is_stuck_is_not_waited_for_longer_than_a_minute() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated("ends", "stuck"))]);
    life.pass(89);
    assert_eq!(life.done(&["terminate"]), [""; 0], "30 s of grace and a minute");
    life.pass(3);
    assert_eq!(life.done(&["terminate"]), ["terminate id/n"]);
}

#[test]
fn a_claim_gets_its_deadline_once_and_keeps_what_it_has() {
    let stamp = "karpenter.sh/nodeclaim-termination-timestamp";
    let deadline = |life: &Life| life.get("NodeClaim", "n").unwrap()["metadata"]["annotations"][stamp].clone();
    let kept =
        pod("p", "n", &with(annotated(KEEP, "true"), &json!({ "spec": { "terminationGracePeriodSeconds": 5 } })));
    let mut life = ending(&grace("1h"), std::slice::from_ref(&kept));
    life.pass(1);
    assert_eq!(deadline(&life), "2030-01-01T01:00:00Z");
    let told = life.told("TerminationGracePeriodExpiring");
    assert!(told.iter().any(|one| one.starts_with("NodeClaim n: ")), "{told:?}");
    assert!(told.iter().any(|one| one.starts_with("Node n: ")), "{told:?}");

    let earlier = with(grace("1h"), &annotated(stamp, "2030-01-01T00:10:00Z"));
    let mut life = ending(&earlier, &[kept]);
    life.pass(500);
    assert_eq!(deadline(&life), "2030-01-01T00:10:00Z");
}

#[test]
fn a_deadline_deletes_pods_in_time_for_their_own_grace_whatever_holds_them() {
    let needs = |seconds: i64| json!({ "spec": { "terminationGracePeriodSeconds": seconds } });
    let mut life = ending(
        &grace("10m"),
        &[
            pod("kept", "n", &with(needs(60), &annotated(KEEP, "true"))),
            pod("budget", "n", &with(needs(120), &annotated("ends", "slow"))),
            // Critical: its turn would come after the others.
            pod("late", "n", &with(needs(300), &json!({ "spec": { "priorityClassName": "system-node-critical" } }))),
        ],
    );
    life.held.extend(["budget".into(), "late".into()]);
    life.pass(700);
    assert_eq!(
        life.done(&["delete Pod", "terminate"]),
        [
            "delete Pod late within 299 s",
            "delete Pod budget within 119 s",
            "delete Pod kept within 59 s",
            "terminate id/n"
        ]
    );
    assert!((life.second("delete Pod late within 299 s") - 300.0).abs() < 0.1);
    assert!(life.second("terminate id/n") < 602.0, "{:?}", life.journal);
}

/// A preStop hook longer than the node's own time: the pod is deleted at once, with what is left.
#[test]
fn a_pod_that_needs_longer_than_there_is_gets_what_there_is() {
    let slow = with(annotated("ends", "slow"), &json!({ "spec": { "terminationGracePeriodSeconds": 3600 } }));
    let mut life = ending(&grace("20s"), &[pod("p", "n", &slow)]);
    life.pass(25);
    assert_eq!(life.done(&["delete Pod", "evict"]), ["delete Pod p within 20 s"]);
    assert!((20.0..22.0).contains(&life.second("gone Pod p")), "{:?}", life.journal);
}

/// Whoever was evicted in time for his own end, but not for a deadline that came later, is asked to hurry, once.
#[test]
fn a_pod_that_is_on_its_way_is_hurried_once() {
    let slow = with(annotated("ends", "stuck"), &json!({ "spec": { "terminationGracePeriodSeconds": 3600 } }));
    let mut life = ending(&json!({}), &[pod("p", "n", &slow)]);
    life.pass(5);
    assert_eq!(life.done(&["evict"]), ["evict p"]);
    let stamp = json!({ "metadata": { "annotations": { "karpenter.sh/nodeclaim-termination-timestamp": "2030-01-01T00:01:00Z" } } });
    life.changes("NodeClaim", "n", &stamp);
    life.pass(50);
    assert_eq!(life.done(&["delete Pod"]), ["delete Pod p within 55 s"]);
    life.pass(120);
    assert_eq!(
        life.done(&["delete Pod", "terminate"]),
        ["delete Pod p within 55 s", "terminate id/n"],
        "stuck in the end"
    );
}

fn attached(name: &str, source: &Value) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": { "name": name },
        "spec": { "attacher": "ebs.csi.aws.com", "nodeName": "n", "source": source },
    })
}

#[test]
fn the_instance_outlives_its_volumes() {
    let mut life = ending(&json!({}), &[]);
    life.has(&attached("a", &json!({ "persistentVolumeName": "pv" })));
    life.pass(120);
    assert_eq!(life.claim_condition("n", "Drained"), "True Drained");
    assert_eq!(life.claim_condition("n", "VolumesDetached"), "Unknown AwaitingVolumeDetachment");
    assert_eq!(life.told("AwaitingVolumeDetachment"), ["Node n: Awaiting deletion of 1 VolumeAttachments"]);
    assert_eq!(life.done(&["terminate"]), [""; 0]);
    life.ends_slowly = true;
    life.vanishes("VolumeAttachment", "a");
    life.pass(1);
    assert_eq!(life.claim_condition("n", "VolumesDetached"), "True VolumesDetached");
    assert_eq!(life.claim_condition("n", "InstanceTerminating"), "True InstanceTerminating");
    life.pass(6);
    assert_eq!(
        life.done(&["terminate", "gone N"]),
        ["terminate id/n", "terminate id/n", "gone Node n", "gone NodeClaim n"]
    );
}

#[test]
fn volumes_are_given_up_at_the_deadline() {
    let mut life = ending(&grace("1m"), &[]);
    life.ends_slowly = true;
    life.has(&attached("a", &json!({ "persistentVolumeName": "pv" })));
    life.pass(60);
    assert_eq!(life.done(&["terminate"]), [""; 0], "after the deadline, not at it");
    life.pass(1);
    assert_eq!(life.claim_condition("n", "VolumesDetached"), "False TerminationGracePeriodElapsed");
    assert_eq!(life.done(&["terminate"]), ["terminate id/n"]);
}

#[test]
fn volumes_that_nobody_will_detach_are_not_waited_for() {
    let mounts = json!({ "spec": { "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }] } });
    let tolerant = json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } });
    let mut life = ending(&json!({}), &[pod("agent", "n", &with(mounts, &tolerant))]);
    life.has(&json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": "default" },
        "spec": { "volumeName": "pv" },
    }));
    life.has(&attached("of-agent", &json!({ "persistentVolumeName": "pv" })));
    life.has(&attached("inline", &json!({ "inlineVolumeSpec": {} })));
    life.pass(6);
    assert_eq!(life.done(&["terminate"]), ["terminate id/n"]);
}

#[test]
fn a_node_that_is_deleted_takes_its_claim_along() {
    let mut life = Life::new();
    life.node("n", &json!({}));
    life.deletes("Node", "n");
    life.pass(7);
    assert_eq!(life.done(&["delete", "gone"]), ["delete NodeClaim n", "gone Node n", "gone NodeClaim n"]);
}

#[test]
fn a_claim_without_instance_is_gone_at_once_and_one_without_node_ends_its_instance() {
    let mut life = Life::new();
    let unlaunched = json!({ "status": { "providerID": null, "conditions": [] } });
    life.has(&claim_in_use("bare", &unlaunched));
    life.has(&claim_in_use("launched", &json!({})));
    life.instances.insert("id/launched".into());
    life.deletes("NodeClaim", "bare");
    life.deletes("NodeClaim", "launched");
    life.pass(1);
    let done = life.done(&["terminate", "gone"]);
    assert_eq!(done, ["terminate id/launched", "gone NodeClaim bare", "gone NodeClaim launched"]);
}

#[test]
fn a_node_whose_instance_is_gone_is_not_drained() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated("ends", "stuck"))]);
    life.changes("Node", "n", &json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }));
    life.pass(1);
    assert_eq!(life.done(&["gone"]), [""; 0], "nobody has said so yet");
    life.instances.clear();
    life.lists_instances();
    life.pass(1);
    assert_eq!(life.done(&["gone"]), ["gone Node n", "gone NodeClaim n"]);
    assert_eq!(life.done(&["evict"]).len(), 1, "only before it was known");
}

#[test]
fn a_node_that_is_ready_is_drained_whatever_the_cloud_says() {
    let mut life = ending(&json!({}), &[pod("p", "n", &annotated(KEEP, "true"))]);
    life.pass(1);
    life.instances.clear();
    life.lists_instances();
    life.pass(60);
    assert_eq!(life.done(&["gone"]), [""; 0]);
}

#[test]
fn other_finalizers_stay() {
    let mut life = Life::new();
    life.has(&claim_in_use("n", &json!({})));
    life.has(&node("n", &json!({ "metadata": { "finalizers": ["mine", "karpenter.sh/termination", "yours"] } })));
    life.deletes("NodeClaim", "n");
    life.pass(10);
    assert_eq!(life.get("Node", "n").unwrap()["metadata"]["finalizers"], json!(["mine", "yours"]));
}

/// Whoever has waited longest is asked first; those that a budget blocks do not keep others from their turn.
#[test]
fn many_leave_at_once_but_never_more_than_there_is_room_for() {
    let mut life = Life::new();
    life.node("n", &json!({}));
    for number in 0..300 {
        life.has(&pod(&format!("p{number:03}"), "n", &json!({})));
    }
    life.held = (0..200).map(|number| format!("p{number:03}")).collect();
    life.deletes("NodeClaim", "n");
    life.rate = Some(1000);
    life.pass(3);
    assert_eq!(life.most_at_once, EVICTIONS_AT_ONCE);
    assert_eq!(life.done(&["evict"]).len(), 100);
}

/// The client's rate is the only limit: no pod waits while there is room for a write, and no more than so many are asked
/// at a time.
#[test]
fn many_nodes_are_drained_in_parallel_as_fast_as_the_client_may_write() {
    let mut life = Life::new();
    for on in 0..30 {
        life.node(&format!("n{on:02}"), &json!({}));
        for number in 0..20 {
            life.has(&pod(&format!("p{on:02}-{number:02}"), &format!("n{on:02}"), &json!({})));
        }
    }
    life.rate = Some(200);
    for on in 0..30 {
        life.deletes("NodeClaim", &format!("n{on:02}"));
    }
    life.pass(60);
    assert_eq!(life.done(&["gone NodeClaim"]).len(), 30);
    let (evictions, writes) = (life.done(&["evict"]).len(), life.done(&["evict", "patch", "delete"]).len());
    assert_eq!(evictions, 600, "each once");
    assert!(writes < 960, "{writes} writes for {evictions} evictions");
    assert!((100..=EVICTIONS_AT_ONCE).contains(&life.most_at_once), "{}", life.most_at_once);
    let evicted: Vec<f64> = life.journal.iter().filter_map(|line| line.split_once(" evict ")?.0.parse().ok()).collect();
    let took = evicted.iter().copied().fold(0.0, f64::max) - evicted[0];
    assert!(took < 4.2, "{took} s for 600 evictions and what goes with them, at 200 a second");
}
