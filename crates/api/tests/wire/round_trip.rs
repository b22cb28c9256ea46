//! What was read is written back as it was: forms of amounts and durations, fields nobody here knows.

use karpenter_api::{CapacityBuffer, Ec2NodeClass, NodeClaim, NodeOverlay, NodePool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The object, through the type and back.
fn back<T: DeserializeOwned + Serialize>(object: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(object.clone())?)
}

fn object(kind: &str, spec: Value, status: Value) -> Value {
    let version = match kind {
        "EC2NodeClass" => "karpenter.k8s.aws/v1",
        "NodeOverlay" => "karpenter.sh/v1alpha1",
        "CapacityBuffer" => "autoscaling.x-k8s.io/v1beta1",
        _ => "karpenter.sh/v1",
    };
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "a" }, "spec": spec, "status": status })
}

fn class_ref() -> Value {
    json!({ "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" })
}

#[test]
fn a_pool_keeps_the_forms_of_amounts_and_durations() {
    let pool = object(
        "NodePool",
        json!({
            "limits": { "cpu": 1000, "memory": "1000Gi", "pods": "1e3", "nvidia.com/gpu": "16", "nodes": "0.5k" },
            "disruption": {
                "consolidateAfter": "90m",
                "consolidationPolicy": "Balanced",
                "budgets": [{ "nodes": "10%", "reasons": ["Drifted", "Empty"], "schedule": "@daily", "duration": "8h0m0s" }],
            },
            "template": { "spec": {
                "nodeClassRef": class_ref(),
                "requirements": [{ "key": "a", "operator": "Gte", "values": ["007"], "minValues": 1 }],
                "taints": [{ "key": "a", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z" }],
                "expireAfter": "720h0m0s",
                "terminationGracePeriod": "3600s",
            }},
        }),
        json!({ "nodes": 0, "resources": { "cpu": "1500m", "memory": "8135188Ki" } }),
    );
    assert_eq!(back::<NodePool>(&pool).unwrap(), pool);
}

#[test]
fn a_class_keeps_the_kubelet_fields_that_nobody_here_knows() {
    let class = object(
        "EC2NodeClass",
        json!({
            "role": "r",
            "amiSelectorTerms": [{ "alias": "al2023@latest" }],
            "subnetSelectorTerms": [{ "id": "subnet-1" }],
            "securityGroupSelectorTerms": [{ "id": "sg-1" }],
            "metadataOptions": {
                "httpEndpoint": "enabled", "httpProtocolIPv6": "disabled", "httpPutResponseHopLimit": 1, "httpTokens": "required",
            },
            "kubelet": {
                "maxPods": "8 * enis",
                "featureGates": { "NodeLogQuery": true },
                "fromAReleaseToCome": { "deep": [{ "er": [1, 0.5, null, "x"] }], "empty": {}, "none": null },
            },
        }),
        json!({ "amis": [{ "id": "ami-1", "requirements": [{ "key": "a", "operator": "Exists" }] }] }),
    );
    assert_eq!(back::<Ec2NodeClass>(&class).unwrap(), class);
}

#[test]
fn a_claim_keeps_empty_reasons_and_amounts() {
    let claim = object(
        "NodeClaim",
        json!({
            "nodeClassRef": class_ref(),
            "requirements": [],
            "resources": { "requests": { "cpu": "1500m", "memory": 1_073_741_824 } },
            "expireAfter": "Never",
        }),
        json!({
            "capacity": { "cpu": "2", "memory": "7681Mi" },
            "conditions": [{
                "type": "Launched", "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
            }],
            "lastPodEventTime": "2026-01-02T03:04:05Z",
        }),
    );
    assert_eq!(back::<NodeClaim>(&claim).unwrap(), claim);
}

#[test]
fn overlays_and_buffers_keep_what_they_say() {
    let overlay = object(
        "NodeOverlay",
        json!({
            "weight": 10, "priceAdjustment": "+0.10", "capacity": { "smarter-devices/fuse": 8 },
            "requirements": [{ "key": "a", "operator": "NotIn", "values": ["b"] }],
        }),
        json!({ "conditions": [] }),
    );
    assert_eq!(back::<NodeOverlay>(&overlay).unwrap(), overlay);
    let buffer = object(
        "CapacityBuffer",
        json!({
            "provisioningStrategy": "buffer.x-k8s.io/active-capacity",
            "scalableRef": { "apiGroup": "apps", "kind": "Deployment", "name": "web" },
            "percentage": 20, "limits": { "cpu": 20 },
        }),
        json!({ "replicas": 2, "podTemplateGeneration": 3 }),
    );
    assert_eq!(back::<CapacityBuffer>(&buffer).unwrap(), buffer);
}

#[test]
fn what_the_api_server_would_fill_in_is_filled_in() {
    let pool = object(
        "NodePool",
        json!({ "template": { "spec": { "nodeClassRef": class_ref(), "requirements": [] } } }),
        Value::Null,
    );
    let pool = back::<NodePool>(&pool).unwrap();
    assert_eq!(
        pool["spec"]["disruption"],
        json!({ "consolidateAfter": "0s", "consolidationPolicy": "WhenEmptyOrUnderutilized", "budgets": [{ "nodes": "10%" }] })
    );
    assert_eq!(pool["spec"]["template"]["spec"]["expireAfter"], json!("720h"));
}
