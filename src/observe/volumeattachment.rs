//! VolumeAttachments: an instance ends only once nothing is attached to it.

use k8s_openapi::api::storage::v1::VolumeAttachment;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<VolumeAttachment> {
        kind: Kind::VolumeAttachment,
        strip: |_| {},
        applied: |object| applied(Object::VolumeAttachment(Box::new(object))),
        deleted: |object| deleted(Object::VolumeAttachment(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
