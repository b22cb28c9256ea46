//! Back to the start: a fresh cluster in a second instead of a new one in ten.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::json;

use crate::cluster::Cluster;
use crate::wait::{Seen, until};

/// Longer than the workload controllers take to notice that what they kept is gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// In this order: whoever makes objects goes before what it makes.
const KINDS: [(&str, &str, &str); 16] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "ReplicaSet"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
    ("", "v1", "Pod"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "PersistentVolume"),
    ("storage.k8s.io", "v1", "StorageClass"),
    ("karpenter.sh", "v1", "NodePool"),
    ("karpenter.sh", "v1", "NodeClaim"),
    ("", "v1", "Node"),
    ("karpenter.k8s.aws", "v1", "EC2NodeClass"),
    ("", "v1", "Event"),
];

impl Cluster {
    /// Removes every workload, node and object of ours, finalizers or not. No controller of ours may run meanwhile.
    pub async fn wipe(&self) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for (group, version, kind) in KINDS {
            let (resource, capabilities) =
                discovery::pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, kind)).await?;
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Cluster => Api::all_with(self.client.clone(), &resource),
                Scope::Namespaced => Api::default_namespaced_with(self.client.clone(), &resource),
            };
            all.push((kind, api));
        }
        until("the cluster is empty", GONE_WITHIN, async || {
            let mut left = Vec::new();
            for (kind, api) in &all {
                for object in api.list(&ListParams::default()).await? {
                    // Events tell of what just went; those that come late harm nobody.
                    if *kind != "Event" {
                        left.push(format!("{kind} {}", object.metadata.name.clone().unwrap_or_default()));
                    }
                    remove(api, &object).await?;
                }
            }
            Ok(Seen::holds(left.is_empty(), left))
        })
        .await
    }
}

async fn remove(api: &Api<DynamicObject>, object: &DynamicObject) -> anyhow::Result<()> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    if object.metadata.finalizers.is_some() {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        gone_or(api.patch(name, &PatchParams::default(), &patch).await.map(drop))?;
    }
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    gone_or(api.delete(name, &params).await.map(drop))
}

fn gone_or(result: kube::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other?),
    }
}
