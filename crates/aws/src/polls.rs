//! What is asked of AWS by the clock, and what the EC2NodeClasses' objects need.

use jiff::{SignedDuration, Timestamp};
use karpenter_api::labels as keys;
use karpenter_core::action::{ActionKey, KubeWrite, ObjectRef, Part, WriteKind};
use karpenter_core::fact::About;
use karpenter_core::{Decision, Fact, World, conditions};
use serde_json::{Value, json};

use crate::call::{Call, Filters, Trial};
use crate::class::Class;
use crate::shifts::{self, SHIFTS_EVERY};
use crate::{Aws, ami, partitions, stamp};

const CLUSTER_EVERY: SignedDuration = SignedDuration::from_mins(5);
const TYPES_EVERY: SignedDuration = SignedDuration::from_hours(12);
const PRICES_EVERY: SignedDuration = SignedDuration::from_hours(12);
/// The list of instances: often at first, when a predecessor may have left something behind.
const INSTANCES_FIRST: SignedDuration = SignedDuration::from_secs(10);
const INSTANCES_EVERY: SignedDuration = SignedDuration::from_mins(2);
const STATUSES_EVERY: SignedDuration = SignedDuration::from_mins(1);
const FIRST_RUNS: u32 = 20;

/// When each list was last had.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    pub(crate) cluster: Option<Timestamp>,
    pub(crate) types: Option<Timestamp>,
    pub(crate) on_demand: Option<Timestamp>,
    pub(crate) spot: Option<Timestamp>,
    pub(crate) shifts: Option<Timestamp>,
    pub(crate) statuses: Option<Timestamp>,
    instances: Option<Timestamp>,
    instance_runs: u32,
}

impl Polled {
    pub(crate) fn instances(&mut self, now: Timestamp) {
        self.instances = Some(now);
        self.instance_runs = self.instance_runs.saturating_add(1);
    }
}

impl Aws {
    /// Everything AWS' part wants done now. Pure, like every decision.
    pub fn decide(&self, world: &World, now: Timestamp) -> Decision<Call> {
        let mut decision = Decision::default();
        self.lists(world, now, &mut decision);
        // What AWS sells can be asked for while the API server still tells what there is; the rest must know it.
        if !world.is_listed() {
            return decision;
        }
        for class in self.classes.values() {
            if class.is_deleting() {
                self.end(world, class, now, &mut decision);
            } else {
                self.keep(world, class, now, &mut decision);
            }
        }
        self.clean_profiles(world, now, &mut decision);
        self.clean_templates(world, now, &mut decision);
        self.tag(world, now, &mut decision);
        self.keep_reserved(world, now, &mut decision);
        self.tell_partitions(world, now, &mut decision);
        for until in self.unavailable.next(now).into_iter().chain(self.shifts.next_end()) {
            decision.wake(until);
        }
        for (zone, shifted) in self.shifts.news() {
            decision.facts.extend(world.pools.values().map(|pool| shifts::fact(pool, zone, shifted)));
        }
        decision
    }

    fn lists(&self, world: &World, now: Timestamp, decision: &mut Decision<Call>) {
        // A node that ends and does not answer may have lost its instance: its end waits for this list.
        let awaited = || world.nodes.values().any(|node| node.is_deleting() && !node.is_ready());
        // It tells partitions as well, and nodes wait for theirs.
        let in_partitions = || partitions::awaiting(world).next().is_some();
        let often = self.polled.instance_runs < FIRST_RUNS || awaited() || in_partitions();
        let instances = if often { INSTANCES_FIRST } else { INSTANCES_EVERY };
        let mut ask = |verb: &'static str, at: Option<Timestamp>, every: SignedDuration, call: Call| match at
            .and_then(|at| at.checked_add(every).ok())
            .filter(|next| *next > now)
        {
            Some(next) => decision.wake(next),
            None => {
                decision.cloud(world, now, ActionKey::new("aws", verb), call);
            }
        };
        let name = self.settings.cluster_name.clone();
        ask("cluster", self.polled.cluster, CLUSTER_EVERY, Call::Cluster { name });
        ask("instance-types", self.polled.types, TYPES_EVERY, Call::InstanceTypes);
        if !self.settings.isolated_vpc && crate::prices::are_listed(&self.settings.region) {
            ask("on-demand-prices", self.polled.on_demand, PRICES_EVERY, Call::OnDemandPrices);
        }
        ask("spot-prices", self.polled.spot, PRICES_EVERY, Call::SpotPrices);
        if let Some(arn) = self.cluster.arn().filter(|_| self.settings.zonal_shift) {
            ask("zonal-shifts", self.polled.shifts, SHIFTS_EVERY, Call::ZonalShifts { cluster_arn: arn.to_owned() });
        }
        ask("instance-statuses", self.polled.statuses, STATUSES_EVERY, Call::InstanceStatuses);
        ask("instances", self.polled.instances, instances, Call::Instances { filters: self.owned() });
    }

    /// Instances of this cluster that we manage.
    pub(crate) fn owned(&self) -> Filters {
        let any = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        [
            (format!("tag:{}", keys::TAG_CLUSTER), vec![self.settings.cluster_name.clone()]),
            (format!("tag:{}", keys::NODEPOOL), any(&["*"])),
            (format!("tag:{}", keys::EC2_NODE_CLASS), any(&["*"])),
            ("instance-state-name".to_owned(), any(&["pending", "running", "shutting-down", "stopping", "stopped"])),
        ]
        .into_iter()
        .collect()
    }

    /// A class in use: finalizer and hash, polls, status.
    fn keep(&self, world: &World, class: &Class, now: Timestamp, decision: &mut Decision<Call>) {
        let subject = format!("EC2NodeClass/{}", class.name());
        if stamp::stamp(world, class, self.cluster_ca(), now, decision) {
            return;
        }
        let kubernetes = self.cluster().map(|cluster| cluster.version.as_str());
        let (due, next) = class.polls(&self.settings, kubernetes, now);
        for (verb, call) in due {
            decision.cloud(world, now, ActionKey::new(subject.clone(), verb), call);
        }
        if let Some(next) = next {
            decision.wake(next);
        }
        let mut draft = class.draft(&self.settings, self.cluster(), now);
        draft.figures = self.check_figures(class).err();
        let trial = self.trial(world, class, &draft);
        let inputs = trial.as_ref().map(|trial| trial.inputs.clone());
        if let Some(trial) = trial {
            try_out(world, class, trial, now, decision);
        }
        let status = class.status(&self.settings, self.cluster(), draft, inputs.as_deref(), now);
        if class.object.status.as_ref() != Some(&status) {
            let patch = json!({
                "metadata": { "resourceVersion": class.object.metadata.resource_version },
                "status": replacing(json!(class.object.status), json!(status)),
            });
            let write = KubeWrite::Patch { object: reference(class), part: Part::Status, patch };
            let before = class.object.status.as_ref().and_then(|status| status.conditions.as_deref());
            let facts = conditions::turned(&about(class), before, status.conditions.as_deref());
            decision.kube_then(world, now, ActionKey::new(subject, "write"), write, facts);
        }
    }

    /// A class that is being deleted stays while claims use it, then takes what was made for it along.
    fn end(&self, world: &World, class: &Class, now: Timestamp, decision: &mut Decision<Call>) {
        let finalizers = class.object.metadata.finalizers.as_deref().unwrap_or_default();
        if !finalizers.iter().any(|f| f == keys::EC2_NODE_CLASS_FINALIZER) {
            return;
        }
        let subject = format!("EC2NodeClass/{}", class.name());
        let users: Vec<&str> = world
            .claims
            .values()
            .filter(|state| state.claim.spec.node_class_ref.name == class.name())
            .map(karpenter_core::world::ClaimState::name)
            .collect();
        if !users.is_empty() {
            decision.facts.push(Fact::Event {
                object: about(class),
                warning: false,
                reason: "WaitingOnNodeClaimTermination",
                message: format!(
                    "Waiting on NodeClaim termination for {}",
                    users.iter().take(5).copied().collect::<Vec<_>>().join(", ")
                ),
            });
            return;
        }
        if !class.cleaned {
            let template_filters = [
                (format!("tag:{}", keys::TAG_CLUSTER), vec![self.settings.cluster_name.clone()]),
                (format!("tag:{}", keys::EC2_NODE_CLASS), vec![class.name().to_owned()]),
            ];
            let call = Call::DeleteClassResources {
                class: class.name().to_owned(),
                profiles: (!self.settings.isolated_vpc).then(|| self.profiles_of(class)),
                template_filters: template_filters.into_iter().collect(),
            };
            decision.cloud(world, now, ActionKey::new(subject, "clean"), call);
            return;
        }
        let rest: Vec<&String> = finalizers.iter().filter(|f| *f != keys::EC2_NODE_CLASS_FINALIZER).collect();
        let patch = json!({ "metadata": {
            "finalizers": rest,
            "resourceVersion": class.object.metadata.resource_version,
        }});
        let write = KubeWrite::Patch { object: reference(class), part: Part::Main, patch };
        let message = format!("Finalizer {} removed", keys::EC2_NODE_CLASS_FINALIZER);
        let told = Fact::Event { object: about(class), warning: false, reason: "Finalized", message };
        decision.kube_then(world, now, ActionKey::new(subject, "write"), write, vec![told]);
    }
}

/// Makes the trial unless its answer is known still.
fn try_out(world: &World, class: &Class, trial: Trial, now: Timestamp, decision: &mut Decision<Call>) {
    if let Some(until) = class.trial_stands_until(&trial.inputs).filter(|until| *until > now) {
        decision.wake(until);
        return;
    }
    let bytes = trial.template.user_data_bytes();
    let key = ActionKey::new(format!("EC2NodeClass/{}", class.name()), "validate");
    if decision.cloud(world, now, key, Call::Validate(Box::new(trial))) {
        decision.facts.push(Fact::UserData { class: class.name().to_owned(), bytes, most: ami::USER_DATA_MAX });
    }
}

/// A status as a merge patch: what is not in it any more has to be named, or it stays.
fn replacing(known: Value, mut status: Value) -> Value {
    if let (Value::Object(known), Value::Object(status)) = (known, &mut status) {
        for key in known.into_iter().map(|(key, _)| key) {
            status.entry(key).or_insert(Value::Null);
        }
    }
    status
}

fn about(class: &Class) -> About {
    About {
        kind: "EC2NodeClass",
        namespace: String::new(),
        name: class.name().to_owned(),
        uid: class.object.metadata.uid.clone().unwrap_or_default(),
    }
}

pub(crate) fn reference(class: &Class) -> ObjectRef {
    ObjectRef::cluster(WriteKind::Ec2NodeClass, class.name(), class.object.metadata.uid.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_has_no_more_is_taken_out_of_it() {
        let (known, status) = (json!({ "amis": [{}], "subnets": [1, 2] }), json!({ "subnets": [1] }));
        assert_eq!(replacing(known, status), json!({ "amis": null, "subnets": [1] }));
        assert_eq!(replacing(Value::Null, json!({ "subnets": [1] })), json!({ "subnets": [1] }));
    }
}
