//! StorageClasses, for where volumes can come into being.

use k8s_openapi::api::storage::v1::StorageClass;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<StorageClass> {
        kind: Kind::StorageClass,
        strip: |_| {},
        applied: |object| applied(Object::StorageClass(Box::new(object))),
        deleted: |object| deleted(Object::StorageClass(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
