//! What tests of this crate share: a small AWS, objects with a few fields of their own.

use jiff::Timestamp;
use karpenter_api::{Ec2NodeClass, NodeClaim};
use karpenter_core::{Change, Object, Observation, Settings, World};
use serde_json::{Value, json};

use crate::{Aws, AwsSettings};

pub(crate) fn aws() -> Aws {
    let settings = AwsSettings {
        cluster_name: "dev".into(),
        region: "us-west-2".into(),
        cluster_ca: Some("Q0E=".into()),
        ..AwsSettings::default()
    };
    Aws::new(settings)
}

/// The class `default`, with `over` merged into it.
pub(crate) fn class(over: &Value) -> Ec2NodeClass {
    let mut object = json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
        "metadata": { "name": "default", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": { "role": "nodes", "amiSelectorTerms": [{ "alias": "al2023@latest" }] },
    });
    merge(&mut object, over);
    serde_json::from_value(object).unwrap()
}

/// A claim of that class, with `metadata` on top of its own.
pub(crate) fn claim(metadata: &Value) -> NodeClaim {
    let mut object = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "claim", "uid": "c" },
        "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
            "requirements": [],
        },
        "status": { "providerID": "aws:///us-west-2a/i-1" },
    });
    merge(&mut object["metadata"], metadata);
    serde_json::from_value(object).unwrap()
}

pub(crate) fn world(claims: &[NodeClaim]) -> World {
    let mut world = World::new(&Settings::default());
    for claim in claims {
        let object = Object::NodeClaim(Box::new(claim.clone()));
        world.apply(Observation::Kube(Change::Applied(object)), Timestamp::UNIX_EPOCH);
    }
    world
}

pub(crate) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
