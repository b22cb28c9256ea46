//! Services and the controllers of pods: whom they select. Watched only for default spread constraints.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use karpenter_core::{Kind, Object, Selecting};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::{Watch, applied, deleted};
use crate::drive::Message;

pub(super) fn start(client: &Client, events: &Sender<Message>, tasks: &mut JoinSet<()>) {
    tasks.spawn(watch::<Service>(client.clone(), events.clone()));
    tasks.spawn(watch::<ReplicationController>(client.clone(), events.clone()));
    tasks.spawn(watch::<ReplicaSet>(client.clone(), events.clone()));
    tasks.spawn(watch::<StatefulSet>(client.clone(), events.clone()));
}

trait Selects: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned {
    const KIND: Kind;

    fn selector(&self) -> Option<LabelSelector>;
}

async fn watch<K: Selects + 'static>(client: Client, events: Sender<Message>) {
    let watch = Watch::<K> {
        kind: K::KIND,
        strip: |_| {},
        applied: |object| applied(selecting(&object)),
        deleted: |object| deleted(selecting(&object)),
    };
    watch.run(Api::all(client), events).await;
}

fn selecting<K: Selects>(object: &K) -> Object {
    Object::Selecting(Box::new(Selecting {
        kind: K::KIND,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        selector: object.selector(),
    }))
}

impl Selects for Service {
    const KIND: Kind = Kind::Service;

    fn selector(&self) -> Option<LabelSelector> {
        equal(self.spec.as_ref()?.selector.clone()?)
    }
}

impl Selects for ReplicationController {
    const KIND: Kind = Kind::ReplicationController;

    fn selector(&self) -> Option<LabelSelector> {
        equal(self.spec.as_ref()?.selector.clone()?)
    }
}

impl Selects for ReplicaSet {
    const KIND: Kind = Kind::ReplicaSet;

    fn selector(&self) -> Option<LabelSelector> {
        Some(self.spec.as_ref()?.selector.clone())
    }
}

impl Selects for StatefulSet {
    const KIND: Kind = Kind::StatefulSet;

    fn selector(&self) -> Option<LabelSelector> {
        Some(self.spec.as_ref()?.selector.clone())
    }
}

fn equal(labels: BTreeMap<String, String>) -> Option<LabelSelector> {
    Some(LabelSelector { match_labels: Some(labels), match_expressions: None })
}
