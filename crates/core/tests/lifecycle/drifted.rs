//! A claim is drifted when it is no longer what its pool and its class ask for; which of several reasons is told, and when
//! none is.

use std::collections::BTreeMap;
use std::sync::Arc;

use karpenter_core::cloud::{CapacityType, Drift, InstanceType, Offering};
use karpenter_core::{Requirements, Resources};
use serde_json::{Value, json};

use crate::life::{Life, claim, claim_in_use, merge};

const HOUR: i64 = 3600;

/// A node `n` of the pool `general`, once what the API server is told has been written.
fn life(pool: &Value, claim: &Value) -> Life {
    let mut life = Life::new();
    life.pool("general", pool);
    life.node("n", claim);
    life.pass(1);
    life
}

fn drifted(life: &Life) -> String {
    life.claim_condition("n", "Drifted")
}

fn asks(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({ "spec": { "template": { "spec": {
        "requirements": [{ "key": key, "operator": operator, "values": values }],
    } } } })
}

fn row(name: &str, capacity_type: CapacityType, zone: &str, available: bool) -> Arc<InstanceType> {
    let offering = Offering {
        capacity_type,
        zone: zone.to_owned(),
        zone_id: String::new(),
        price: 1,
        available,
        reservation: None,
        labels: BTreeMap::new(),
    };
    Arc::new(InstanceType {
        name: name.to_owned(),
        requirements: Arc::new(Requirements::default()),
        capacity: Resources::default(),
        allocatable: Resources::default(),
        offerings: vec![offering],
    })
}

#[test]
fn another_template_of_the_pool() {
    let label = |value: &str| json!({ "spec": { "template": { "metadata": { "labels": { "team": value } } } } });
    let mut life = life(&label("a"), &json!({}));
    let hash = |life: &Life| {
        let pool = life.get("NodePool", "general").unwrap();
        pool["metadata"]["annotations"]["karpenter.sh/nodepool-hash"].as_str().unwrap().to_owned()
    };
    life.changes(
        "NodeClaim",
        "n",
        &json!({ "metadata": { "annotations": {
        "karpenter.sh/nodepool-hash": hash(&life), "karpenter.sh/nodepool-hash-version": "v3",
    } } }),
    );
    life.pass(1);
    assert_eq!(drifted(&life), "");
    life.changes("NodePool", "general", &label("b"));
    life.pass(1);
    assert_eq!(drifted(&life), "True NodePoolDrifted");
    life.changes("NodePool", "general", &label("a"));
    life.pass(1);
    assert_eq!(drifted(&life), "", "it is taken back");
    life.changes("NodePool", "general", &label("b"));
    life.changes(
        "NodeClaim",
        "n",
        &json!({ "metadata": { "annotations": { "karpenter.sh/nodepool-hash-version": "v2" } } }),
    );
    life.pass(1);
    assert_eq!(drifted(&life), "", "a hash of another version says nothing");
}

/// They are held against the claim's labels: what its node became, not what it might have become.
#[test]
fn requirements_of_the_pool_that_its_labels_do_not_meet() {
    for (asked, expected) in [
        (asks("team", "In", &["a", "b"]), ""),
        (asks("team", "In", &["b"]), "True RequirementsDrifted"),
        (asks("team", "NotIn", &["a"]), "True RequirementsDrifted"),
        (asks("team", "DoesNotExist", &[]), "True RequirementsDrifted"),
        (asks("other", "In", &["a"]), "True RequirementsDrifted"),
        (asks("other", "Exists", &[]), "True RequirementsDrifted"),
        (asks("other", "NotIn", &["a"]), ""),
        (asks("other", "DoesNotExist", &[]), ""),
    ] {
        let life = life(&asked, &json!({ "metadata": { "labels": { "team": "a" } } }));
        assert_eq!(drifted(&life), expected, "{asked}");
    }
}

#[test]
fn a_type_that_is_not_on_offer_any_more_is_told_after_an_hour() {
    let labels = |capacity_type: &str| {
        json!({ "metadata": { "labels": {
            "node.kubernetes.io/instance-type": "m5.large", "topology.kubernetes.io/zone": "a",
            "karpenter.sh/capacity-type": capacity_type,
        } } })
    };
    let not_found = "True InstanceTypeNotFound";
    let (spot, on_demand) = (CapacityType::Spot, CapacityType::OnDemand);
    for (capacity_type, row, expected) in [
        ("spot", row("m5.large", spot, "a", true), ""),
        ("spot", row("m5.large", spot, "a", false), ""),
        ("spot", row("m5.large", on_demand, "a", true), not_found),
        ("spot", row("m5.large", spot, "b", true), not_found),
        ("spot", row("m5.xlarge", spot, "a", true), not_found),
        ("reserved", row("m5.large", on_demand, "a", true), ""),
        ("reserved", row("m5.large", spot, "a", true), not_found),
    ] {
        let mut life = life(&json!({}), &labels(capacity_type));
        life.pass(2 * HOUR);
        assert_eq!(drifted(&life), "", "the catalogue is not known yet");
        life.has(&young("n", &life, &labels(capacity_type)));
        life.sky.rows = Some(Arc::new([row]));
        life.pass(HOUR - 10);
        assert_eq!(drifted(&life), "", "{capacity_type}: it is too young");
        life.pass(20);
        assert_eq!(drifted(&life), expected, "{capacity_type}");
    }
}

/// The claim as it would be if it had just been made.
fn young(name: &str, life: &Life, more: &Value) -> Value {
    let mut claim = claim_in_use(name, more);
    merge(&mut claim, &json!({ "metadata": { "creationTimestamp": life.now.to_string() } }));
    claim
}

#[test]
fn what_the_cloud_says_comes_last_and_what_it_does_not_know_changes_nothing() {
    let mut life = life(&json!({}), &json!({}));
    life.sky.drift = Some(Drift::Drifted("AMIDrift"));
    life.pass(1);
    assert_eq!(drifted(&life), "True AMIDrift");
    life.sky.drift = Some(Drift::Unknown);
    life.pass(1);
    assert_eq!(drifted(&life), "True AMIDrift");
    life.changes("NodePool", "general", &asks("team", "In", &["a"]));
    life.pass(1);
    assert_eq!(drifted(&life), "True RequirementsDrifted");
    life.changes("NodePool", "general", &asks("team", "NotIn", &["a"]));
    life.pass(1);
    assert_eq!(drifted(&life), "True RequirementsDrifted", "nobody knows whether the cloud agrees");
    life.sky.drift = Some(Drift::None);
    life.pass(1);
    assert_eq!(drifted(&life), "");
}

#[test]
fn neither_a_claim_without_an_instance_nor_one_without_its_pool_is_judged() {
    let at = "2030-01-01T00:00:00Z";
    let drifted_before = |launched: &str| {
        json!({ "status": { "conditions": [
            { "type": "Launched", "status": launched, "reason": "x", "message": "", "lastTransitionTime": at },
            { "type": "Drifted", "status": "True", "reason": "AMIDrift", "message": "AMIDrift", "lastTransitionTime": at },
        ] } })
    };
    let mut unlaunched = Life::new();
    unlaunched.launches = false;
    unlaunched.pool("general", &json!({}));
    unlaunched.has(&claim("n", &drifted_before("Unknown")));
    unlaunched.pass(1);
    assert_eq!(drifted(&unlaunched), "");

    let mut without_pool = Life::new();
    without_pool.has(&claim_in_use("n", &drifted_before("True")));
    without_pool.pass(1);
    assert_eq!(drifted(&without_pool), "True AMIDrift");
}
