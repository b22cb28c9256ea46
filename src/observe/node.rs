//! Nodes, without their image lists.

use k8s_openapi::api::core::v1::Node;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<Node> {
        kind: Kind::Node,
        strip: |node| {
            if let Some(status) = node.status.as_mut() {
                status.images = None;
            }
        },
        applied: |object| applied(Object::Node(Box::new(object))),
        deleted: |object| deleted(Object::Node(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
