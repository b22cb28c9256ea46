//! Pools at their limits leave pods to the next.

use std::sync::Arc;

use karpenter_core::Settings;
use karpenter_core::cloud::InstanceType;
use serde_json::json;

use crate::cluster::{Cluster, kind, waiting};

pub(crate) fn twice_as_dear(kind: &InstanceType) -> Arc<InstanceType> {
    let mut kind = kind.clone();
    for offering in &mut kind.offerings {
        offering.price *= 2;
    }
    Arc::new(kind)
}

/// As cheaply as if the pool that can buy nothing were not there.
#[test]
fn a_pool_at_its_limit_does_not_make_the_next_one_dear() {
    for limits in [json!({ "cpu": "0" }), json!({ "nodes": "0" })] {
        let types = vec![kind("m.4", 4, 16, &[]), twice_as_dear(&kind("big.64", 64, 256, &[]))];
        let mut cluster = Cluster::selling(types, Settings::default());
        cluster.pool("first", &json!({ "weight": 10, "limits": limits }));
        cluster.pool("next", &json!({}));
        for n in 0..60 {
            cluster.pod(&waiting(&format!("p{n}"), "1", &json!({})));
        }
        assert_eq!(cluster.round().buys(), 15, "{limits}");
    }
}

/// What a pool with little room takes is no more than it can hold; the rest is planned for the next one.
#[test]
fn a_pool_that_is_nearly_at_its_limit_does_not_make_the_next_one_dear() {
    let spread = json!({ "metadata": { "labels": { "app": "w" } }, "spec": { "topologySpreadConstraints": [{
        "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "w" } },
    }] } });
    // A spread may leave a node half empty where one pool ends and the next begins.
    for (more, nodes) in [(json!({}), 16..=16), (spread, 16..=17)] {
        for limits in
            [json!({ "cpu": "4" }), json!({ "cpu": "11" }), json!({ "nodes": "3" }), json!({ "memory": "50Gi" })]
        {
            let types = vec![kind("m.4", 4, 16, &[]), twice_as_dear(&kind("big.64", 64, 256, &[]))];
            let mut cluster = Cluster::selling(types, Settings::default());
            cluster.pool("first", &json!({ "weight": 10, "limits": limits }));
            cluster.pool("next", &json!({}));
            for n in 0..64 {
                cluster.pod(&waiting(&format!("p{n}"), "1", &more));
            }
            let bought = cluster.round().buys();
            assert!(nodes.contains(&bought), "{bought} nodes: {limits} {more}");
        }
    }
}
