//! Volumes decide where a pod can go.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use karpenter_harness::Seen;
use kube::Api;
use serde_json::{Value, json};

use crate::manifests::{app, class, pool};
use crate::stage::{SOON, Stage, label, node_name, node_of};

const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) fn claim(spec: &Value) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": "default" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        claim["spec"][key] = value.clone();
    }
    claim
}

/// A volume on EBS in this zone.
pub(crate) fn volume(zone: &str) -> Value {
    let expression = json!({ "key": ZONE, "operator": "In", "values": [zone] });
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "data" },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
            "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-0123456789abcdef0" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } },
        },
    })
}

/// A pod that mounts the claim `data`.
fn with_data() -> Value {
    app(&json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_node_in_the_zone_of_its_volume() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), with_data()]).await?;
    stage.pods_wait("app", &["persistentVolumeClaim \"default/data\": found none"]).await?;
    stage.apply(&[volume("us-west-2b"), claim(&json!({ "volumeName": "data", "storageClassName": "" }))]).await?;
    let pods = stage.pods_run("app", 1).await?;
    let claim = stage.ready_claim("general").await?;
    assert_eq!((label(&claim, ZONE), node_of(&pods[0]).as_str()), ("us-west-2b", node_name(&claim)));
    Ok(())
}

/// Nobody provisions volumes here; that kube-scheduler asks for one on the node says that it agrees.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_for_its_pod_gets_a_node_where_its_class_allows() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let storage = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": "gp3" },
        "provisioner": "ebs.csi.aws.com", "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": [{ "matchLabelExpressions": [{ "key": ZONE, "values": ["us-west-2c"] }] }],
    });
    let waiting = claim(&json!({ "storageClassName": "gp3" }));
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), storage, waiting, with_data()]).await?;
    let claim = stage.ready_claim("general").await?;
    assert_eq!(label(&claim, ZONE), "us-west-2c");
    stage
        .until("kube-scheduler wants the volume on that node", SOON, async || {
            let api: Api<PersistentVolumeClaim> = Api::default_namespaced(stage.cluster.client.clone());
            let annotations = api.get("data").await?.metadata.annotations.unwrap_or_default();
            let chosen = annotations.get("volume.kubernetes.io/selected-node").map(String::as_str);
            Ok(Seen::holds(chosen == Some(node_name(&claim)), annotations))
        })
        .await
}
