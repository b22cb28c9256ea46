//! Writes to the API server.

use k8s_openapi::api::core::v1::{Node, Pod};
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_core::action::WriteKind;
use karpenter_core::{Failure, KubeWrite, Object, ObjectRef, Part};
use karpenter_driver::Written;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

pub(super) async fn write(client: &Client, write: &KubeWrite) -> Result<Written, Failure> {
    let (KubeWrite::Create { object, .. }
    | KubeWrite::Patch { object, .. }
    | KubeWrite::Delete { object, .. }
    | KubeWrite::Evict { object }) = write;
    match object.kind {
        WriteKind::Pod => pod(client, object, write).await,
        WriteKind::Node => {
            typed(Api::all(client.clone()), write, |node: Node| Written::Object(Object::Node(Box::new(node)))).await
        }
        WriteKind::NodePool => {
            let wrap = |pool: NodePool| Written::Object(Object::NodePool(Box::new(pool)));
            typed(Api::all(client.clone()), write, wrap).await
        }
        WriteKind::NodeClaim => {
            let wrap = |claim: NodeClaim| Written::Object(Object::NodeClaim(Box::new(claim)));
            let api = Api::all(client.clone());
            let KubeWrite::Create { claim, .. } = write else { return typed(api, write, wrap).await };
            let params = PostParams { field_manager: manager(), ..PostParams::default() };
            api.create(&params, claim).await.map(wrap).map_err(|error| failure(&error))
        }
        WriteKind::Ec2NodeClass => {
            let wrap = |class: Ec2NodeClass| Written::NodeClass(Box::new(class));
            typed(Api::all(client.clone()), write, wrap).await
        }
    }
}

async fn pod(client: &Client, object: &ObjectRef, write: &KubeWrite) -> Result<Written, Failure> {
    let api: Api<Pod> = namespaced(client, object);
    if let KubeWrite::Evict { object } = write {
        let options = DeleteParams { preconditions: same_object(object), ..DeleteParams::default() };
        let params = EvictParams { delete_options: Some(options), ..EvictParams::default() };
        return match api.evict(&object.name, &params).await {
            Ok(_) => Ok(Written::Nothing),
            Err(error) => Err(failure(&error)),
        };
    }
    typed(api, write, |pod: Pod| Written::Object(Object::Pod(Box::new(pod)))).await
}

fn namespaced<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
    client: &Client,
    object: &ObjectRef,
) -> Api<K> {
    Api::namespaced(client.clone(), object.namespace.as_deref().unwrap_or_default())
}

async fn typed<K>(api: Api<K>, write: &KubeWrite, wrap: fn(K) -> Written) -> Result<Written, Failure>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let result = match write {
        KubeWrite::Patch { object, part, patch } => {
            let params = PatchParams { field_manager: manager(), ..PatchParams::default() };
            let patch = Patch::Merge(patch);
            let patched = match part {
                Part::Main => api.patch(&object.name, &params, &patch).await,
                Part::Status => api.patch_status(&object.name, &params, &patch).await,
            };
            patched.map(wrap)
        }
        KubeWrite::Delete { object, grace_period_seconds } => {
            let params = DeleteParams {
                grace_period_seconds: *grace_period_seconds,
                preconditions: same_object(object),
                ..DeleteParams::default()
            };
            // An object that still has finalizers is returned; one that is gone is a Status.
            api.delete(&object.name, &params).await.map(|done| done.left().map_or(Written::Nothing, wrap))
        }
        KubeWrite::Evict { object } => {
            return Err(Failure::Refused(format!("{object} cannot be evicted: it is not a pod")));
        }
        KubeWrite::Create { object, .. } => {
            return Err(Failure::Refused(format!("{object} cannot be created: it is not a NodeClaim")));
        }
    };
    match result {
        Ok(written) => Ok(written),
        // Gone already is what a deletion wants.
        Err(error) if matches!(write, KubeWrite::Delete { .. }) && code(&error) == Some(404) => Ok(Written::Nothing),
        Err(error) => Err(failure(&error)),
    }
}

/// Whose the written fields are, as Karpenter's are.
fn manager() -> Option<String> {
    Some("karpenter".to_owned())
}

fn same_object(object: &ObjectRef) -> Option<Preconditions> {
    object.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None })
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn failure(error: &kube::Error) -> Failure {
    let text = error.to_string();
    match code(error) {
        Some(404) => Failure::NotFound(text),
        Some(409) => Failure::Conflict(text),
        // An eviction that a budget blocks. More than one budget is answered with 500 and this text.
        Some(429) => Failure::Blocked(text),
        Some(500) if text.contains("more than one PodDisruptionBudget") => Failure::Blocked(text),
        Some(400..=499) => Failure::Refused(text),
        _ => Failure::Unknown(text),
    }
}
