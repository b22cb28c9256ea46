//! Volumes that are there from the start, and in each namespace the claims that are bound to them.

use karpenter_api::labels;
use serde_json::{Value, json};

use crate::cloud::ZONES;
use crate::dice::Dice;
use crate::workload::NAMESPACES;

const DRIVER: &str = "disk.example.com";

/// Names of claims, and the zones where their volumes can be attached, each by a term of its own; none: everywhere.
pub(crate) const DISKS: [(&str, &[&str]); 7] = [
    ("left", &[ZONES[0]]),
    ("left-too", &[ZONES[0]]),
    ("right", &[ZONES[1]]),
    ("right-too", &[ZONES[1]]),
    ("far", &[ZONES[2]]),
    ("either", &[ZONES[0], ZONES[1]]),
    ("anywhere", &[]),
];

/// Volumes before their claims.
pub(crate) fn objects() -> Vec<Value> {
    let all = || NAMESPACES.iter().flat_map(|(namespace, _)| DISKS.iter().map(move |disk| (*namespace, disk)));
    let volumes = all().map(|(namespace, (name, zones))| volume(namespace, name, zones));
    volumes.chain(all().map(|(namespace, (name, _))| claim(namespace, name))).collect()
}

fn volume(namespace: &str, name: &str, zones: &[&str]) -> Value {
    let in_zone =
        |zone: &&str| json!({ "matchExpressions": [{ "key": labels::ZONE, "operator": "In", "values": [zone] }] });
    let terms: Vec<Value> = zones.iter().map(in_zone).collect();
    let mut spec = json!({
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteMany"],
        "csi": { "driver": DRIVER, "volumeHandle": format!("{namespace}-{name}") },
        "claimRef": { "namespace": namespace, "name": name }, "persistentVolumeReclaimPolicy": "Retain",
    });
    if !terms.is_empty() {
        spec["nodeAffinity"] = json!({ "required": { "nodeSelectorTerms": terms } });
    }
    let metadata = json!({ "name": format!("{namespace}-{name}") });
    json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec })
}

fn claim(namespace: &str, name: &str) -> Value {
    let spec = json!({
        "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "1Gi" } },
        "storageClassName": "", "volumeName": format!("{namespace}-{name}"),
    });
    let metadata = json!({ "name": name, "namespace": namespace });
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec })
}

/// The few volumes that a node takes, as its driver has told.
pub(crate) fn limit(dice: &mut Dice, node: &Value) -> Value {
    let name = &node["metadata"]["name"];
    let driver = json!({ "name": DRIVER, "nodeID": name, "allocatable": { "count": dice.within(0, 2) } });
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": { "name": name },
        "spec": { "drivers": [driver] },
    })
}
