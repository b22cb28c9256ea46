//! AWS knowledge without the SDK.
//!
//! ```text
//! Report (what a call came back with) ─▶ Aws::apply ─▶ core::Observation
//!                                         │
//! core::Cloud (catalogue, launch, find, terminate) ◀─┤
//! Aws::decide(&World, now) ─▶ polls that are due, EC2NodeClass status and finalizer
//! ```
//!
//! Everything here is a function of what was observed: no SDK type, no await, no clock. `Call` and
//! `Report` are the whole contract with the wire crate.

pub mod call;
pub mod report;

mod addresses;
mod ami;
mod capacity;
mod catalogue;
mod class;
mod cluster;
mod drift;
mod expression;
mod labels;
mod launch;
mod market;
mod memory;
mod outcome;
mod partitions;
mod polls;
mod prices;
mod profiles;
mod repair;
mod reservations;
mod reserved;
mod reserved_claims;
mod select;
mod settings;
mod shifts;
mod spreads;
mod stamp;
mod tagging;
mod template;
mod templates;
#[cfg(test)]
mod testing;
mod trial;
mod troubles;
mod unavailable;

pub use cluster::KubernetesFacts;
pub use market::{Market, Sale};
pub use settings::AwsSettings;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool, conditions as names};
use karpenter_core::cloud::{
    CatalogueProblem, Drift, InstanceType, LaunchBatch, LaunchOutcome, LaunchProblem, NodeClassState, RepairPolicy,
};
use karpenter_core::world::is_older;
use karpenter_core::{Cloud, Observation, World, conditions};

use addresses::Addresses;
use call::{Call, ClaimRef, Find};
use catalogue::Rows;
use class::Class;
use memory::Memory;
use prices::Prices;
use report::{Cluster, InstanceTypeInfo, Report};
use reservations::Reservations;
use shifts::Shifts;
use unavailable::Unavailable;

/// AWS as observed.
#[derive(Debug)]
pub struct Aws {
    settings: AwsSettings,
    classes: BTreeMap<String, Class>,
    /// By name, ascending.
    types: Vec<InstanceTypeInfo>,
    /// Counts the lists that differed from the one before.
    types_version: u64,
    prices: Prices,
    cluster: cluster::Knowledge,
    memory: Memory,
    reservations: Reservations,
    shifts: Shifts,
    /// Capacity that was refused lately.
    unavailable: Unavailable,
    addresses: Addresses,
    templates: templates::Templates,
    tagging: tagging::Tagging,
    machines: drift::Machines,
    spreads: spreads::Spreads,
    /// The latest look at what time has ended.
    ticked: Timestamp,
    polled: polls::Polled,
    profiles: profiles::Profiles,
    /// The catalogue by class.
    rows: BTreeMap<String, Rows>,
    /// Counts the changes of any row.
    rows_version: u64,
    /// Counts what else decisions look at: changes of a class, of what EC2 tells of the instances.
    facts_version: u64,
    stale: bool,
}

impl Aws {
    pub fn new(settings: AwsSettings) -> Self {
        Self {
            prices: Prices::bundled(&settings.region),
            cluster: cluster::Knowledge::default(),
            settings,
            classes: BTreeMap::new(),
            types: Vec::new(),
            types_version: 0,
            memory: Memory::default(),
            reservations: Reservations::default(),
            shifts: Shifts::default(),
            unavailable: Unavailable::default(),
            addresses: Addresses::default(),
            templates: templates::Templates::default(),
            tagging: tagging::Tagging::default(),
            machines: drift::Machines::default(),
            spreads: spreads::Spreads::default(),
            ticked: Timestamp::UNIX_EPOCH,
            polled: polls::Polled::default(),
            profiles: profiles::Profiles::default(),
            rows: BTreeMap::new(),
            rows_version: 0,
            facts_version: 0,
            stale: false,
        }
    }

    /// The first complete list of instance types is there.
    pub fn is_ready(&self) -> bool {
        !self.types.is_empty()
    }

    /// What a write of ours returned. It may come after the object's end was seen, which it must not undo.
    pub fn node_class_written(&mut self, class: Ec2NodeClass, now: Timestamp) -> Vec<Observation> {
        let known = class.metadata.name.as_ref().and_then(|name| self.classes.get(name));
        if known.is_some_and(|known| known.object.metadata.uid == class.metadata.uid) {
            return self.node_class_applied(class, now);
        }
        Vec::new()
    }

    pub fn node_class_applied(&mut self, class: Ec2NodeClass, _now: Timestamp) -> Vec<Observation> {
        let Some(name) = class.metadata.name.clone() else {
            return Vec::new();
        };
        self.facts_version += 1;
        match self.classes.get_mut(&name) {
            Some(known) if is_older(&class.metadata, &known.object.metadata) => {}
            Some(known) if known.object.metadata.uid == class.metadata.uid => {
                let was_ready = is_ready(&known.object);
                let changed = known.update(class);
                self.stale |= changed || was_ready != is_ready(&known.object);
            }
            _ => {
                self.classes.insert(name, Class::new(class));
                self.stale = true;
            }
        }
        Vec::new()
    }

    /// A complete list of classes: what is not in it was deleted while nobody watched.
    pub fn node_classes_listed(&mut self, names: &[String]) {
        let gone: Vec<String> = self.classes.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in &gone {
            self.node_class_deleted(name);
        }
    }

    pub fn node_class_deleted(&mut self, name: &str) {
        self.facts_version += 1;
        self.classes.remove(name);
        self.rows.remove(name);
    }

    /// Takes in what a call came back with.
    pub fn apply(&mut self, report: Report, now: Timestamp) -> Vec<Observation> {
        match report {
            Report::Cluster { result: Ok(cluster) } => {
                self.polled.cluster = Some(now);
                self.cluster.described(cluster, &self.settings);
            }
            Report::InstanceTypes { result: Ok(types) } => {
                self.polled.types = Some(now);
                self.learn_types(types);
            }
            Report::OnDemandPrices { result: Ok(prices) } => {
                self.polled.on_demand = Some(now);
                self.stale |= self.prices.learn_on_demand(prices);
            }
            Report::SpotPrices { result: Ok(prices) } => {
                self.polled.spot = Some(now);
                self.stale |= self.prices.learn_spot(prices);
            }
            Report::ZonalShifts { result: Ok(shifts) } => {
                self.polled.shifts = Some(now);
                self.stale |= self.shifts.told(shifts, now);
            }
            // The failure is the driver's to tell; the key's back-off says when to ask again.
            Report::Cluster { .. }
            | Report::InstanceTypes { .. }
            | Report::OnDemandPrices { .. }
            | Report::SpotPrices { .. }
            | Report::ZonalShifts { .. }
            // Noted when they began; a launch makes what is missing.
            | Report::LaunchTemplatesCreated { .. } => {}
            Report::Subnets { class, generation, result } => {
                self.addresses.described(result.as_deref().unwrap_or_default());
                let mut changed = false;
                self.learn(&class, generation, |known| changed = known.learn_subnets(now, result));
                self.stale |= changed;
            }
            Report::SecurityGroups { class, generation, result } => {
                self.learn(&class, generation, |known| known.learn_groups(now, result));
            }
            Report::Images { class, generation, result } => {
                self.learn(&class, generation, |known| known.learn_images(now, result));
            }
            Report::PlacementGroup { class, generation, result } => {
                self.stale = true;
                self.learn(&class, generation, |known| known.learn_placement(now, result));
            }
            Report::Reservations { class, generation, result } => {
                self.reservations.told(result.as_deref().unwrap_or_default());
                self.stale = true;
                self.learn(&class, generation, |known| known.learn_reservations(now, result));
            }
            Report::InstanceProfile { class, wanted, result } => {
                let settings = self.settings.clone();
                if let Some(known) = self.classes.get_mut(&class)
                    && known.managed_profile(&settings).is_some_and(|profile| profile.name == wanted)
                {
                    known.learn_profile(now, result);
                }
            }
            Report::InstanceProfiles { result } => {
                if let Ok(listed) = result {
                    self.profiles.learn(now, listed);
                }
            }
            Report::InstanceProfileDeleted { name, result } => {
                if result.is_ok() {
                    self.profiles.deleted(&name);
                }
            }
            Report::Validated { class, inputs, result } => {
                if let Some(known) = self.classes.get_mut(&class) {
                    known.learn_trial(now, inputs, result);
                }
            }
            Report::ClassResourcesDeleted { class, result } => {
                if let (Some(known), Ok(())) = (self.classes.get_mut(&class), result) {
                    known.cleaned = true;
                }
            }
            Report::Instances { asked_at, result } => {
                if let Ok(instances) = result {
                    self.polled.instances(now);
                    self.tagging.listed(&instances, now);
                    self.facts_version += u64::from(self.machines.listed(&instances));
                    self.stale |= self.spreads.listed(&instances);
                    let instances = instances.into_iter().map(outcome::instance).collect();
                    return vec![Observation::Instances { asked_at, instances }];
                }
            }
            Report::InstanceStatuses { result } => {
                if let Ok(troubles) = result {
                    self.polled.statuses = Some(now);
                    return vec![Observation::Impaired(troubles::impairments(troubles, now))];
                }
            }
            Report::LaunchTemplates { result } => {
                if let Ok(names) = result {
                    self.templates.learn(names, now);
                }
            }
            Report::LaunchTemplateDeleted { name, result } => {
                if result.is_ok() {
                    self.templates.deleted(&name);
                }
            }
            Report::Tagged { instance_id, tags, result } => {
                if result.is_ok() {
                    self.tagging.tagged(&instance_id, &tags);
                }
            }
            Report::Launch { launch, result } => {
                self.templates.use_for(&launch, now);
                if let Ok(fleet) = &result {
                    self.tagging.launched(&launch, fleet, now);
                }
                let outcomes = self.launched(&launch, result, now);
                return told(launch.claims, outcomes);
            }
            Report::Find { find, result } => {
                let outcomes = self.found(&find, result);
                return told(find.claims, outcomes);
            }
            Report::Terminate { provider_id, result } => {
                if let Ok(accepted) = result {
                    self.stale |= self.reservations.given_back(&provider_id);
                    return vec![Observation::Terminating { provider_id, gone: !accepted }];
                }
            }
        }
        Vec::new()
    }

    /// The call is about to be made.
    pub fn begin(&mut self, call: &Call, now: Timestamp) {
        match call {
            Call::Launch(launch) => {
                self.addresses.begin(launch, now);
                self.templates.use_for(launch, now);
            }
            Call::CreateLaunchTemplates { templates } => self.templates.begin(templates, now),
            Call::Tag { .. } => self.tagging.begin(now),
            _ => {}
        }
    }

    /// Brings the catalogue up to date; called once per turn, before decisions.
    pub fn tick(&mut self, world: &World, now: Timestamp) -> Vec<Observation> {
        self.profiles.note(self.classes.values(), now);
        self.stale |= self.unavailable.sweep(self.ticked, now);
        self.addresses.sweep(now);
        self.ticked = now;
        self.stale |= self.memory.look(world, &self.classes, now);
        self.stale |= self.shifts.expire(now);
        if !self.stale || self.types.is_empty() {
            return Vec::new();
        }
        self.stale = false;
        if !self.refresh_rows() {
            return Vec::new();
        }
        self.rows_version += 1;
        vec![Observation::CatalogueChanged]
    }

    /// Another number whenever the catalogue is another.
    pub fn catalogue_version(&self) -> u64 {
        self.rows_version
    }

    /// What the API server says of the cluster.
    pub fn kubernetes_seen(&mut self, facts: KubernetesFacts) {
        self.cluster.seen(facts, &self.settings);
    }

    fn learn_types(&mut self, mut types: Vec<InstanceTypeInfo>) {
        types.sort_by(|a, b| a.name.cmp(&b.name));
        if self.types != types {
            self.types = types;
            self.types_version += 1;
            self.stale = true;
        }
    }

    fn learn(&mut self, class: &str, generation: i64, with: impl FnOnce(&mut Class)) {
        if let Some(known) = self.classes.get_mut(class)
            && known.generation() == generation
        {
            with(known);
        }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.known()
    }

    /// The cluster's CA as its nodes get it, once it is known.
    pub(crate) fn cluster_ca(&self) -> Option<&str> {
        let described = || self.cluster.known().map(|cluster| cluster.certificate_authority.as_str());
        self.settings.cluster_ca.as_deref().or_else(described)
    }
}

impl Cloud for Aws {
    type Call = Call;

    fn version(&self) -> u64 {
        self.rows_version + self.facts_version
    }

    fn node_class(&self, name: &str) -> NodeClassState {
        let Some(class) = self.classes.get(name) else {
            return NodeClassState::NotFound;
        };
        if class.is_deleting() {
            return NodeClassState::Terminating;
        }
        let list = class.object.status.as_ref().and_then(|status| status.conditions.as_deref());
        match conditions::get(list, names::READY) {
            // What was judged before the class was changed says nothing of it.
            Some(ready) if ready.observed_generation.is_some_and(|of| of != class.generation()) => {
                NodeClassState::Unknown
            }
            Some(ready) if ready.status == "True" => NodeClassState::Ready { generation: class.generation() },
            Some(ready) if ready.status == "False" => {
                // The root only names the conditions; the first that is False says what is wrong.
                let cause = list.unwrap_or_default().iter().find(|c| c.type_ != names::READY && c.status == "False");
                let said = cause.unwrap_or(ready);
                NodeClassState::NotReady { reason: said.reason.clone(), message: said.message.clone() }
            }
            _ => NodeClassState::Unknown,
        }
    }

    fn catalogue(&self, pool: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        let name = &pool.spec.template.spec.node_class_ref.name;
        match self.node_class(name) {
            NodeClassState::Ready { .. } => {
                self.rows.get(name).map(|rows| Arc::clone(&rows.all)).ok_or(CatalogueProblem::NotYetObserved)
            }
            other => Err(CatalogueProblem::NodeClassNotReady(name.clone(), format!("{other:?}"))),
        }
    }

    fn launch(&self, batch: &LaunchBatch<'_>, planned: &[Call], now: Timestamp) -> Result<Call, LaunchProblem> {
        launch::plan(self, batch, planned, now)
    }

    fn prepare(&self, batch: &LaunchBatch<'_>, now: Timestamp) -> Option<Call> {
        launch::prepare(self, batch, now)
    }

    fn find(&self, batch: &LaunchBatch<'_>) -> Option<Call> {
        let class = batch.claims.first().and_then(|claim| self.classes.get(&claim.spec.node_class_ref.name));
        if self.types.is_empty() || class.is_some_and(|class| class.subnets.is_none()) {
            return None;
        }
        let mut filters = self.owned();
        filters.insert(format!("tag:{}", karpenter_api::labels::TAG_LAUNCH), vec![batch.token.to_owned()]);
        let claims = batch.claims.iter().map(|claim| launch::reference(claim)).collect();
        Some(Call::Find(Find { token: batch.token.to_owned(), claims, taken: batch.taken.clone(), filters }))
    }

    fn on_trial(&self, claim: &NodeClaim) -> Option<String> {
        launch::trial(self, claim)
    }

    fn registration_hooks(&self, claim: &NodeClaim) -> Vec<&'static str> {
        partitions::is_awaited(claim).then_some(partitions::HOOK).into_iter().collect()
    }

    fn drift(&self, claim: &NodeClaim) -> Drift {
        self.drift_of(claim)
    }

    fn repair_policies(&self) -> &[RepairPolicy] {
        &repair::POLICIES
    }

    fn terminate(&self, provider_id: &str) -> Call {
        let instance_id = provider_id.rsplit('/').next().unwrap_or_default().to_owned();
        Call::Terminate { provider_id: provider_id.to_owned(), instance_id }
    }
}

/// Each claim its part of an answer.
fn told(claims: Vec<ClaimRef>, outcomes: Vec<LaunchOutcome>) -> Vec<Observation> {
    let each = claims.into_iter().zip(outcomes);
    each.map(|(claim, outcome)| Observation::Launch { claim: claim.name, uid: claim.uid, outcome }).collect()
}

fn is_ready(class: &Ec2NodeClass) -> bool {
    let list = class.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions::is_true(list, names::READY)
}

/// A short name for a content: the same content, the same name (FNV-1a, 64 bit).
fn hash_name(content: &str) -> String {
    let hash = content
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{aws, class};
    use serde_json::json;

    #[test]
    fn a_class_that_a_complete_list_lacks_is_gone() {
        let mut aws = aws();
        for name in ["kept", "gone"] {
            aws.node_class_applied(class(&json!({ "metadata": { "name": name } })), Timestamp::UNIX_EPOCH);
        }
        aws.node_classes_listed(&["kept".to_owned()]);
        assert_eq!(aws.node_class("gone"), NodeClassState::NotFound);
        assert_eq!(aws.node_class("kept"), NodeClassState::Unknown);
    }

    #[test]
    fn what_was_judged_before_a_change_says_nothing_of_it() {
        for (observed, expected) in [(1, NodeClassState::Unknown), (2, NodeClassState::Ready { generation: 2 })] {
            let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let mut aws = aws();
            let changed = json!({ "metadata": { "generation": 2 }, "status": { "conditions": [ready] } });
            aws.node_class_applied(class(&changed), Timestamp::UNIX_EPOCH);
            assert_eq!(aws.node_class("default"), expected);
        }
    }
}
