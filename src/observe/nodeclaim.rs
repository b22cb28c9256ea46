//! NodeClaims.

use karpenter_api::NodeClaim;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<NodeClaim> {
        kind: Kind::NodeClaim,
        strip: |_| {},
        applied: |object| applied(Object::NodeClaim(Box::new(object))),
        deleted: |object| deleted(Object::NodeClaim(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
