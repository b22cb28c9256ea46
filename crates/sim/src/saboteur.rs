//! Deliberate bugs: what the machine hears, or what it does, is altered. If the invariants are worth something, each is
//! found.

use karpenter_api::{conditions, taints};
use karpenter_aws::call::Call;
use karpenter_aws::report::{Fleet, Report};
use karpenter_core::action::WriteKind;
use karpenter_core::{Action, ActionKey, Change, Deed, KubeWrite, Object, Observation, Part};
use karpenter_driver::{Event, Written};

use crate::dice::Dice;

macro_rules! mutations {
    ($($name:ident: $meaning:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutation { $($name,)* }

        impl Mutation {
            pub const ALL: &'static [Mutation] = &[$(Self::$name,)*];

            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

mutations! {
    SkipPodBudgets: "pods are deleted where they should be evicted",
    ForgetClientToken: "every launch has a token of its own",
    BelieveGone: "an instance counts as gone as soon as its end was asked for",
    TakeUnknownForNothing: "a launch whose end is not known counts as one that bought nothing",
    IgnoreLimits: "NodePools are read without their limits",
    IgnoreDoNotDisrupt: "pods are read without their do-not-disrupt annotation",
    ForgetRelist: "a watch that broke is never listed again",
    SkipDrain: "pods on nodes that are being deleted are not seen",
    NeverTerminate: "instances are believed to be ending, and nobody asks for it",
    ForgetTimers: "nothing is done at its time, only when something happens",
    WriteBlindly: "patches carry no resource version",
    KeepUnregistered: "nodes keep the taint that keeps pods away until they are registered",
    ForgetFinalizer: "the finalizer of a NodeClaim goes when its node is being drained",
    WriteForever: "a NodePool's counters never look as they were written",
    LoseAnswers: "one answer in a hundred is never heard",
    DisruptTooMany: "NodeClaims are disrupted without a look at the budgets",
}

#[derive(Debug)]
pub(crate) struct Saboteur {
    mutation: Option<Mutation>,
    count: u64,
    dice: Dice,
}

impl Saboteur {
    pub(crate) fn new(mutation: Option<Mutation>, seed: u64) -> Self {
        Self { mutation, count: 0, dice: Dice::of(seed, "saboteur") }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(crate) fn forgets_relist(&self) -> bool {
        self.is(Mutation::ForgetRelist)
    }

    pub(crate) fn sleeps(&self) -> bool {
        self.is(Mutation::ForgetTimers)
    }

    /// What the machine hears instead.
    pub(crate) fn hears(&mut self, mut event: Event) -> Option<Event> {
        let Some(mutation) = self.mutation else { return Some(event) };
        match (&mut event, mutation) {
            (Event::Reported { .. } | Event::Written { .. }, Mutation::LoseAnswers) if self.dice.chance(100) => {
                return None;
            }
            (Event::Reported { report, .. }, _) => Self::report(report, mutation),
            (
                Event::Observed(Observation::Kube(Change::Applied(object)))
                | Event::Written { outcome: Ok(Written::Object(object)), .. },
                _,
            ) => Self::object(object, mutation),
            _ => {}
        }
        Some(event)
    }

    fn report(report: &mut Report, mutation: Mutation) {
        match (report, mutation) {
            (Report::Terminate { result, .. }, Mutation::BelieveGone) => *result = Ok(false),
            (Report::Launch { result, .. }, Mutation::TakeUnknownForNothing)
                if result.as_ref().is_err_and(|error| error.uncertain) =>
            {
                *result = Ok(Fleet::default());
            }
            _ => {}
        }
    }

    fn object(object: &mut Object, mutation: Mutation) {
        match (object, mutation) {
            (Object::NodePool(pool), Mutation::IgnoreLimits) => pool.spec.limits = None,
            (Object::NodePool(pool), Mutation::WriteForever) => {
                if let Some(status) = &mut pool.status {
                    status.nodes = Some(-1);
                }
            }
            (Object::Pod(pod), Mutation::IgnoreDoNotDisrupt) => pod.metadata.annotations = None,
            (Object::Pod(pod), Mutation::SkipDrain) => {
                let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
                if bound && let Some(spec) = &mut pod.spec {
                    // As of a pod that tolerates everything.
                    let all = serde_json::from_str(r#"[{"operator": "Exists"}]"#);
                    spec.tolerations = all.ok();
                }
            }
            _ => {}
        }
    }

    /// What is done instead.
    pub(crate) fn does(&mut self, mut action: Action<Call>) -> Vec<Action<Call>> {
        let Some(mutation) = self.mutation else { return vec![action] };
        self.count += 1;
        match (&mut action.deed, mutation) {
            (Deed::Kube(write), Mutation::DisruptTooMany) => {
                let more = disrupt(write);
                return [action].into_iter().chain(more).collect();
            }
            (Deed::Kube(write), _) => alter(write, mutation),
            (Deed::Cloud(Call::Launch(launch)), Mutation::ForgetClientToken) => {
                launch.client_token = format!("token-{}", self.count);
            }
            (Deed::Cloud(Call::Terminate { instance_id, .. }), Mutation::NeverTerminate) => {
                "i-0".clone_into(instance_id);
            }
            _ => {}
        }
        vec![action]
    }
}

fn alter(write: &mut KubeWrite, mutation: Mutation) {
    match mutation {
        Mutation::SkipPodBudgets => {
            if let KubeWrite::Evict { object } = write {
                *write = KubeWrite::Delete { object: object.clone(), grace_period_seconds: None };
            }
        }
        Mutation::WriteBlindly => {
            if let KubeWrite::Patch { patch, .. } = write
                && let Some(meta) = patch.get_mut("metadata").and_then(|meta| meta.as_object_mut())
            {
                meta.remove("resourceVersion");
            }
        }
        Mutation::KeepUnregistered => {
            if let KubeWrite::Patch { object, patch, .. } = write
                && object.kind == WriteKind::Node
                && let Some(list) = patch.pointer_mut("/spec/taints").and_then(|taints| taints.as_array_mut())
                && let Ok(taint) = serde_json::to_value(taints::unregistered())
            {
                list.push(taint);
            }
        }
        Mutation::ForgetFinalizer => {
            if let KubeWrite::Patch { object, part, patch } = write
                && object.kind == WriteKind::NodeClaim
                && let Some(list) = patch.pointer("/status/conditions").and_then(|list| list.as_array())
                && list.iter().any(|condition| condition["type"] == conditions::DRAINED)
            {
                *part = Part::Main;
                *patch = serde_json::json!({ "metadata": { "finalizers": [] } });
            }
        }
        _ => {}
    }
}

/// A claim that has got a status is disrupted, whatever the budgets say.
fn disrupt(write: &mut KubeWrite) -> Option<Action<Call>> {
    let KubeWrite::Patch { object, part: Part::Status, patch } = write else { return None };
    let list = patch.pointer_mut("/status/conditions").and_then(|list| list.as_array_mut())?;
    if object.kind != WriteKind::NodeClaim {
        return None;
    }
    list.retain(|one| one["type"] != conditions::DISRUPTION_REASON);
    list.push(serde_json::json!({
        "type": conditions::DISRUPTION_REASON, "status": "True", "reason": "Empty", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let deed = Deed::Kube(KubeWrite::Delete { object: object.clone(), grace_period_seconds: None });
    let key = ActionKey::new(object.to_string(), "disrupt");
    Some(Action { key, deed, facts: Vec::new() })
}
