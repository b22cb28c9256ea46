//! What decisions read of volumes: where each can be attached, and how many a node takes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{CSINode, StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use karpenter_api::labels as keys;

use super::namespaced;
use crate::observation::{Kind, Object};

/// Set by the volume controller once a claim's binding is complete.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// What a volume's label may say of where it is.
const ZONES: [&str; 2] = [keys::ZONE, keys::REGION];
/// The CSI driver of EBS, and the plugin within Kubernetes that it has replaced.
const EBS_DRIVER: &str = "ebs.csi.aws.com";
const EBS_PLUGIN: &str = "kubernetes.io/aws-ebs";

/// Claims, volumes, classes and nodes' limits, each reduced to what is read of it.
#[derive(Debug, Default)]
pub struct Storage {
    /// By `namespace/name`.
    pub claims: BTreeMap<String, VolumeClaim>,
    pub volumes: BTreeMap<String, Volume>,
    pub classes: BTreeMap<String, VolumeClass>,
    /// By node, then driver: how many volumes can be attached.
    pub limits: BTreeMap<String, BTreeMap<String, i64>>,
    /// By node, then attachment: the volume that is attached, or is to be.
    pub attachments: BTreeMap<String, BTreeMap<String, String>>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeClaim {
    /// The volume it names, whether or not binding is complete.
    pub volume: Option<String>,
    pub bound: bool,
    pub class: Option<String>,
    pub lost: bool,
    pub deleting: bool,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Where it can be attached: any of these; none: everywhere.
    pub terms: Vec<NodeSelectorTerm>,
    /// Its labels of zone and region; several values are joined by `__`.
    pub zones: BTreeMap<String, String>,
    /// A disk or a folder of one node.
    pub local: bool,
    pub driver: Option<String>,
    pub deleting: bool,
}

/// A StorageClass.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeClass {
    /// The CSI driver that provisions its volumes.
    pub driver: String,
    /// Its claims wait for their first pod.
    pub waits: bool,
    /// Where its volumes may come into being: any of these; none: everywhere.
    pub topologies: Vec<TopologySelectorTerm>,
}

impl Storage {
    /// The driver that attaches the volume of a claim, if that can be told.
    pub fn driver_of(&self, claim: &str) -> Option<&str> {
        let claim = self.claims.get(claim)?;
        match (&claim.volume, &claim.class) {
            (Some(volume), _) => self.volumes.get(volume)?.driver.as_deref(),
            (None, Some(class)) => self.classes.get(class).map(|class| class.driver.as_str()),
            (None, None) => None,
        }
    }

    /// Says whether anything changed that decisions read.
    pub(super) fn applied(&mut self, object: &Object) -> bool {
        match object {
            Object::PersistentVolumeClaim(claim) => {
                put(&mut self.claims, namespaced(&claim.metadata), VolumeClaim::new(claim))
            }
            Object::PersistentVolume(volume) => put(&mut self.volumes, name(&volume.metadata), Volume::new(volume)),
            Object::StorageClass(class) => put(&mut self.classes, name(&class.metadata), VolumeClass::new(class)),
            Object::CsiNode(node) => put(&mut self.limits, name(&node.metadata), limits(node)),
            Object::VolumeAttachment(attachment) => {
                self.attached(attachment);
                false
            }
            _ => false,
        }
    }

    pub(super) fn deleted(&mut self, object: &Object) {
        match object {
            Object::PersistentVolumeClaim(claim) => drop(self.claims.remove(&namespaced(&claim.metadata))),
            Object::PersistentVolume(volume) => drop(self.volumes.remove(&name(&volume.metadata))),
            Object::StorageClass(class) => drop(self.classes.remove(&name(&class.metadata))),
            Object::CsiNode(node) => drop(self.limits.remove(&name(&node.metadata))),
            Object::VolumeAttachment(attachment) => self.detached(attachment),
            _ => {}
        }
    }

    pub(super) fn listed(&mut self, kind: Kind, names: &BTreeSet<&str>) {
        match kind {
            Kind::PersistentVolumeClaim => self.claims.retain(|name, _| names.contains(name.as_str())),
            Kind::PersistentVolume => self.volumes.retain(|name, _| names.contains(name.as_str())),
            Kind::StorageClass => self.classes.retain(|name, _| names.contains(name.as_str())),
            Kind::CsiNode => self.limits.retain(|name, _| names.contains(name.as_str())),
            Kind::VolumeAttachment => {
                for attached in self.attachments.values_mut() {
                    attached.retain(|name, _| names.contains(name.as_str()));
                }
                self.attachments.retain(|_, attached| !attached.is_empty());
            }
            _ => {}
        }
    }

    /// A volume without a name of its own is written in the attachment: nobody can tell whose it is.
    fn attached(&mut self, attachment: &VolumeAttachment) {
        let spec = &attachment.spec;
        if let Some(volume) = spec.source.persistent_volume_name.clone().filter(|name| !name.is_empty()) {
            let of_node = self.attachments.entry(spec.node_name.clone()).or_default();
            of_node.insert(name(&attachment.metadata), volume);
        }
    }

    fn detached(&mut self, attachment: &VolumeAttachment) {
        if let Some(of_node) = self.attachments.get_mut(&attachment.spec.node_name) {
            of_node.remove(&name(&attachment.metadata));
            if of_node.is_empty() {
                self.attachments.remove(&attachment.spec.node_name);
            }
        }
    }
}

impl VolumeClaim {
    fn new(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.as_ref();
        let set = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        Self {
            volume: set(spec.and_then(|spec| spec.volume_name.as_ref())),
            bound: claim.metadata.annotations.iter().flatten().any(|(key, _)| key == BIND_COMPLETED),
            class: set(spec.and_then(|spec| spec.storage_class_name.as_ref())),
            lost: phase == Some("Lost"),
            deleting: claim.metadata.deletion_timestamp.is_some(),
        }
    }
}

impl Volume {
    fn new(volume: &PersistentVolume) -> Self {
        let spec = volume.spec.as_ref();
        let required = spec.and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
        let csi = spec.and_then(|spec| spec.csi.as_ref()).map(|csi| csi.driver.clone());
        let labels = volume.metadata.labels.iter().flatten();
        let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
        let ebs = spec.and_then(|spec| spec.aws_elastic_block_store.as_ref()).map(|_| EBS_DRIVER.to_owned());
        Self {
            terms: required.map(|required| required.node_selector_terms.clone()).unwrap_or_default(),
            zones: labels.filter(|(key, _)| ZONES.contains(&keys::normalized(key))).map(owned).collect(),
            local: spec.is_some_and(|spec| spec.local.is_some() || spec.host_path.is_some()),
            driver: csi.or(ebs),
            deleting: volume.metadata.deletion_timestamp.is_some(),
        }
    }
}

impl VolumeClass {
    fn new(class: &StorageClass) -> Self {
        Self {
            driver: driver(&class.provisioner).to_owned(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: class.allowed_topologies.clone().unwrap_or_default(),
        }
    }
}

/// The limits that a node's drivers tell; one that tells none has none.
fn limits(node: &CSINode) -> BTreeMap<String, i64> {
    let told = |driver: &k8s_openapi::api::storage::v1::CSINodeDriver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((self::driver(&driver.name).to_owned(), i64::from(count)))
    };
    node.spec.drivers.iter().filter_map(told).collect()
}

fn driver(name: &str) -> &str {
    if name == EBS_PLUGIN { EBS_DRIVER } else { name }
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn put<T: PartialEq>(all: &mut BTreeMap<String, T>, name: String, new: T) -> bool {
    let changed = all.get(&name) != Some(&new);
    all.insert(name, new);
    changed
}
