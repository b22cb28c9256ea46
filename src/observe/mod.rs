//! Watches: each kind's stream becomes observations. One broken object stops nothing.

mod budget;
mod cluster;
mod csinode;
mod daemonset;
mod namespace;
mod node;
mod nodeclaim;
mod nodeclass;
mod nodepool;
mod persistentvolume;
mod persistentvolumeclaim;
mod pod;
mod selecting;
mod storageclass;
mod volumeattachment;

use std::fmt::Debug;

use futures::StreamExt;
use karpenter_core::{Change, Kind, Object, Observation, Settings};
use karpenter_driver::Event;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event as WatchEvent};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::drive::Message;

/// Objects per page of a list.
const PAGE: u32 = 500;

/// Starts every watch that the settings ask for. They end when the receiver is gone.
pub(crate) fn start(client: &Client, settings: &Settings, events: &Sender<Message>, tasks: &mut JoinSet<()>) {
    if !settings.default_spreads.is_empty() {
        selecting::start(client, events, tasks);
    }
    tasks.spawn(cluster::poll(client.clone(), events.clone()));
    tasks.spawn(pod::watch(client.clone(), events.clone()));
    tasks.spawn(node::watch(client.clone(), events.clone()));
    tasks.spawn(nodepool::watch(client.clone(), events.clone()));
    tasks.spawn(nodeclaim::watch(client.clone(), events.clone()));
    tasks.spawn(nodeclass::watch(client.clone(), events.clone()));
    tasks.spawn(daemonset::watch(client.clone(), events.clone()));
    tasks.spawn(budget::watch(client.clone(), events.clone()));
    tasks.spawn(persistentvolumeclaim::watch(client.clone(), events.clone()));
    tasks.spawn(persistentvolume::watch(client.clone(), events.clone()));
    tasks.spawn(storageclass::watch(client.clone(), events.clone()));
    tasks.spawn(csinode::watch(client.clone(), events.clone()));
    tasks.spawn(volumeattachment::watch(client.clone(), events.clone()));
    tasks.spawn(namespace::watch(client.clone(), events.clone()));
}

/// How a kind's events are told to the driver.
struct Watch<K> {
    kind: Kind,
    /// Drops what decisions never read, before anything is kept.
    strip: fn(&mut K),
    applied: fn(K) -> Event,
    deleted: fn(K) -> Event,
}

/// Wraps an object of the World.
fn applied(object: Object) -> Event {
    Event::Observed(Observation::Kube(Change::Applied(object)))
}

fn deleted(object: Object) -> Event {
    Event::Observed(Observation::Kube(Change::Deleted(object)))
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + serde::de::DeserializeOwned + 'static,
{
    async fn run(self, api: Api<K>, events: Sender<Message>) {
        let guarded: Api<DeserializeGuard<K>> = Api::all(api.into_client());
        let config = watch::Config::default().page_size(PAGE);
        let mut stream = watcher::watcher(guarded, config).default_backoff().boxed();
        let mut names = Vec::new();
        while let Some(event) = stream.next().await {
            let told = match event {
                Ok(WatchEvent::Init) => {
                    names.clear();
                    continue;
                }
                Ok(WatchEvent::InitApply(object)) => {
                    names.push(name_of(&object));
                    self.told(object, self.applied)
                }
                Ok(WatchEvent::Apply(object)) => self.told(object, self.applied),
                Ok(WatchEvent::Delete(object)) => self.told(object, self.deleted),
                Ok(WatchEvent::InitDone) => {
                    let names = std::mem::take(&mut names);
                    Some(Event::Observed(Observation::Listed { kind: self.kind, names }))
                }
                Err(error) => {
                    tracing::warn!(kind = ?self.kind, %error, "watch failed, trying again");
                    None
                }
            };
            if let Some(told) = told
                && events.send(Message::Event(told)).await.is_err()
            {
                return;
            }
        }
    }

    fn told(&self, object: DeserializeGuard<K>, tell: fn(K) -> Event) -> Option<Event> {
        match object.0 {
            Ok(mut object) => {
                object.managed_fields_mut().clear();
                (self.strip)(&mut object);
                Some(tell(object))
            }
            Err(broken) => {
                let name = broken.metadata.name.unwrap_or_default();
                tracing::warn!(kind = ?self.kind, name, error = broken.error, "object skipped: it cannot be read");
                None
            }
        }
    }
}

/// `namespace/name`, or `name` of what has no namespace.
fn name_of<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}
