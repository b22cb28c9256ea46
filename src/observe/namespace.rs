//! Namespaces, for their labels.

use k8s_openapi::api::core::v1::Namespace;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<Namespace> {
        kind: Kind::Namespace,
        strip: |_| {},
        applied: |object| applied(Object::Namespace(Box::new(object))),
        deleted: |object| deleted(Object::Namespace(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
