//! The API server: objects with versions, finalizers and deletion, and what changed for the watches.

mod write;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_core::{Change, Kind, Object, Observation};
use karpenter_driver::Event;

pub(crate) use write::Effect;

/// Everything lives here that has a namespace.
pub(crate) const NAMESPACE: &str = "default";

/// An object of any kind that is watched.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Core(Object),
    Class(Box<Ec2NodeClass>),
}

/// A watch event as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) kind: Kind,
    pub(crate) item: Item,
    pub(crate) deleted: bool,
}

/// What all kinds have in common.
pub(crate) trait Kept: Clone {
    const KIND: Kind;
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn item(self) -> Item;
    fn all(api: &Api) -> &BTreeMap<String, Self>;
    fn all_mut(api: &mut Api) -> &mut BTreeMap<String, Self>;
}

macro_rules! kept {
    ($type:ty, $kind:expr, $field:ident, $wrap:expr) => {
        impl Kept for $type {
            const KIND: Kind = $kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn item(self) -> Item {
                $wrap(self)
            }

            fn all(api: &Api) -> &BTreeMap<String, Self> {
                &api.$field
            }

            fn all_mut(api: &mut Api) -> &mut BTreeMap<String, Self> {
                &mut api.$field
            }
        }
    };
}

kept!(Pod, Kind::Pod, pods, |pod| Item::Core(Object::Pod(Box::new(pod))));
kept!(Node, Kind::Node, nodes, |node| Item::Core(Object::Node(Box::new(node))));
kept!(NodeClaim, Kind::NodeClaim, claims, |claim| Item::Core(Object::NodeClaim(Box::new(claim))));
kept!(NodePool, Kind::NodePool, pools, |pool| Item::Core(Object::NodePool(Box::new(pool))));
kept!(DaemonSet, Kind::DaemonSet, daemons, |daemon| Item::Core(Object::DaemonSet(Box::new(daemon))));
kept!(PodDisruptionBudget, Kind::PodDisruptionBudget, budgets, |budget| {
    Item::Core(Object::PodDisruptionBudget(Box::new(budget)))
});
kept!(Ec2NodeClass, Kind::NodeClass, classes, |class| Item::Class(Box::new(class)));

/// The truth. All objects by name: there is one namespace.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) claims: BTreeMap<String, NodeClaim>,
    pub(crate) pools: BTreeMap<String, NodePool>,
    pub(crate) daemons: BTreeMap<String, DaemonSet>,
    pub(crate) budgets: BTreeMap<String, PodDisruptionBudget>,
    pub(crate) classes: BTreeMap<String, Ec2NodeClass>,
    version: u64,
    uids: u64,
    /// For the watches, and for those in the cluster who react to it.
    pub(crate) changes: Vec<Changed>,
}

impl Api {
    /// Adds an object; its name must be free.
    pub(crate) fn create<K: Kept>(&mut self, mut object: K, now: Timestamp) -> Option<K> {
        let name = object.meta().name.clone()?;
        if K::all(self).contains_key(&name) {
            return None;
        }
        self.uids += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.uids);
        let version = self.next_version();
        let meta = object.meta_mut();
        meta.uid = Some(uid);
        meta.creation_timestamp = Some(Time(whole_second(now)));
        meta.generation = Some(1);
        meta.resource_version = Some(version);
        K::all_mut(self).insert(name, object.clone());
        self.changed(object.clone(), false);
        Some(object)
    }

    /// Changes an object as its owners in the cluster do: on the newest version. `false` from `with`: nothing changed.
    pub(crate) fn update<K: Kept>(&mut self, name: &str, with: impl FnOnce(&mut K) -> bool) -> bool {
        let Some(mut object) = K::all(self).get(name).cloned() else { return false };
        with(&mut object) && {
            self.put(object);
            true
        }
    }

    /// A new version of an object there is; one that is being deleted and that nothing holds is gone.
    fn put<K: Kept>(&mut self, mut object: K) -> K {
        object.meta_mut().resource_version = Some(self.next_version());
        let name = object.meta().name.clone().unwrap_or_default();
        let meta = object.meta();
        let held = meta.finalizers.iter().flatten().next().is_some() || K::KIND == Kind::Pod;
        if meta.deletion_timestamp.is_some() && !held {
            K::all_mut(self).remove(&name);
            self.changed(object.clone(), true);
        } else {
            K::all_mut(self).insert(name, object.clone());
            self.changed(object.clone(), false);
        }
        object
    }

    /// Takes an object away at once.
    pub(crate) fn remove<K: Kept>(&mut self, name: &str) {
        if let Some(mut object) = K::all_mut(self).remove(name) {
            object.meta_mut().resource_version = Some(self.next_version());
            self.changed(object, true);
        }
    }

    /// Every object of a kind, as a list would give it.
    pub(crate) fn list(&self, kind: Kind) -> Vec<Item> {
        fn all<K: Kept>(api: &Api) -> Vec<Item> {
            K::all(api).values().cloned().map(Kept::item).collect()
        }
        match kind {
            Kind::Pod => all::<Pod>(self),
            Kind::Node => all::<Node>(self),
            Kind::NodeClaim => all::<NodeClaim>(self),
            Kind::NodePool => all::<NodePool>(self),
            Kind::DaemonSet => all::<DaemonSet>(self),
            Kind::PodDisruptionBudget => all::<PodDisruptionBudget>(self),
            Kind::NodeClass => all::<Ec2NodeClass>(self),
            _ => Vec::new(),
        }
    }

    fn changed<K: Kept>(&mut self, object: K, deleted: bool) {
        self.changes.push(Changed { kind: K::KIND, item: object.item(), deleted });
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }
}

impl Item {
    pub(crate) fn meta(&self) -> Option<&ObjectMeta> {
        match self {
            Self::Core(Object::Pod(object)) => Some(object.meta()),
            Self::Core(Object::Node(object)) => Some(object.meta()),
            Self::Core(Object::NodeClaim(object)) => Some(object.meta()),
            Self::Core(Object::NodePool(object)) => Some(object.meta()),
            Self::Core(Object::DaemonSet(object)) => Some(object.meta()),
            Self::Core(Object::PodDisruptionBudget(object)) => Some(object.meta()),
            Self::Class(object) => Some(object.meta()),
            Self::Core(_) => None,
        }
    }

    /// As a list names it.
    pub(crate) fn listed(&self) -> String {
        let Some(meta) = self.meta() else { return String::new() };
        let name = meta.name.as_deref().unwrap_or_default();
        match &meta.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// As the machine is told of it.
    pub(crate) fn event(self, deleted: bool) -> Event {
        match self {
            Self::Core(object) if deleted => Event::Observed(Observation::Kube(Change::Deleted(object))),
            Self::Core(object) => Event::Observed(Observation::Kube(Change::Applied(object))),
            Self::Class(class) if deleted => Event::NodeClassDeleted(class.metadata.name.unwrap_or_default()),
            Self::Class(class) => Event::NodeClassApplied(class),
        }
    }
}

/// The API server keeps whole seconds.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
