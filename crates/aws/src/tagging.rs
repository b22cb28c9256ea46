//! Tags that an instance gets once its node has registered: name, NodeClaim, cluster; each only if it is absent, one
//! instance a second, as Karpenter does. What is written down on the claim is not asked again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{conditions as names, labels as keys};
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::world::ClaimState;
use karpenter_core::{Decision, World, conditions};
use serde_json::json;

use crate::Aws;
use crate::call::{Call, Launch};
use crate::report::{Fleet, InstanceInfo};

const NAME: &str = "Name";
/// Between two calls.
const APART: SignedDuration = SignedDuration::from_secs(1);
/// EC2 describes an instance by then; one that it does not is gone.
const DESCRIBED_WITHIN: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Default)]
pub(crate) struct Tagging {
    /// By instance id: when it was heard of, and the keys of its tags.
    known: BTreeMap<String, (Timestamp, BTreeSet<String>)>,
    last: Option<Timestamp>,
}

impl Tagging {
    pub(crate) fn launched(&mut self, launch: &Launch, fleet: &Fleet, now: Timestamp) {
        let own = launch.configs.iter().flat_map(|config| config.template.tags.keys());
        let tags: BTreeSet<String> = launch.tags.keys().chain(own).cloned().collect();
        for instance in &fleet.instances {
            self.known.insert(instance.id.clone(), (now, tags.clone()));
        }
    }

    pub(crate) fn listed(&mut self, instances: &[InstanceInfo], now: Timestamp) {
        self.known.retain(|_, (at, _)| now.duration_since(*at) < DESCRIBED_WITHIN);
        for instance in instances {
            let (at, tags) = self.known.entry(instance.id.clone()).or_insert_with(|| (now, BTreeSet::new()));
            *at = now;
            tags.extend(instance.tags.keys().cloned());
        }
    }

    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.last = Some(now);
    }

    pub(crate) fn tagged(&mut self, instance_id: &str, tags: &BTreeMap<String, String>) {
        if let Some((_, known)) = self.known.get_mut(instance_id) {
            known.extend(tags.keys().cloned());
        }
    }
}

impl Aws {
    pub(crate) fn tag(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        let next = self.tagging.last.and_then(|last| last.checked_add(APART).ok()).filter(|next| *next > now);
        let mut may_call = next.is_none();
        for state in world.claims.values().filter(|state| is_due(state)) {
            let id = state.provider_id().and_then(|id| id.strip_prefix("aws:///")?.rsplit('/').next());
            let Some((id, (_, known))) = id.and_then(|id| Some((id, self.tagging.known.get(id)?))) else { continue };
            let missing: BTreeMap<String, String> =
                self.wanted(state).into_iter().filter(|(key, _)| !known.contains(key)).collect();
            if missing.is_empty() {
                let key = ActionKey::new(format!("NodeClaim/{}", state.name()), "write");
                decision.kube(world, now, key, note(state));
            } else if may_call {
                let key = ActionKey::new(format!("Instance/{id}"), "tag");
                let call = Call::Tag { instance_id: id.to_owned(), tags: missing };
                may_call = !decision.cloud(world, now, key, call);
            } else if let Some(next) = next {
                decision.wake(next);
            }
        }
    }

    fn wanted(&self, state: &ClaimState) -> [(String, String); 3] {
        let node = state.claim.status.as_ref().and_then(|status| status.node_name.clone()).unwrap_or_default();
        [
            (NAME.to_owned(), node),
            (keys::TAG_NODECLAIM.to_owned(), state.name().to_owned()),
            (keys::TAG_CLUSTER.to_owned(), self.settings.cluster_name.clone()),
        ]
    }
}

/// Registered, and not written down yet that it is tagged.
fn is_due(state: &ClaimState) -> bool {
    let status = state.claim.status.as_ref();
    let list = status.and_then(|status| status.conditions.as_deref());
    let has_node = status.is_some_and(|status| status.node_name.as_ref().is_some_and(|name| !name.is_empty()));
    let annotations = state.claim.metadata.annotations.as_ref();
    let done = |key: &str| annotations.and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    // Of most claims this is all there is to see.
    let all_done = done(keys::TAGGED) && done(keys::CLUSTER_NAME_TAGGED);
    !all_done && !state.is_deleting() && has_node && conditions::is_true(list, names::REGISTERED)
}

fn note(state: &ClaimState) -> KubeWrite {
    let object = ObjectRef::cluster(WriteKind::NodeClaim, state.name(), state.claim.metadata.uid.clone());
    let annotations = json!({ keys::TAGGED: "true", keys::CLUSTER_NAME_TAGGED: "true" });
    KubeWrite::Patch { object, part: Part::Main, patch: json!({ "metadata": { "annotations": annotations } }) }
}
