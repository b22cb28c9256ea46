//! PersistentVolumes, for where they can be attached.

use k8s_openapi::api::core::v1::PersistentVolume;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<PersistentVolume> {
        kind: Kind::PersistentVolume,
        strip: |_| {},
        applied: |object| applied(Object::PersistentVolume(Box::new(object))),
        deleted: |object| deleted(Object::PersistentVolume(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
