//! Pods of all namespaces, without what placement never reads.

use k8s_openapi::api::core::v1::Pod;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<Pod> {
        kind: Kind::Pod,
        strip: |pod| {
            for container in pod.spec.iter_mut().flat_map(|spec| spec.containers.iter_mut()) {
                container.env = None;
                container.command = None;
                container.args = None;
                container.volume_mounts = None;
            }
        },
        applied: |object| applied(Object::Pod(Box::new(object))),
        deleted: |object| deleted(Object::Pod(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
