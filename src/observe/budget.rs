//! PodDisruptionBudgets: which pods can leave a node now.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use karpenter_core::{Kind, Object};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) async fn watch(client: Client, events: Sender<Message>) {
    let watch = Watch::<PodDisruptionBudget> {
        kind: Kind::PodDisruptionBudget,
        strip: |budget| {
            budget.metadata.annotations = None;
            budget.metadata.labels = None;
            if let Some(status) = budget.status.as_mut() {
                status.conditions = None;
                status.disrupted_pods = None;
            }
        },
        applied: |object| applied(Object::PodDisruptionBudget(Box::new(object))),
        deleted: |object| deleted(Object::PodDisruptionBudget(Box::new(object))),
    };
    watch.run(Api::all(client), events).await;
}
