//! What tests apply: plain defaults, and what a test says on top of them.

use serde_json::{Value, json};

/// A NodePool for on-demand machines of one well-known family, with `spec` on top of its spec.
pub(crate) fn pool(name: &str, spec: &Value) -> Value {
    let mut base = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": name },
        "spec": { "template": { "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
            "requirements": [on_demand(), any_of("karpenter.k8s.aws/instance-family", &["m5"])],
        }}},
    });
    merge(&mut base["spec"], spec);
    base
}

/// An EC2NodeClass that finds everything the AWS peer planted, with `spec` on top of its spec.
pub(crate) fn class(name: &str, spec: &Value) -> Value {
    let mut base = json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": { "name": name },
        "spec": {
            "role": "KarpenterNodeRole-dev",
            "amiSelectorTerms": [{ "alias": "al2023@latest" }],
            "subnetSelectorTerms": [{ "tags": { "karpenter.sh/discovery": "dev" } }],
            "securityGroupSelectorTerms": [{ "tags": { "karpenter.sh/discovery": "dev" } }],
        },
    });
    merge(&mut base["spec"], spec);
    base
}

/// Pods of one size labelled `app: <name>`, with `pod` on top of their spec.
pub(crate) fn deployment(name: &str, replicas: u32, cpu: &str, memory: &str, pod: &Value) -> Value {
    let mut base = workload("Deployment", name, cpu, memory, pod);
    base["spec"]["replicas"] = json!(replicas);
    base
}

pub(crate) fn daemon_set(name: &str, cpu: &str, memory: &str, pod: &Value) -> Value {
    workload("DaemonSet", name, cpu, memory, pod)
}

fn workload(kind: &str, name: &str, cpu: &str, memory: &str, pod: &Value) -> Value {
    let mut base = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "main", "image": "registry.k8s.io/pause:3.10",
                        "resources": { "requests": { "cpu": cpu, "memory": memory } },
                    }],
                },
            },
        },
    });
    merge(&mut base["spec"]["template"]["spec"], pod);
    base
}

/// A workload whose pods bear an annotation.
pub(crate) fn annotated(mut workload: Value, key: &str, value: &str) -> Value {
    workload["spec"]["template"]["metadata"]["annotations"][key] = json!(value);
    workload
}

pub(crate) fn budget(app: &str, max_unavailable: u32) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": app, "namespace": "default" },
        "spec": { "maxUnavailable": max_unavailable, "selector": { "matchLabels": { "app": app } } },
    })
}

/// A pod that may only run on nodes of this pool.
pub(crate) fn on_pool(pool: &str) -> Value {
    json!({ "nodeSelector": { "karpenter.sh/nodepool": pool } })
}

/// Nodes of this pool have requirements of their own, instead of the default ones.
pub(crate) fn requiring(requirements: &[Value]) -> Value {
    json!({ "template": { "spec": { "requirements": requirements } } })
}

pub(crate) fn any_of(key: &str, values: &[&str]) -> Value {
    json!({ "key": key, "operator": "In", "values": values })
}

pub(crate) fn types(names: &[&str]) -> Value {
    any_of("node.kubernetes.io/instance-type", names)
}

pub(crate) fn on_demand() -> Value {
    any_of("karpenter.sh/capacity-type", &["on-demand"])
}

/// Objects are merged key by key; everything else replaces what was there.
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

/// A Deployment of one small pod.
pub(crate) fn app(pod: &Value) -> Value {
    deployment("app", 1, "500m", "512Mi", pod)
}
