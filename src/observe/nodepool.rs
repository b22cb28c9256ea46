//! NodePools.

use karpenter_api::NodePool;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<NodePool> {
        kind: Kind::NodePool,
        strip: |_| {},
        applied: |object| applied(Object::NodePool(Box::new(object))),
        deleted: |object| deleted(Object::NodePool(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
