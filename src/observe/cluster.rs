//! What the API server tells of the cluster itself: its version, and the address of its DNS service.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use karpenter_aws::KubernetesFacts;
use karpenter_driver::Event;
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use crate::drive::Message;

/// A control plane is upgraded while we run.
const EVERY: Duration = Duration::from_mins(5);
/// After a failure.
const SOON: Duration = Duration::from_secs(5);

pub(super) async fn poll(client: Client, events: Sender<Message>) {
    loop {
        let pause = match version(&client).await {
            Ok(version) => {
                let facts = KubernetesFacts { version, dns: dns(&client).await };
                if events.send(Message::Event(Event::KubernetesSeen(facts))).await.is_err() {
                    return;
                }
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "the API server does not tell its version, trying again");
                SOON
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// e.g. `1.36`; some vendors append a plus sign.
async fn version(client: &Client) -> kube::Result<String> {
    let told = client.apiserver_version().await?;
    Ok(format!("{}.{}", told.major, told.minor.trim_end_matches('+')))
}

/// Clusters may do without it, or have another DNS.
async fn dns(client: &Client) -> Option<std::net::IpAddr> {
    match Api::<Service>::namespaced(client.clone(), "kube-system").get("kube-dns").await {
        Ok(service) => service.spec?.cluster_ip?.parse().ok(),
        Err(error) => {
            tracing::debug!(%error, "the Service kube-system/kube-dns cannot be read");
            None
        }
    }
}
