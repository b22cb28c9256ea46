//! Arbitrary words where the API server would only let good ones pass: a verdict, never a panic, and nothing fits that
//! cannot be read.

use karpenter_judge::generate::{config, read};
use karpenter_judge::{Cluster, Kind, Offer, judge};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// One NodePool, one instance type, one node, and the pods.
fn cluster(pods: &[Value]) -> Cluster {
    let amounts = |cpu| [("cpu", cpu), ("memory", 4 << 30), ("pods", 10)].map(|(name, n)| (name.to_owned(), n)).into();
    let labels = json!({
        "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "n0", "topology.kubernetes.io/zone": "z-a", "tier": "5",
    });
    let pending = |(at, spec): (usize, &Value)| {
        read(json!({
            "metadata": { "name": format!("p{at}"), "namespace": "default", "uid": format!("u{at}") }, "spec": spec,
            "status": { "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] },
        }))
    };
    Cluster {
        kinds: vec![Kind {
            name: "fa.0".to_owned(),
            labels: [("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into(),
            capacity: amounts(4000),
            allocatable: amounts(3900),
            offers: vec![Offer { zone: "z-a".to_owned(), spot: false, price: 100, available: true }],
        }],
        pools: vec![read(json!({
            "metadata": { "name": "p0", "uid": "pool-0" },
            "spec": { "template": { "spec": {
                "requirements": [], "nodeClassRef": { "group": "g", "kind": "EC2NodeClass", "name": "default" },
            } } },
            "status": { "conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
            }] },
        }))],
        nodes: vec![read(json!({
            "metadata": { "name": "n0", "labels": labels },
            "status": { "allocatable": { "cpu": "2", "memory": "2Gi", "pods": "5" } },
        }))],
        pods: pods.iter().enumerate().map(pending).collect(),
        ..Cluster::default()
    }
}

fn check(cluster: &Cluster) -> Result<(), TestCaseError> {
    let plan = cluster.plan();
    let told: Vec<String> = judge(cluster, &plan).iter().map(ToString::to_string).collect();
    prop_assert!(told.is_empty(), "{}\n\n{plan}", told.join("\n"));
    Ok(())
}

fn quantity() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[+-]?[0-9]{1,4}(\\.[0-9]{0,3})?(m|k|Mi|Gi)?",
        2 => "[+-]?[0-9]{0,40}\\.?[0-9]{0,40}([eE][+-]?[0-9]{1,12}|[numkMGTPE]i?)?",
        1 => "\\PC{0,12}",
    ]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["topology.kubernetes.io/zone", "kubernetes.io/arch", "tier", "kubernetes.io/hostname"])
            .prop_map(str::to_owned),
        2 => "[a-z0-9./-]{0,20}",
        1 => "\\PC{0,12}",
    ]
}

fn operator() -> impl Strategy<Value = String> {
    let known = vec!["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte", "", "in"];
    prop_oneof![5 => prop::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["z-a", "amd64", "5", "4", "9223372036854775807", "-9223372036854775808", ""])
            .prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "\\PC{0,8}",
    ]
}

fn expression() -> impl Strategy<Value = Value> {
    (word(), operator(), prop::option::of(vec(value(), 0..=3)))
        .prop_map(|(key, operator, values)| json!({ "key": key, "operator": operator, "values": values }))
}

fn amounts() -> impl Strategy<Value = Value> {
    let resource = prop::sample::select(vec!["cpu", "memory", "pods", "example.com/gpu", "ephemeral-storage"]);
    prop::collection::btree_map(resource, quantity(), 0..=3).prop_map(|all| json!(all))
}

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn amounts_of_any_text(
        all in vec((amounts(), amounts(), prop::option::of(amounts()), prop::option::of(amounts()), any::<bool>()), 1..=4),
    ) {
        let spec = |(main, init, overhead, whole, sidecar): &(Value, Value, Option<Value>, Option<Value>, bool)| json!({
            "containers": [{ "name": "main", "resources": { "requests": main } }],
            "initContainers": [{
                "name": "init", "restartPolicy": sidecar.then_some("Always"), "resources": { "requests": init },
            }],
            "overhead": overhead, "resources": whole.as_ref().map(|whole| json!({ "requests": whole })),
        });
        check(&cluster(&all.iter().map(spec).collect::<Vec<_>>()))?;
    }

    #[test]
    fn node_affinity_of_any_words(
        required in vec(vec(expression(), 0..=2), 0..=3),
        preferred in vec(vec(expression(), 0..=2), 0..=2),
        selector in prop::collection::btree_map(word(), value(), 0..=1),
    ) {
        let terms: Vec<Value> = required.iter().map(|all| json!({ "matchExpressions": all })).collect();
        let wishes = preferred.iter().map(|all| json!({ "weight": 1, "preference": { "matchExpressions": all } }));
        let affinity = json!({ "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
            "preferredDuringSchedulingIgnoredDuringExecution": wishes.collect::<Vec<_>>(),
        } });
        check(&cluster(&[json!({ "containers": [], "nodeSelector": selector, "affinity": affinity })]))?;
    }

    #[test]
    fn rules_between_pods_of_any_words(
        key in word(), operator in operator(), values in vec(value(), 0..=2), other in word(), skew in any::<i32>(),
        domains in any::<Option<i32>>(), when in "(DoNotSchedule|ScheduleAnyway|\\PC{0,5})", effect in word(),
    ) {
        let selector = json!({ "matchExpressions": [{ "key": other, "operator": operator, "values": values }] });
        let term = json!([{ "topologyKey": key, "labelSelector": selector, "namespaces": [other] }]);
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": term });
        let spread = json!({
            "topologyKey": key, "maxSkew": skew, "minDomains": domains, "whenUnsatisfiable": when,
            "labelSelector": selector, "matchLabelKeys": [other], "nodeTaintsPolicy": when,
        });
        let toleration = json!([{ "key": key, "operator": operator, "effect": effect, "value": other }]);
        let all = cluster(&[
            json!({ "containers": [], "topologySpreadConstraints": [spread], "tolerations": toleration }),
            json!({ "containers": [], "affinity": { "podAffinity": required } }),
            json!({ "containers": [], "affinity": { "podAntiAffinity": required } }),
        ]);
        let _ = all.plan();
        // What another skew means nobody says.
        if skew > 0 {
            check(&all)?;
        }
    }
}
