//! Whether a node is what its claim was promised.

use karpenter_api::conditions as names;

use super::{Stage, about_claim};
use crate::world::NodeState;
use crate::{Fact, World, conditions, resources};

/// A node with less than this share of a resource is not what was launched, in percent.
const ENOUGH: i128 = 90;

pub(super) fn decide(world: &World, stage: &mut Stage<'_>) {
    let Some(node) = stage.status.node_name.as_ref().and_then(|name| world.nodes.get(name)) else {
        return;
    };
    let problem = if stage.is_true(names::INITIALIZED) { shape(stage, node) } else { None };
    let Some(problem) = problem else {
        return stage.achieved(names::CONSISTENT_STATE_FOUND);
    };
    let known = conditions::get(stage.status.conditions.as_deref(), names::CONSISTENT_STATE_FOUND);
    if known.is_none_or(|known| known.message != problem) {
        let (object, reason) = (about_claim(stage.state), "FailedConsistencyCheck");
        stage.facts.push(Fact::Event { object, warning: true, reason, message: problem.clone() });
    }
    stage.set(names::CONSISTENT_STATE_FOUND, "False", "ConsistencyCheckFailed", &problem);
}

/// The first resource that was asked for and of which the node has too little.
fn shape(stage: &Stage<'_>, node: &NodeState) -> Option<String> {
    let requests = stage.state.claim.spec.resources.as_ref()?.requests.as_ref()?;
    let expected = stage.status.capacity.as_ref()?;
    let found = node.node.status.as_ref().and_then(|status| status.capacity.as_ref());
    requests.iter().filter(|(_, amount)| !resources::is_zero(amount)).find_map(|(name, _)| {
        let amount = |text: &str| resources::amount(name, text).map(i128::from);
        let promised = amount(&expected.get(name)?.to_string()).filter(|promised| *promised > 0)?;
        let there = found.and_then(|found| found.get(name));
        let has = there.and_then(|there| amount(&there.0)).unwrap_or(0);
        let share = has * 100 / promised;
        (has * 100 < promised * ENOUGH).then(|| {
            let there = there.map_or("0", |there| there.0.as_str());
            format!("expected {} of resource {name}, but found {there} ({share}% of expected)", expected[name])
        })
    })
}
