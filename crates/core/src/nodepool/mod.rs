//! What a NodePool's status says: validity, readiness of its NodeClass, counters; and its hash.
//!
//! Conditions: `ValidationSucceeded` and `NodeClassReady` make `Ready`; `NodeRegistrationHealthy`
//! informs only.

mod hash;

use jiff::SignedDuration;
use karpenter_api::{NodePool, NodePoolStatus, conditions as names, validation};
use serde_json::{Value, json};

use crate::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use crate::cloud::NodeClassState;
use crate::fact::About;
use crate::resources::{self, Resources};
use crate::world::Health;
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
        if hash::stamp(world, name, pool, now, &mut decision) {
            continue;
        }
        let known = pool.status.clone().unwrap_or_default();
        let mut status = known.clone();
        judge(world, name, pool, cloud, &mut status, now);
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
            "status": counted(&known, &status),
        });
        let object = reference(pool);
        let facts = conditions::turned(&about(pool), known.conditions.as_deref(), status.conditions.as_deref());
        decision.kube_then(world, now, key, KubeWrite::Patch { object, part: Part::Status, patch }, facts);
    }
    decision
}

/// A merge patch leaves what it does not name: resources that no node has any longer are named as gone.
fn counted(known: &NodePoolStatus, status: &NodePoolStatus) -> Value {
    let mut patch = json!(status);
    if let Some(resources) = patch.get_mut("resources").and_then(Value::as_object_mut) {
        for resource in known.resources.iter().flat_map(|all| all.keys()) {
            resources.entry(resource.clone()).or_insert(Value::Null);
        }
    }
    patch
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

fn judge<C: Cloud>(world: &World, name: &str, pool: &NodePool, cloud: &C, status: &mut NodePoolStatus, now: Timestamp) {
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
    registration_health(world, name, pool, status, now);
    let list = status.conditions.get_or_insert_default();
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

/// Whether the pool's latest launches became nodes; nothing is known of a template or a class that is new.
fn registration_health(world: &World, name: &str, pool: &NodePool, status: &mut NodePoolStatus, now: Timestamp) {
    let generation = pool.metadata.generation;
    let judged_class = pool.status.as_ref().and_then(|status| status.node_class_observed_generation);
    let new_class = status.node_class_observed_generation != judged_class;
    let list = status.conditions.get_or_insert_default();
    let known = conditions::get(Some(list), names::NODE_REGISTRATION_HEALTHY);
    let is_stale = known.is_none_or(|known| known.observed_generation != generation) || new_class;
    let (value, reason, message) = match world.health.get(name).and_then(Health::verdict) {
        _ if is_stale => ("Unknown", "AwaitingReconciliation", "object is awaiting reconciliation"),
        None => return,
        Some(Ok(())) => ("True", names::NODE_REGISTRATION_HEALTHY, ""),
        Some(Err((reason, message))) => ("False", reason, message),
    };
    conditions::set(list, names::NODE_REGISTRATION_HEALTHY, value, reason, message, generation, now);
}

/// Nodes and resources of the pool's claims; a node's own figures where it has joined.
fn count(world: &World, pool: &str, status: &mut NodePoolStatus) {
    let mut total: Resources =
        [resources::CPU, resources::MEMORY, resources::PODS, resources::EPHEMERAL_STORAGE, resources::NODES]
            .into_iter()
            .map(|name| (name, 0))
            .collect();
    if let Some(provisioned) = world.provisioned().get(pool) {
        total.add(provisioned);
    }
    status.nodes = Some(total.get(resources::NODES));
    status.resources =
        Some(total.0.iter().map(|(name, amount)| (name.clone(), resources::quantity(name, *amount))).collect());
}
