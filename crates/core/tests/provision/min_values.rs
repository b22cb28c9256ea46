//! `minValues`, beside limits and where lists of types are cut.

use std::sync::Arc;

use karpenter_api::labels;
use karpenter_core::settings::MinValuesPolicy;
use karpenter_core::{Requirement, Settings};
use serde_json::{Value, json};

use crate::cluster::{Cluster, kind, waiting};

fn two_types(limits: &Value) -> Value {
    json!({ "limits": limits, "template": { "spec": { "requirements": [
        { "key": labels::INSTANCE_TYPE, "operator": "Exists", "minValues": 2 },
    ] } } })
}

/// A node is charged with the types that its pool wants it to choose from, and filled as if there were no limits.
#[test]
fn pods_share_a_node_under_limits_and_min_values() {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &two_types(&json!({ "cpu": "100" })));
    for n in 0..10 {
        cluster.pod(&waiting(&format!("p{n}"), "100m", &json!({})));
    }
    let answer = cluster.round();
    assert_eq!(answer.buys(), 1, "{answer:#?}");
    assert!(answer.types("p0").len() >= 2, "{answer:#?}");
}

/// The dearer of the two is what the limits are charged with: 8 cores are left for two nodes of 2 or 4 cores.
#[test]
fn limits_hold_for_the_largest_type_that_min_values_want() {
    for (limit, nodes) in [("8", 2), ("7", 1), ("4", 1)] {
        let mut cluster = Cluster::bare();
        cluster.pool("general", &two_types(&json!({ "cpu": limit })));
        for n in 0..4 {
            cluster.pod(&waiting(&format!("p{n}"), "2", &json!({})));
        }
        let answer = cluster.round();
        assert!(answer.buys() <= nodes, "{limit}: {answer:#?}");
    }
    let mut cluster = Cluster::bare();
    cluster.pool("general", &two_types(&json!({ "cpu": "3" })));
    cluster.pod(&waiting("p", "2", &json!({})));
    let refusal = cluster.round().refusal("p");
    assert!(refusal.contains("fewer values of \"node.kubernetes.io/instance-type\" are left"), "{refusal}");
}

/// What cannot be reached under the limits is lowered, and the pods share a node.
#[test]
fn min_values_that_limits_keep_from_being_reached_give_way() {
    let settings = Settings { min_values_policy: MinValuesPolicy::BestEffort, ..Settings::default() };
    let types = [2, 4].map(|cores| kind(&format!("m.{cores}"), cores, cores * 4, &[]));
    let mut cluster = Cluster::selling(types.into(), settings);
    cluster.pool("general", &two_types(&json!({ "cpu": "3" })));
    for n in 0..10 {
        cluster.pod(&waiting(&format!("p{n}"), "100m", &json!({})));
    }
    let answer = cluster.round();
    assert_eq!((answer.buys(), answer.types("p0")), (1, vec!["m.2".to_owned()]), "{answer:#?}");
}

/// Seven hundred types at one price, of which the last alone is of another family.
#[test]
fn the_cut_of_a_long_list_keeps_what_min_values_want() {
    let of_family = |n: usize| {
        let mut one = (*kind(&format!("m.{n:03}"), 2, 8, &[])).clone();
        let family = if n == 699 { "rare" } else { "usual" };
        Arc::make_mut(&mut one.requirements)
            .0
            .insert(labels::INSTANCE_FAMILY.to_owned(), Requirement::one_of([family]));
        Arc::new(one)
    };
    let mut cluster = Cluster::selling((0..700).map(of_family).collect(), Settings::default());
    cluster.pool(
        "general",
        &json!({ "template": { "spec": { "requirements": [
            { "key": labels::INSTANCE_FAMILY, "operator": "Exists", "minValues": 2 },
        ] } } }),
    );
    cluster.pod(&waiting("p", "1", &json!({})));
    let types = cluster.round().types("p");
    assert_eq!((types.len(), types.last().map(String::as_str)), (600, Some("m.699")));
}
