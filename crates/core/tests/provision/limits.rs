//! Pools at their limits leave pods to the next.

use std::sync::Arc;

use karpenter_core::Settings;
use karpenter_core::cloud::InstanceType;
use serde_json::json;

use crate::cluster::{Cluster, kind, waiting};

fn twice_as_dear(kind: &InstanceType) -> Arc<InstanceType> {
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
