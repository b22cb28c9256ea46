//! What a NodePool's status says: validity, readiness of its NodeClass, counters; and its hash.
//!
//! Conditions: `ValidationSucceeded` and `NodeClassReady` make `Ready`; `NodeRegistrationHealthy`
//! informs only.

use jiff::SignedDuration;
use karpenter_api::{NodePool, NodePoolStatus, conditions as names, hash, labels, validation};
use serde_json::json;

use crate::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use crate::cloud::NodeClassState;
use crate::fact::About;
use crate::resources::{self, Resources};
use crate::{Cloud, Decision, Timestamp, World, conditions};

/// Counters are written at most this often per pool; conditions at once.
const COUNT_EVERY: SignedDuration = SignedDuration::from_secs(5);

pub fn decide<C: Cloud>(world: &World, cloud: &C, now: Timestamp) -> Decision<C::Call> {
    let mut decision = Decision::default();
    for (name, pool) in &world.pools {
        if pool.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let key = ActionKey::new(format!("NodePool/{name}"), "write");
        if let Some(write) = stamp(pool) {
            decision.kube(world, now, key, write);
            continue;
        }
        let known = pool.status.clone().unwrap_or_default();
        let mut status = known.clone();
        judge(pool, cloud, &mut status, now);
        let judged = status != known;
        count(world, name, &mut status);
        if status == known {
            continue;
        }
        // A change of counters alone waits for its turn.
        let turn = world.pool_counted.get(name).and_then(|at| at.checked_add(COUNT_EVERY).ok());
        if let Some(turn) = turn.filter(|turn| !judged && *turn > now) {
            decision.wake(turn);
            continue;
        }
        let patch = json!({
            "metadata": { "resourceVersion": pool.metadata.resource_version },
            "status": status,
        });
        let object = reference(pool);
        let facts = conditions::turned(&about(pool), known.conditions.as_deref(), status.conditions.as_deref());
        decision.kube_then(world, now, key, KubeWrite::Patch { object, part: Part::Status, patch }, facts);
    }
    decision
}

fn reference(pool: &NodePool) -> ObjectRef {
    let name = pool.metadata.name.clone().unwrap_or_default();
    ObjectRef::cluster(WriteKind::NodePool, name, pool.metadata.uid.clone())
}

fn about(pool: &NodePool) -> About {
    About {
        kind: "NodePool",
        namespace: String::new(),
        name: pool.metadata.name.clone().unwrap_or_default(),
        uid: pool.metadata.uid.clone().unwrap_or_default(),
    }
}

/// The template's hash, from which static drift is told.
fn stamp(pool: &NodePool) -> Option<KubeWrite> {
    let hash = hash::nodepool_hash(pool);
    let annotation = |key: &str| pool.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let current = annotation(labels::NODEPOOL_HASH) == Some(hash.as_str())
        && annotation(labels::NODEPOOL_HASH_VERSION) == Some(hash::NODEPOOL_HASH_VERSION);
    if current {
        return None;
    }
    let patch = json!({ "metadata": { "annotations": {
        labels::NODEPOOL_HASH: hash,
        labels::NODEPOOL_HASH_VERSION: hash::NODEPOOL_HASH_VERSION,
    }}});
    Some(KubeWrite::Patch { object: reference(pool), part: Part::Main, patch })
}

fn judge<C: Cloud>(pool: &NodePool, cloud: &C, status: &mut NodePoolStatus, now: Timestamp) {
    let generation = pool.metadata.generation;
    let list = status.conditions.get_or_insert_default();
    let mut set = |condition: &str, value: &str, reason: &str, message: &str| {
        conditions::set(list, condition, value, reason, message, generation, now);
    };
    let invalid = validation::nodepool(pool).err();
    match &invalid {
        None => set(names::VALIDATION_SUCCEEDED, "True", names::VALIDATION_SUCCEEDED, ""),
        Some(problem) => {
            set(names::VALIDATION_SUCCEEDED, "False", "NodePoolValidationFailed", &problem.to_string());
        }
    }
    let class = &pool.spec.template.spec.node_class_ref.name;
    let not_ready = match cloud.node_class(class) {
        NodeClassState::Ready { generation } => {
            status.node_class_observed_generation = Some(generation);
            None
        }
        NodeClassState::NotFound => Some(("NodeClassNotFound".to_owned(), format!("EC2NodeClass {class:?} not found"))),
        NodeClassState::Terminating => {
            Some(("NodeClassTerminating".to_owned(), format!("EC2NodeClass {class:?} is being deleted")))
        }
        NodeClassState::Unknown => {
            Some(("NodeClassReadinessUnknown".to_owned(), format!("EC2NodeClass {class:?} is not judged yet")))
        }
        NodeClassState::NotReady { reason, message } => Some((reason, message)),
    };
    match &not_ready {
        None => set(names::NODE_CLASS_READY, "True", names::NODE_CLASS_READY, ""),
        Some((reason, message)) => set(names::NODE_CLASS_READY, "False", reason, message),
    }
    if conditions::get(Some(list), names::NODE_REGISTRATION_HEALTHY).is_none() {
        conditions::set(
            list,
            names::NODE_REGISTRATION_HEALTHY,
            "Unknown",
            "AwaitingReconciliation",
            "object is awaiting reconciliation",
            generation,
            now,
        );
    }
    let unhealthy: Vec<&str> =
        [(names::VALIDATION_SUCCEEDED, invalid.is_some()), (names::NODE_CLASS_READY, not_ready.is_some())]
            .into_iter()
            .filter_map(|(condition, bad)| bad.then_some(condition))
            .collect();
    if unhealthy.is_empty() {
        conditions::set(list, names::READY, "True", names::READY, "", generation, now);
    } else {
        let message = unhealthy.iter().map(|c| format!("{c}=False")).collect::<Vec<_>>().join(", ");
        conditions::set(list, names::READY, "False", "UnhealthyDependents", &message, generation, now);
    }
}

/// Nodes and resources of the pool's claims; a node's own figures where it has joined.
fn count(world: &World, pool: &str, status: &mut NodePoolStatus) {
    let mut total: Resources =
        [resources::CPU, resources::MEMORY, resources::PODS, resources::EPHEMERAL_STORAGE, resources::NODES]
            .into_iter()
            .map(|name| (name, 0))
            .collect();
    let mut nodes = 0;
    for state in world.claims.values().filter(|state| state.pool() == Some(pool) && !state.is_deleting()) {
        if state.provider_id().is_none() {
            continue;
        }
        nodes += 1;
        total.add(&world.capacity_of(state));
    }
    total.set(resources::NODES, nodes);
    status.nodes = Some(nodes);
    status.resources =
        Some(total.0.iter().map(|(name, amount)| (name.clone(), resources::quantity(name, *amount))).collect());
}
