//! Time grows with what there is to decide, not with its square.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, waiting};

/// So many Deployments of two pods each, that keep apart from one another and are spread over zones.
fn deployments(count: usize) -> Duration {
    let mut cluster = Cluster::bare();
    cluster.pool("general", &json!({}));
    for app in 0..count {
        for pod in 0..2 {
            let selector = json!({ "matchLabels": { "app": format!("app-{app}"), "stage": "prod" } });
            cluster.pod(&waiting(
                &format!("p{app}-{pod}"),
                "500m",
                &json!({
                    "metadata": { "labels": { "app": format!("app-{app}"), "stage": "prod" } },
                    "spec": {
                        "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                            { "topologyKey": "kubernetes.io/hostname", "labelSelector": selector },
                        ] } },
                        "topologySpreadConstraints": [{
                            "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1,
                            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
                        }],
                    },
                }),
            ));
        }
    }
    let began = Instant::now();
    let round = cluster.round();
    assert!(round.unschedulable.is_empty(), "{round:#?}");
    began.elapsed()
}

#[test]
fn deployments_with_rules_of_their_own_take_time_in_proportion() {
    // In proportion it would be four times; with the square of their number sixteen. The machine may have been busy.
    let mut seen = Vec::new();
    let in_proportion = (0..3).any(|_| {
        let (few, many) = (deployments(500), deployments(2_000));
        seen.push(format!("500 Deployments: {few:?}, 2,000: {many:?}"));
        many < few * 9
    });
    println!("{seen:#?}");
    assert!(in_proportion, "{seen:#?}");
}
