//! Host ports: two pods with one do not share a node, wherever the first of them is on its way.

use serde_json::{Value, json};

use crate::cluster::{Cluster, node};

/// A pod that takes port 80 of its node.
fn takes_port() -> Value {
    json!({ "containers": [{
        "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }],
        "resources": { "requests": { "cpu": "500m" } },
    }]})
}

fn daemon_with_port() -> Value {
    daemon_named("agent")
}

fn daemon_named(name: &str) -> Value {
    json!({
        "kind": "DaemonSet", "metadata": { "name": name, "namespace": "kube-system" },
        "spec": { "selector": {}, "template": { "spec": takes_port() } },
    })
}

#[test]
fn a_pod_that_is_expected_on_a_node_holds_its_ports_there() {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "a"));
    cluster.waits("first", &takes_port());
    assert_eq!(cluster.round().node("first"), Some("n"));
    cluster.waits("second", &takes_port());
    let answer = cluster.round();
    assert_eq!((answer.node("second"), answer.buys()), (None, 1), "{answer:#?}");
}

#[test]
fn a_pod_that_is_planned_anew_may_have_its_ports_back() {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "a"));
    cluster.waits("first", &takes_port());
    assert_eq!(cluster.round().node("first"), Some("n"));
    assert_eq!(cluster.round_after(30).node("first"), Some("n"));
}

#[test]
fn a_daemon_that_is_still_to_come_holds_its_ports_on_a_node() {
    let mut cluster = Cluster::new();
    cluster.has(node("n", "a"));
    cluster.has(daemon_with_port());
    cluster.waits("app", &takes_port());
    assert_eq!(cluster.round().node("app"), None);
}

/// The types its daemon runs on are not for pods that want its port; the others are.
#[test]
fn a_daemon_s_port_rules_out_the_types_that_it_runs_on() {
    let mut cluster = Cluster::new();
    let mut agent = daemon_with_port();
    agent["spec"]["template"]["spec"]["nodeSelector"] = json!({ "node.kubernetes.io/instance-type": "small" });
    cluster.has(agent);
    cluster.waits("plain", &json!({}));
    cluster.waits("app", &takes_port());
    let answer = cluster.round();
    assert_eq!(answer.types("app"), ["large"], "{answer:#?}");
    assert!(answer.requests("app").iter().all(|name| !name.contains("port")), "a claim asks for real resources");
}

#[test]
fn a_daemon_everywhere_leaves_its_port_to_nobody() {
    let mut cluster = Cluster::new();
    cluster.has(daemon_with_port());
    cluster.waits("app", &takes_port());
    cluster.waits("plain", &json!({}));
    let answer = cluster.round();
    let refusal = answer.refusal("app");
    assert!(refusal.contains("2 removed by a daemon that takes host port TCP/80"), "{refusal}");
    assert_eq!(answer.types("plain"), ["small", "large"]);
}

/// One of the two will wait forever; that is no reason for other pods to.
#[test]
fn daemons_that_want_the_same_port_leave_room_for_pods_that_do_not() {
    let mut cluster = Cluster::new();
    cluster.has(daemon_named("agent"));
    cluster.has(daemon_named("rival"));
    cluster.waits("app", &takes_port());
    cluster.waits("plain", &json!({}));
    let answer = cluster.round();
    assert_eq!(answer.types("plain"), ["small", "large"], "{answer:#?}");
    let refusal = answer.refusal("app");
    assert!(refusal.contains("2 removed by a daemon that takes host port TCP/80"), "{refusal}");
}
