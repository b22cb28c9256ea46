//! Nodes whose instance the cloud has found broken are replaced at once; those that it is going to stop or restart, in
//! their pods' own time.
//!
//! Nodes that the kubelet, or an agent on them, has called broken for too long are replaced (feature gate `NodeRepair`).
//! Not if more than a fifth of the NodePool's nodes are: then something else is broken, and new nodes would be as well.

use jiff::SignedDuration;

use super::{about_claim, about_node, deadline, delete_claim, disrupted, home_of, write_key};
use crate::cloud::RepairPolicy;
use crate::world::{ClaimState, NodeState};
use crate::{Cloud, Decision, Fact, Timestamp, World};

/// A pool with more unhealthy nodes than this, in percent and rounded up, is left alone.
const UNHEALTHY_MAX: usize = 20;
/// And looked at again after this long.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// Returns true if the claim's instance is being replaced.
pub(super) fn impaired<C>(world: &World, state: &ClaimState, now: Timestamp, decision: &mut Decision<C>) -> bool {
    let Some(found) = state.provider_id().and_then(|id| world.impaired.get(id)) else {
        return false;
    };
    if found.is_broken && deadline::of(state).is_none() {
        decision.kube(world, now, write_key(state), deadline::set(state, now));
        return true;
    }
    let (claim, home) = (about_claim(state), home_of(|key| state.label(key)));
    let unhealthy = |object| Fact::Event {
        object,
        warning: true,
        reason: "InstanceUnhealthy",
        message: format!("Instance is unhealthy: {}", found.message),
    };
    let node = super::node_of(world, state).map(about_node);
    let mut facts: Vec<Fact> = std::iter::once(claim.clone()).chain(node).map(unhealthy).collect();
    let (category, message) = (found.category, found.message.clone());
    facts.extend([Fact::ClaimImpaired { claim, home, category, message }, disrupted(state, category)]);
    delete_claim(world, state, facts, now, decision);
    true
}

/// Returns true if the claim's node is being replaced.
pub(super) fn decide<C: Cloud>(
    world: &World,
    cloud: &C,
    state: &ClaimState,
    node: &NodeState,
    now: Timestamp,
    decision: &mut Decision<C::Call>,
) -> bool {
    let policies = cloud.repair_policies();
    let Some((policy, from)) = broken(policies, node) else {
        return false;
    };
    if now < from {
        decision.wake(from);
        return false;
    }
    let pool = state.pool();
    let (unhealthy, nodes) = count(world, policies, pool);
    if unhealthy > (nodes * UNHEALTHY_MAX).div_ceil(100) {
        let whose = pool.map_or_else(|| "the cluster".to_owned(), |pool| format!("NodePool {pool:?}"));
        let message =
            format!("more than {UNHEALTHY_MAX}% of the nodes of {whose} are unhealthy: {unhealthy} of {nodes}");
        decision.facts.push(Fact::Event {
            object: about_node(node),
            warning: true,
            reason: "NodeRepairBlocked",
            message,
        });
        decision.wake(now.checked_add(LOOK_AGAIN).unwrap_or(now));
        return false;
    }
    // Nothing on a broken node is waited for. A time that is over already stays.
    if deadline::of(state).is_none_or(|deadline| deadline > now) {
        decision.kube(world, now, write_key(state), deadline::set(state, now));
        return true;
    }
    let image = state.claim.status.as_ref().and_then(|status| status.image_id.clone()).unwrap_or_default();
    let (claim, home) = (about_claim(state), home_of(|key| state.label(key)));
    let told = Fact::ClaimUnhealthy { claim, home, condition: policy.condition, image };
    delete_claim(world, state, vec![told, disrupted(state, "unhealthy")], now, decision);
    true
}

/// The policy whose patience with this node ends first, and when.
fn broken<'a>(policies: &'a [RepairPolicy], node: &NodeState) -> Option<(&'a RepairPolicy, Timestamp)> {
    let conditions = node.node.status.as_ref()?.conditions.as_deref()?;
    let matching = policies.iter().filter_map(|policy| {
        let found = conditions.iter().find(|c| c.type_ == policy.condition && c.status == policy.status)?;
        Some((policy, found.last_transition_time.as_ref()?.0.checked_add(policy.toleration).ok()?))
    });
    matching.min_by_key(|(_, from)| *from)
}

/// Unhealthy nodes and all nodes: of the pool, or of the cluster for a claim of none.
fn count(world: &World, policies: &[RepairPolicy], pool: Option<&str>) -> (usize, usize) {
    let is_counted = |node: &&NodeState| pool.is_none() || node.label(karpenter_api::labels::NODEPOOL) == pool;
    let (mut unhealthy, mut all) = (0, 0);
    for node in world.nodes.values().filter(is_counted) {
        all += 1;
        unhealthy += usize::from(broken(policies, node).is_some());
    }
    (unhealthy, all)
}
