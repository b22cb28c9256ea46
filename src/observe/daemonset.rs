//! DaemonSets, for their overhead on every node.

use k8s_openapi::api::apps::v1::DaemonSet;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<DaemonSet> {
        kind: Kind::DaemonSet,
        strip: |_| {},
        applied: |object| applied(Object::DaemonSet(Box::new(object))),
        deleted: |object| deleted(Object::DaemonSet(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
