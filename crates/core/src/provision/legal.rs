//! Where a pod may go, by rules that kube-scheduler knows: what the agreement test found once.

use std::sync::Arc;

use jiff::SignedDuration;
use karpenter_api::{NodeClaim, NodePool, labels};
use serde_json::{Value, json};

use crate::cloud::{CapacityType, CatalogueProblem, InstanceType, LaunchProblem, NodeClassState, Offering};
use crate::{
    Change, Cloud, Deed, KubeWrite, Object, Observation, Requirement, Requirements, Resources, Settings, Timestamp,
    World, provision,
};

/// One instance type in one zone.
struct OneType(Arc<[Arc<InstanceType>]>);

impl OneType {
    fn new() -> Self {
        let mut requirements = Requirements::default();
        requirements.add(labels::INSTANCE_TYPE, Requirement::one_of(["m"]));
        requirements.add(labels::ZONE, Requirement::one_of(["z"]));
        requirements.add(labels::CAPACITY_TYPE, Requirement::one_of(["spot"]));
        let amounts: Resources = [("cpu", 4000), ("memory", 1 << 34), ("pods", 50)].into_iter().collect();
        let offering = Offering {
            capacity_type: CapacityType::Spot,
            zone: "z".to_owned(),
            zone_id: String::new(),
            price: 1,
            available: true,
            labels: std::collections::BTreeMap::new(),
        };
        let (name, offerings) = ("m".to_owned(), vec![offering]);
        let row = InstanceType { name, requirements, capacity: amounts.clone(), allocatable: amounts, offerings };
        Self(Arc::new([Arc::new(row)]))
    }
}

impl Cloud for OneType {
    type Call = ();

    fn node_class(&self, _: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, _: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        Ok(Arc::clone(&self.0))
    }

    fn launch(&self, _: &NodeClaim, _: u32, _: Timestamp) -> Result<(), LaunchProblem> {
        Ok(())
    }

    fn find(&self, _: &NodeClaim) {}

    fn terminate(&self, _: &str) {}
}

/// Where a round sends each pod, and the labels of the claims it makes.
struct Planned {
    places: Vec<(String, String)>,
    claims: Vec<Value>,
}

fn plan(requirements: &Value, nodes: &[&str], pods: &[Value]) -> Planned {
    let (mut world, now) = (World::default(), Timestamp::UNIX_EPOCH);
    let ready = json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let pool = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "pool" },
        "spec": { "template": { "spec": {
            "requirements": requirements, "nodeClassRef": { "group": "g", "kind": "k", "name": "class" },
        }}},
        "status": { "conditions": ready },
    });
    let mut objects = vec![Object::NodePool(serde_json::from_value(pool).unwrap())];
    for name in nodes {
        let amounts = json!({ "cpu": "4", "memory": "16Gi", "pods": "50" });
        let own = json!({ labels::HOSTNAME: name, labels::ZONE: "z" });
        let node = json!({ "metadata": { "name": name, "labels": own }, "status": { "allocatable": amounts } });
        objects.push(Object::Node(serde_json::from_value(node).unwrap()));
    }
    let unschedulable = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }]);
    for (at, pod) in pods.iter().enumerate() {
        let mut pod = json!({
            "metadata": { "name": format!("p{at}"), "namespace": "n", "uid": at.to_string(), "labels": pod["labels"] },
            "spec": pod["spec"], "status": { "conditions": unschedulable },
        });
        pod["spec"]["containers"] = json!([{ "name": "c", "resources": { "requests": { "cpu": "100m" } } }]);
        objects.push(Object::Pod(serde_json::from_value(pod).unwrap()));
    }
    for object in objects {
        world.apply(Observation::Kube(Change::Applied(object)), now);
    }
    let at = now + SignedDuration::from_secs(1);
    let decision = provision::decide(&world, &OneType::new(), &Settings::default(), at);
    let mut planned = Planned { places: Vec::new(), claims: Vec::new() };
    for action in &decision.actions {
        if let Deed::Kube(KubeWrite::Create { body, .. }) = &action.deed {
            planned.claims.push(body["metadata"]["labels"].clone());
        }
    }
    for learned in decision.learned {
        let Observation::Planned(round) = learned else { continue };
        planned.places.extend(round.nominated.into_iter().map(|(pod, node)| (pod.name, node)));
        let bought = round.claims.into_values().flatten().map(|pod| (pod.name, "bought".to_owned()));
        planned.places.extend(bought);
    }
    planned.places.sort();
    planned
}

fn on(places: &[(String, String)]) -> Vec<(&str, &str)> {
    places.iter().map(|(pod, node)| (pod.as_str(), node.as_str())).collect()
}

fn by_affinity(term: &Value) -> Value {
    let required = json!({ "nodeSelectorTerms": [term] });
    json!({ "spec": { "affinity": {
        "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required },
    }}})
}

#[test]
fn match_fields_name_a_node() {
    let named = |operator: &str, name: &str| {
        by_affinity(&json!({ "matchFields": [{ "key": "metadata.name", "operator": operator, "values": [name] }] }))
    };
    let planned = plan(&json!([]), &["a", "b"], &[named("In", "b"), named("NotIn", "a"), named("In", "c")]);
    assert_eq!(on(&planned.places), [("p0", "b"), ("p1", "b")], "c is not there, and nobody can buy it");
    let planned = plan(&json!([]), &["a"], &[named("NotIn", "a")]);
    assert_eq!(on(&planned.places), [("p0", "bought")]);
}

#[test]
fn a_selector_that_contradicts_the_affinity_allows_no_node() {
    let mut pod = by_affinity(&json!({ "matchExpressions": [{ "key": "team", "operator": "In", "values": ["x"] }] }));
    pod["spec"]["nodeSelector"] = json!({ "team": "y" });
    assert_eq!(on(&plan(&json!([]), &["a"], &[pod]).places), []);
}

#[test]
fn one_pod_must_be_meant_by_all_terms_of_an_affinity() {
    let term = |key: &str, value: &str| json!({ "topologyKey": labels::ZONE, "labelSelector": { "matchLabels": { key: value } } });
    let follower = json!({ "spec": { "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("app", "x"), term("tier", "y")],
    }}}});
    let one = |own: Value| json!({ "labels": own, "spec": {} });
    let apart = [follower.clone(), one(json!({ "app": "x" })), one(json!({ "tier": "y" }))];
    assert_eq!(on(&plan(&json!([]), &["a"], &apart).places), [("p1", "a"), ("p2", "a")]);
    let both = [follower, one(json!({ "app": "x", "tier": "y" }))];
    assert_eq!(on(&plan(&json!([]), &["a"], &both).places), [("p0", "a"), ("p1", "a")]);
}

#[test]
fn a_label_that_must_exist_has_a_value_that_pool_and_pods_allow() {
    let exists = json!([{ "key": "rack", "operator": "Exists" }]);
    let value = |operator: &str, values: Value| {
        let asked = json!({ "matchExpressions": [{ "key": "rack", "operator": operator, "values": values }] });
        let planned = plan(&exists, &[], &[by_affinity(&asked)]);
        assert_eq!(on(&planned.places), [("p0", "bought")]);
        planned.claims[0]["rack"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("Gt", json!(["7"])), "8");
    assert_eq!(value("Lt", json!(["7"])), "6");
    assert_eq!(value("In", json!(["7"])), "7");
    assert_ne!(value("NotIn", json!(["0"])), "0");
    assert!(!value("Exists", json!(null)).is_empty());
}
