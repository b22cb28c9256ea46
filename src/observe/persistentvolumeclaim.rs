//! PersistentVolumeClaims: what pods name, bound or not.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<PersistentVolumeClaim> {
        kind: Kind::PersistentVolumeClaim,
        strip: |_| {},
        applied: |object| applied(Object::PersistentVolumeClaim(Box::new(object))),
        deleted: |object| deleted(Object::PersistentVolumeClaim(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
