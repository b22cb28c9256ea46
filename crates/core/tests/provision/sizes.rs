//! Pods of very many sizes are all part of a plan.

use karpenter_core::Settings;
use serde_json::json;

use crate::cluster::{Cluster, kind, waiting};
use crate::limits::twice_as_dear;

/// One type is worth its price and the other is not: whoever is in no plan is bought the larger one.
#[test]
fn a_pod_of_a_size_of_its_own_is_planned_as_well_as_many_of_one() {
    for sizes in [300, 3_000] {
        let types = vec![kind("m.4", 4, 16, &[]), twice_as_dear(&kind("big.64", 64, 256, &[]))];
        let mut cluster = Cluster::selling(types, Settings::default());
        cluster.pool("general", &json!({}));
        let milli = |size: i64| 100 + size * 700 / sizes;
        for size in 0..sizes {
            cluster.pod(&waiting(
                &format!("p{size}"),
                &format!("{}m", milli(size)),
                &json!({
                    "metadata": { "labels": { "size": size.to_string() } },
                    "spec": { "containers": [{ "name": "c", "resources": { "requests": {
                        "cpu": format!("{}m", milli(size)), "memory": format!("{}Ki", 4_096 * milli(size) - size % 64),
                    } } }] },
                }),
            ));
        }
        let bought = i64::try_from(cluster.round().buys()).unwrap();
        // Of 4 cores each, full but for one in twenty.
        let least = (0..sizes).map(milli).sum::<i64>() / 4_000;
        assert!(bought * 20 <= least * 21 + 20 && bought >= least, "{sizes}: {bought} nodes, {least} at least");
    }
}
