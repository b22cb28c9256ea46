//! An extender of kube-scheduler that pins pods: every in-tree filter still runs, and of the nodes that are left a pod
//! gets the one that its annotation names. A pod without the annotation may go anywhere.

use anyhow::Context;
use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// On a pod: the only node it may be bound to.
pub(crate) const PINNED: &str = "agreement.karpenter-rs.dev/node";

/// Serves in the background of this process; returns fields of a KubeSchedulerConfiguration.
pub(crate) async fn serve() -> anyhow::Result<Value> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a port on loopback")?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/filter", post(async |body: String| filter(&body).to_string()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(json!({ "extenders": [{
        "urlPrefix": format!("http://{address}"),
        "filterVerb": "filter",
        "enableHTTPS": false,
        // Names instead of whole nodes.
        "nodeCacheCapable": true,
        "httpTimeout": "10s",
    }]}))
}

fn filter(body: &str) -> Value {
    let Ok(asked) = serde_json::from_str::<Value>(body) else {
        return json!({ "Error": format!("expected JSON, found {body:?}") });
    };
    let Some(nodes) = asked["NodeNames"].as_array() else {
        return json!({ "Error": format!("NodeNames: expected names, found {}", asked["NodeNames"]) });
    };
    let pinned = &asked["Pod"]["metadata"]["annotations"][PINNED];
    let (kept, refused): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| pinned.is_null() || *node == pinned);
    let refused = refused.into_iter().filter_map(Value::as_str);
    let refused: serde_json::Map<_, _> = refused.map(|node| (node.to_owned(), json!("planned elsewhere"))).collect();
    json!({ "NodeNames": kept, "FailedNodes": refused })
}
