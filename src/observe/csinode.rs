//! CSINodes, for how many volumes a node takes.

use k8s_openapi::api::storage::v1::CSINode;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<CSINode> {
        kind: Kind::CsiNode,
        strip: |_| {},
        applied: |object| applied(Object::CsiNode(Box::new(object))),
        deleted: |object| deleted(Object::CsiNode(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
