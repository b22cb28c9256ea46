//! What a client's write does: preconditions, merge patches, deletion and eviction.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool};
use karpenter_core::action::WriteKind;
use karpenter_core::{Failure, KubeWrite, Object, ObjectRef, Part};
use karpenter_driver::Written;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Api, Item, Kept, whole_second};

/// What came of a write.
pub(crate) type Effect = Result<Written, Failure>;

impl Api {
    /// As the API server carries it out. `allows`: what the disruption budgets say of an eviction.
    pub(crate) fn write(
        &mut self,
        write: &KubeWrite,
        now: Timestamp,
        allows: impl FnOnce(&Self, &Pod) -> Result<(), String>,
    ) -> Effect {
        let (KubeWrite::Create { object, .. }
        | KubeWrite::Patch { object, .. }
        | KubeWrite::Delete { object, .. }
        | KubeWrite::Evict { object }) = write;
        match (write, object.kind) {
            (KubeWrite::Create { claim, .. }, WriteKind::NodeClaim) => {
                let mut claim = (**claim).clone();
                claim.status = None;
                let created = self.create(claim, now);
                created.map(written).ok_or_else(|| Failure::Conflict(format!("{object} already exists")))
            }
            (KubeWrite::Evict { .. }, WriteKind::Pod) => self.evict(object, now, allows),
            (_, WriteKind::Pod) => self.typed::<Pod>(write, now),
            (_, WriteKind::Node) => self.typed::<Node>(write, now),
            (_, WriteKind::NodePool) => self.typed::<NodePool>(write, now),
            (_, WriteKind::NodeClaim) => self.typed::<NodeClaim>(write, now),
            (_, WriteKind::Ec2NodeClass) => self.typed::<Ec2NodeClass>(write, now),
        }
    }

    fn typed<K: Kept + Serialize + DeserializeOwned>(&mut self, write: &KubeWrite, now: Timestamp) -> Effect {
        match write {
            KubeWrite::Patch { object, part, patch } => self.patch::<K>(object, *part, patch),
            KubeWrite::Delete { object, grace_period_seconds } => {
                let grace = grace_period_seconds.map(i64::from);
                match self.delete::<K>(&object.name, object.uid.as_deref(), grace, now) {
                    // Gone already is what a deletion wants.
                    Err(Failure::NotFound(_)) => Ok(Written::Nothing),
                    other => other,
                }
            }
            KubeWrite::Create { object, .. } | KubeWrite::Evict { object } => {
                Err(Failure::Refused(format!("{object}: not possible for this kind")))
            }
        }
    }

    fn patch<K: Kept + Serialize + DeserializeOwned>(&mut self, of: &ObjectRef, part: Part, patch: &Value) -> Effect {
        let known = K::all(self).get(&of.name).ok_or_else(|| Failure::NotFound(of.to_string()))?;
        let asked = patch.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if asked.is_some_and(|asked| known.meta().resource_version.as_deref() != Some(asked)) {
            return Err(Failure::Conflict(format!("{of}: the object has been modified")));
        }
        let refused = |error: serde_json::Error| Failure::Refused(format!("{of}: {error}"));
        let before = serde_json::to_value(known).map_err(refused)?;
        let mut after = before.clone();
        merge(&mut after, &subset(patch, part));
        if let (Some(known), Some(meta)) = (before.get("metadata"), after.get_mut("metadata")) {
            for fixed in ["uid", "creationTimestamp", "deletionTimestamp", "generation", "resourceVersion", "name"] {
                match (known.get(fixed), meta.as_object_mut()) {
                    (Some(value), _) => meta[fixed] = value.clone(),
                    (None, Some(meta)) => drop(meta.remove(fixed)),
                    (None, None) => {}
                }
            }
            if known["deletionTimestamp"].is_object() || known["deletionTimestamp"].is_string() {
                let had = |finalizer: &Value| known["finalizers"].as_array().is_some_and(|all| all.contains(finalizer));
                if meta["finalizers"].as_array().into_iter().flatten().any(|finalizer| !had(finalizer)) {
                    return Err(Failure::Refused(format!("{of}: no finalizer may be added to what is being deleted")));
                }
            }
        }
        if after == before {
            return Ok(written(known.clone()));
        }
        let turned = after.get("spec") != before.get("spec");
        let mut object: K = serde_json::from_value(after).map_err(refused)?;
        if turned {
            let generation = object.meta().generation.unwrap_or(0) + 1;
            object.meta_mut().generation = Some(generation);
        }
        Ok(written(self.put(object)))
    }

    /// A deletion by anyone.
    pub(crate) fn delete<K: Kept>(
        &mut self,
        name: &str,
        uid: Option<&str>,
        grace: Option<i64>,
        now: Timestamp,
    ) -> Effect {
        let known = K::all(self).get(name).ok_or_else(|| Failure::NotFound(name.to_owned()))?;
        if uid.is_some_and(|uid| known.meta().uid.as_deref() != Some(uid)) {
            return Err(Failure::Conflict(format!("{name}: the UID in the precondition is another's")));
        }
        let mut object = known.clone();
        if let Item::Core(Object::Pod(pod)) = known.clone().item() {
            return Ok(self.delete_pod(*pod, grace, now));
        }
        if object.meta().deletion_timestamp.is_some() {
            return Ok(written(object));
        }
        object.meta_mut().deletion_timestamp = Some(Time(whole_second(now)));
        object.meta_mut().deletion_grace_period_seconds = Some(0);
        let generation = object.meta().generation.map(|generation| generation + 1);
        object.meta_mut().generation = generation;
        Ok(written(self.put(object)))
    }

    /// A pod that runs has time to end; the kubelet takes it away.
    fn delete_pod(&mut self, mut pod: Pod, grace: Option<i64>, now: Timestamp) -> Written {
        let spec = pod.spec.as_ref();
        let bound = spec.and_then(|spec| spec.node_name.as_ref()).is_some();
        let default = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let ended = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        let grace = grace.unwrap_or(default);
        if grace == 0 || !bound || ended {
            self.remove::<Pod>(pod.metadata.name.as_deref().unwrap_or_default());
            return Written::Nothing;
        }
        let ends = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        let ends = whole_second(ends);
        if pod.metadata.deletion_timestamp.as_ref().is_some_and(|known| known.0 <= ends) {
            return written(pod);
        }
        pod.metadata.deletion_timestamp = Some(Time(ends));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        written(self.put(pod))
    }

    fn evict(
        &mut self,
        of: &ObjectRef,
        now: Timestamp,
        allows: impl FnOnce(&Self, &Pod) -> Result<(), String>,
    ) -> Effect {
        let pod = self.pods.get(&of.name).ok_or_else(|| Failure::NotFound(of.to_string()))?;
        if of.uid.is_some() && pod.metadata.uid != of.uid {
            return Err(Failure::Conflict(format!("{of}: the UID in the precondition is another's")));
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let free =
            matches!(phase, Some("Succeeded" | "Failed" | "Pending")) || pod.metadata.deletion_timestamp.is_some();
        if !free {
            allows(self, pod).map_err(Failure::Blocked)?;
        }
        let pod = pod.clone();
        self.delete_pod(pod, None, now);
        Ok(Written::Nothing)
    }
}

fn written<K: Kept>(object: K) -> Written {
    match object.item() {
        Item::Core(object) => Written::Object(object),
        Item::Class(class) => Written::NodeClass(class),
    }
}

/// Of a patch, what its endpoint looks at.
fn subset(patch: &Value, part: Part) -> Value {
    let mut part_of = Map::new();
    for (key, value) in patch.as_object().into_iter().flatten() {
        if (key == "status") == (part == Part::Status) {
            part_of.insert(key.clone(), value.clone());
        }
    }
    Value::Object(part_of)
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(known) = target.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            known.remove(key);
        } else {
            merge(known.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
