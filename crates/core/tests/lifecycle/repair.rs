//! A node that is broken for too long is replaced, unless too many are.

use jiff::SignedDuration;
use karpenter_core::cloud::{Impairment, RepairPolicy};
use karpenter_core::{Fact, Observation};
use serde_json::{Value, json};

use crate::life::{Life, pod};

/// So many nodes, `n0` and on, of which so many say that their disks are broken since the start.
fn life(nodes: usize, broken: usize, claim: &Value) -> Life {
    let mut life = Life::new();
    life.settings.node_repair = true;
    let policy =
        |condition, status, minutes| RepairPolicy { condition, status, toleration: SignedDuration::from_mins(minutes) };
    life.sky.policies = vec![policy("Ready", "False", 30), policy("DiskReady", "False", 10)];
    for number in 0..nodes {
        life.node(&format!("n{number}"), claim);
    }
    for number in 0..broken {
        breaks(&mut life, &format!("n{number}"), "DiskReady", "False");
    }
    life
}

fn breaks(life: &mut Life, node: &str, condition: &str, status: &str) {
    let since = life.now.to_string();
    let conditions = json!([
        { "type": "Ready", "status": "True", "lastTransitionTime": since },
        { "type": condition, "status": status, "lastTransitionTime": since },
    ]);
    life.changes("Node", node, &json!({ "status": { "conditions": conditions } }));
}

#[test]
fn a_broken_node_is_borne_for_a_while_and_then_replaced_without_regard_for_its_pods() {
    let mut life = life(1, 1, &json!({ "spec": { "terminationGracePeriod": "24h" } }));
    let keep = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
    life.has(&pod("p", "n0", &keep));
    life.pass(599);
    assert_eq!(life.done(&["delete"]), [""; 0]);
    life.pass(10);
    assert_eq!(life.done(&["delete", "gone N"])[..2], ["delete NodeClaim n0", "delete Node n0"]);
    assert!(life.done(&["delete"]).contains(&"delete Pod p within 1 s".to_owned()), "{:?}", life.journal);
    assert_eq!(life.done(&["gone N"]), ["gone Node n0", "gone NodeClaim n0"]);
    let reasons = life.facts.iter().filter_map(|fact| match fact {
        Fact::ClaimDisrupted { reason, .. } => Some(*reason),
        Fact::ClaimUnhealthy { condition, .. } => Some(*condition),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["DiskReady", "unhealthy"]);
}

#[test]
fn only_the_very_status_counts_and_a_node_that_recovers_is_kept() {
    let mut life = life(1, 0, &json!({}));
    breaks(&mut life, "n0", "DiskReady", "Unknown");
    life.pass(3600);
    breaks(&mut life, "n0", "DiskReady", "False");
    life.pass(590);
    breaks(&mut life, "n0", "DiskReady", "True");
    life.pass(3600);
    assert_eq!(life.done(&["delete"]), [""; 0]);
}

#[test]
fn nothing_is_repaired_without_the_feature_gate() {
    let mut life = life(1, 1, &json!({}));
    life.settings.node_repair = false;
    life.pass(86_400);
    assert_eq!(life.done(&["delete"]), [""; 0]);
}

/// 20 %, rounded up: one of one to five, two of six to ten, three of eleven.
#[test]
fn a_pool_in_which_more_than_a_fifth_is_broken_is_left_alone() {
    for (nodes, most) in [(1, 1), (5, 1), (6, 2), (10, 2), (11, 3)] {
        for broken in most..=(most + 1).min(nodes) {
            let mut life = life(nodes, broken, &json!({}));
            life.pass(700);
            let repaired = life.done(&["delete NodeClaim"]).len();
            assert_eq!(repaired, if broken <= most { broken } else { 0 }, "{broken} of {nodes}");
            assert_eq!(life.told("NodeRepairBlocked").is_empty(), broken <= most, "{broken} of {nodes}");
        }
    }
}

#[test]
fn a_pool_is_judged_by_itself() {
    let mut life = life(3, 2, &json!({}));
    for name in ["n0", "n2"] {
        let other = json!({ "metadata": { "labels": { "karpenter.sh/nodepool": "other" } } });
        life.changes("NodeClaim", name, &other);
        life.changes("Node", name, &other);
    }
    life.pass(700);
    assert_eq!(life.done(&["delete NodeClaim"]), ["delete NodeClaim n0", "delete NodeClaim n1"]);
}

/// The cloud's own word needs no feature gate.
#[test]
fn an_instance_that_the_cloud_found_broken_is_replaced_without_regard_for_its_pods() {
    for is_broken in [true, false] {
        let mut life = life(2, 0, &json!({ "spec": { "terminationGracePeriod": "24h" } }));
        life.settings.node_repair = false;
        life.has(&pod("p", "n0", &json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } })));
        life.pass(10);
        let id = life.world.claims["n0"].provider_id().unwrap().to_owned();
        let found = Impairment { category: "system_status", is_broken, message: "it is".to_owned() };
        life.world.apply(Observation::Impaired([(id, found)].into()), life.now);
        life.pass(20);
        let expelled = life.done(&["delete Pod"]);
        assert_eq!(
            expelled.first().map(String::as_str),
            is_broken.then_some("delete Pod p within 1 s"),
            "{:?}",
            life.journal
        );
        let gone = if is_broken { vec!["gone Node n0", "gone NodeClaim n0"] } else { vec![] };
        assert_eq!(life.done(&["gone N"]), gone, "what is only announced lets pods leave in their own time");
        assert_eq!(life.done(&["delete NodeClaim"]), ["delete NodeClaim n0"]);
        let told = life.facts.iter().filter_map(|fact| match fact {
            Fact::ClaimDisrupted { reason, .. } => Some(*reason),
            Fact::ClaimImpaired { category, .. } => Some(*category),
            Fact::Event { reason: reason @ "InstanceUnhealthy", object, .. } => {
                assert!(["Node", "NodeClaim"].contains(&object.kind));
                Some(*reason)
            }
            _ => None,
        });
        let all = ["InstanceUnhealthy", "InstanceUnhealthy", "system_status", "system_status"];
        assert_eq!(told.collect::<Vec<_>>(), all);
    }
}
