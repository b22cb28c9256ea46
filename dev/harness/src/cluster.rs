//! The API server, as an administrator.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use karpenter_api::NodeClaim;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config, discovery};
use serde::Deserialize;
use serde_json::Value;

use crate::wait::{Seen, until};

/// How long a new CRD may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// The API server, as an administrator.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) async fn connect(kubeconfig: &Path) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// Waits until the API server serves what the CRDs define.
    pub(crate) async fn serves_ours(&self) -> anyhow::Result<()> {
        for (kind, crd) in karpenter_api::crd::all()? {
            let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let gvk = GroupVersionKind::gvk(text("/spec/group"), text("/spec/versions/0/name"), &kind);
            until(&format!("the API server serves {kind}"), SERVED_WITHIN, async || {
                discovery::pinned_kind(&self.client, &gvk).await?;
                Ok(Seen::Done(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Every document of a YAML text, as `kubectl apply --server-side` would.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        for document in documents(yaml)? {
            let (api, name) = self.api_of(&document).await?;
            let params = PatchParams::apply("harness").force();
            let applied = api.patch(&name, &params, &Patch::Apply(&document)).await;
            applied.with_context(|| format!("applying {} {name}", document["kind"]))?;
        }
        Ok(())
    }

    /// Creates without keeping: what the API server makes of an object, or how it refuses.
    pub async fn dry_run(&self, document: &Value) -> anyhow::Result<Result<Value, kube::Error>> {
        let (api, _) = self.api_of(document).await?;
        let object: DynamicObject = serde_json::from_value(document.clone())?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        answer(api.create(&params, &object).await)
    }

    /// Changes without keeping: what the API server makes of a merge patch to an object it has, or how it refuses.
    pub async fn dry_merge(&self, document: &Value, patch: &Value) -> anyhow::Result<Result<Value, kube::Error>> {
        let (api, name) = self.api_of(document).await?;
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        answer(api.patch(&name, &params, &Patch::Merge(patch)).await)
    }

    async fn api_of(&self, document: &Value) -> anyhow::Result<(Api<DynamicObject>, String)> {
        let field = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).with_context(|| format!("{what}: expected text, found {value}"))
        };
        let (version, kind) = (field(&document["apiVersion"], "apiVersion")?, field(&document["kind"], "kind")?);
        let name = field(&document["metadata"]["name"], "metadata.name")?;
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &gvk).await?;
        let api = match (capabilities.scope, document["metadata"]["namespace"].as_str()) {
            (discovery::Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
            (discovery::Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            (discovery::Scope::Namespaced, None) => bail!("{kind} {name}: metadata.namespace is missing"),
        };
        Ok((api, name))
    }

    pub async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        Ok(Api::default_namespaced(self.client.clone()).list(&ListParams::default()).await?.items)
    }

    pub async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        Ok(Api::all(self.client.clone()).list(&ListParams::default()).await?.items)
    }

    pub async fn claims(&self) -> anyhow::Result<Vec<NodeClaim>> {
        Ok(Api::all(self.client.clone()).list(&ListParams::default()).await?.items)
    }

    pub async fn events(&self) -> anyhow::Result<Vec<Event>> {
        Ok(Api::all(self.client.clone()).list(&ListParams::default()).await?.items)
    }
}

/// The object as JSON, or the refusal as it is.
fn answer(result: kube::Result<DynamicObject>) -> anyhow::Result<Result<Value, kube::Error>> {
    Ok(match result {
        Ok(object) => Ok(serde_json::to_value(object)?),
        Err(error) => Err(error),
    })
}

/// The documents of a YAML text, empty ones left out.
pub fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    let documents = serde_norway::Deserializer::from_str(yaml).map(Value::deserialize);
    Ok(documents.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|document| !document.is_null()).collect())
}

/// What the API server said when it refused; `None` for any other error.
pub fn refusal(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) => Some(&status.message),
        _ => None,
    }
}
