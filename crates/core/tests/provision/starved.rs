//! Pods that fit nowhere cost the others nothing.

use std::time::Instant;

use karpenter_core::Settings;
use serde_json::json;

use crate::cluster::{Cluster, key, kind, waiting};

/// A round with a thousand pods that fit nowhere takes at most so many times as long as one without them.
const SLOWER_MAX: u32 = 10;

/// 1,170 light pods, 1,060 nodes, 20 pools.
fn cluster() -> Cluster {
    let sizes = [2, 4, 8, 16, 32, 48, 64, 96];
    let mut types = Vec::new();
    for family in 0..50 {
        types.extend(sizes.map(|cores| kind(&format!("f{family}.{cores}"), cores, cores * (2 + family % 7), &[])));
    }
    // GPUs exist, but none can be had.
    let mut sold_out = (*kind("gpu.96", 96, 768, &[("nvidia.com/gpu", 8)])).clone();
    sold_out.offerings.iter_mut().for_each(|offering| offering.available = false);
    types.push(sold_out.into());
    let mut cluster = Cluster::selling(types, Settings::default());
    for n in 0..20 {
        cluster.pool(&format!("pool-{n}"), &json!({ "weight": n % 5 }));
    }
    for n in 0..1060 {
        // Nearly full.
        let node = format!("node-{n}");
        cluster.node(&node, &json!({ "status": { "allocatable": { "cpu": "100m", "memory": "1Gi", "pods": "10" } } }));
    }
    for n in 0..1170 {
        cluster.pod(&waiting(&format!("light-{n}"), &format!("{}m", 200 + n % 90 * 10), &json!({})));
    }
    cluster
}

/// A thousand more want GPUs, of which there are none.
#[test]
fn light_pods_get_nodes_in_the_first_round_whatever_the_others_ask() {
    let (mut without, mut cluster) = (self::cluster(), self::cluster());
    for n in 0..1000 {
        let gpus = json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": {
            "cpu": format!("{}", 8 + n % 40), "memory": format!("{}Gi", 32 + n % 100), "nvidia.com/gpu": format!("{}", 1 + n % 8),
        } } }] } });
        cluster.pod(&waiting(&format!("gpu-{n}"), "1", &gpus));
    }
    let began = Instant::now();
    assert!(without.round().unschedulable.is_empty());
    let undisturbed = began.elapsed();
    let began = Instant::now();
    let round = cluster.round();
    let took = began.elapsed();
    println!("1,170 light pods: {undisturbed:?}; with 1,000 that fit nowhere: {took:?}");
    let placed: usize = round.claims.values().map(Vec::len).sum::<usize>() + round.nominated.len();
    assert_eq!(placed, 1170, "the light pods");
    assert_eq!(round.unschedulable.len(), 1000, "the others are told why");
    assert!(cluster.told("gpu-0").contains("offerings not available"), "{}", cluster.told("gpu-0"));
    assert!(!round.unschedulable.contains_key(&key("light-0")));
    assert!(took < undisturbed * SLOWER_MAX, "took {took:?}, without them {undisturbed:?}");
}
