//! EC2NodeClasses: AWS's own part of the model.

use karpenter_api::Ec2NodeClass;
use karpenter_core::Kind;
use karpenter_driver::Event;
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::Watch;
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<Ec2NodeClass> {
        kind: Kind::NodeClass,
        strip: |_| {},
        applied: |class| Event::NodeClassApplied(Box::new(class)),
        deleted: |class| Event::NodeClassDeleted(class.metadata.name.unwrap_or_default()),
    };
    watch.run(Api::all(client), events).await;
}
