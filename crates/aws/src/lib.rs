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

mod ami;
mod capacity;
mod class;
mod labels;
mod launch;
mod outcome;
mod polls;
mod prices;
mod profiles;
mod repair;
mod stamp;
mod template;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::{Ec2NodeClass, NodeClaim, NodePool, conditions as names};
use karpenter_core::cloud::{
    CapacityType, CatalogueProblem, InstanceType, LaunchProblem, NodeClassState, Offering, RepairPolicy,
};
use karpenter_core::world::is_older;
use karpenter_core::{Cloud, Observation, conditions};

use call::Call;
use capacity::Sizing;
use class::Class;
use prices::Prices;
use report::{CallError, Cluster, InstanceTypeInfo, Report};

/// A refused offering is left alone this long.
const UNAVAILABLE_FOR: SignedDuration = SignedDuration::from_mins(3);

/// The settings AWS knowledge reads.
#[derive(Clone, Debug, Default)]
pub struct AwsSettings {
    pub cluster_name: String,
    /// As nodes reach it; EKS is asked if absent.
    pub cluster_endpoint: Option<String>,
    /// Base64 PEM; EKS is asked if absent.
    pub cluster_ca: Option<String>,
    pub region: String,
    /// Fraction of memory, e.g. 0.075.
    pub vm_memory_overhead: f64,
    pub reserved_enis: i64,
    pub isolated_vpc: bool,
    /// A class is not tried by dry run.
    pub disable_dry_run: bool,
    /// Feature gate ReservedCapacity.
    pub reserved_capacity: bool,
    /// Feature gate NodeClassCEL.
    pub kubelet_expressions: bool,
    /// Images and subnets are asked for no more often than this.
    pub ami_refresh: SignedDuration,
    pub subnet_refresh: SignedDuration,
}

/// An offering: capacity type, instance type, zone.
type OfferingKey = (CapacityType, String, String);

/// AWS as observed.
#[derive(Debug)]
pub struct Aws {
    settings: AwsSettings,
    classes: BTreeMap<String, Class>,
    types: Vec<InstanceTypeInfo>,
    prices: Prices,
    cluster: Option<Cluster>,
    /// Refused offerings and until when.
    unavailable: BTreeMap<OfferingKey, Timestamp>,
    polled: polls::Polled,
    profiles: profiles::Profiles,
    /// The catalogue by class, in the order EC2 lists types.
    rows: BTreeMap<String, Arc<[Arc<InstanceType>]>>,
    stale: bool,
}

impl Aws {
    pub fn new(settings: AwsSettings) -> Self {
        Self {
            prices: Prices::bundled(&settings.region),
            settings,
            classes: BTreeMap::new(),
            types: Vec::new(),
            cluster: None,
            unavailable: BTreeMap::new(),
            polled: polls::Polled::default(),
            profiles: profiles::Profiles::default(),
            rows: BTreeMap::new(),
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
        self.classes.remove(name);
        self.rows.remove(name);
    }

    /// Takes in what a call came back with.
    pub fn apply(&mut self, report: Report, now: Timestamp) -> Vec<Observation> {
        match report {
            Report::Cluster { result: Ok(cluster) } => {
                self.polled.cluster = Some(now);
                self.cluster = Some(cluster);
            }
            Report::InstanceTypes { result: Ok(types) } => {
                self.polled.types = Some(now);
                self.stale |= self.types != types;
                self.types = types;
            }
            Report::OnDemandPrices { result: Ok(prices) } => {
                self.polled.on_demand = Some(now);
                self.prices.learn_on_demand(prices);
                self.stale = true;
            }
            Report::SpotPrices { result: Ok(prices) } => {
                self.polled.spot = Some(now);
                self.prices.learn_spot(prices);
                self.stale = true;
            }
            // The failure is the driver's to tell; the key's back-off says when to ask again.
            Report::Cluster { .. }
            | Report::InstanceTypes { .. }
            | Report::OnDemandPrices { .. }
            | Report::SpotPrices { .. } => {}
            Report::Subnets { class, generation, result } => {
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
                self.learn(&class, generation, |known| known.learn_placement(now, result));
            }
            Report::Reservations { class, generation, result } => {
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
                    let instances = instances.into_iter().map(outcome::instance).collect();
                    return vec![Observation::Instances { asked_at, instances }];
                }
            }
            Report::Launch { claim, claim_uid, knowledge, spot, result } => {
                let outcome = self.launched(&knowledge, spot, result, now);
                return vec![Observation::Launch { claim, uid: claim_uid, outcome }];
            }
            Report::Find { claim, claim_uid, result } => {
                let outcome = self.found(result);
                return vec![Observation::Launch { claim, uid: claim_uid, outcome }];
            }
            Report::Terminate { provider_id, result } => {
                if let Ok(accepted) = result {
                    return vec![Observation::Terminating { provider_id, gone: !accepted }];
                }
            }
        }
        Vec::new()
    }

    /// Brings the catalogue up to date; called once per turn, before decisions.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Observation> {
        self.profiles.note(self.classes.values(), now);
        let before = self.unavailable.len();
        self.unavailable.retain(|_, until| *until > now);
        self.stale |= self.unavailable.len() != before;
        if !self.stale || self.types.is_empty() {
            return Vec::new();
        }
        self.stale = false;
        let rows = self.classes.iter().filter_map(|(name, class)| Some((name.clone(), self.rows_of(class)?)));
        self.rows = rows.collect();
        vec![Observation::CatalogueChanged]
    }

    fn learn(&mut self, class: &str, generation: i64, with: impl FnOnce(&mut Class)) {
        if let Some(known) = self.classes.get_mut(class)
            && known.generation() == generation
        {
            with(known);
        }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The cluster's CA as its nodes get it, once it is known.
    pub(crate) fn cluster_ca(&self) -> Option<&str> {
        let described = || self.cluster.as_ref().map(|cluster| cluster.certificate_authority.as_str());
        self.settings.cluster_ca.as_deref().or_else(described)
    }

    /// `None` while the class's subnets are not known: there is a difference between nothing and not yet.
    fn rows_of(&self, class: &Class) -> Option<Arc<[Arc<InstanceType>]>> {
        let spec = &class.object.spec;
        let family = class.family();
        let sizing = Sizing { family, spec, settings: &self.settings };
        let subnets = class.subnets.as_ref().and_then(|answer| answer.result.as_ref().ok())?;
        let zones: BTreeMap<&str, &str> = subnets.iter().map(|s| (s.zone.as_str(), s.zone_id.as_str())).collect();
        let rows = self
            .types
            .iter()
            // AWS: Amazon Linux 2023 does not start on the first Graviton.
            .filter(|info| !(family == karpenter_api::ec2nodeclass::AmiFamily::Al2023 && info.name.starts_with("a1.")))
            .map(|info| {
                let offerings = self.offerings(info, &zones);
                let requirements = labels::requirements(info, family, &self.settings.region, &offerings);
                let (capacity, allocatable) = sizing.of(info);
                Arc::new(InstanceType { name: info.name.clone(), requirements, capacity, allocatable, offerings })
            })
            .filter(|row| !row.offerings.is_empty());
        Some(rows.collect())
    }

    fn offerings(&self, info: &InstanceTypeInfo, zones: &BTreeMap<&str, &str>) -> Vec<Offering> {
        let mut all = Vec::new();
        for zone in &info.zones {
            let Some(zone_id) = zones.get(zone.as_str()) else {
                continue;
            };
            for (word, capacity_type) in [("on-demand", CapacityType::OnDemand), ("spot", CapacityType::Spot)] {
                if !info.usage_classes.iter().any(|class| class == word) {
                    continue;
                }
                let price = match capacity_type {
                    CapacityType::Spot => self.prices.spot(&info.name, zone),
                    _ => self.prices.on_demand(&info.name),
                };
                let key = (capacity_type, info.name.clone(), zone.clone());
                all.push(Offering {
                    capacity_type,
                    zone: zone.clone(),
                    zone_id: (*zone_id).to_owned(),
                    price: price.unwrap_or(u64::MAX / 2),
                    available: price.is_some() && !self.unavailable.contains_key(&key),
                    reservation: None,
                    labels: BTreeMap::new(),
                });
            }
        }
        all
    }
}

impl Cloud for Aws {
    type Call = Call;

    fn node_class(&self, name: &str) -> NodeClassState {
        let Some(class) = self.classes.get(name) else {
            return NodeClassState::NotFound;
        };
        if class.is_deleting() {
            return NodeClassState::Terminating;
        }
        let list = class.object.status.as_ref().and_then(|status| status.conditions.as_deref());
        match conditions::get(list, names::READY) {
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
            NodeClassState::Ready { .. } => self.rows.get(name).cloned().ok_or(CatalogueProblem::NotYetObserved),
            other => Err(CatalogueProblem::NodeClassNotReady(name.clone(), format!("{other:?}"))),
        }
    }

    fn launch(&self, claim: &NodeClaim, attempt: u32, _now: Timestamp) -> Result<Call, LaunchProblem> {
        launch::plan(self, claim, attempt)
    }

    fn find(&self, claim: &NodeClaim) -> Call {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let mut filters = self.owned();
        filters.insert(format!("tag:{}", karpenter_api::labels::TAG_NODECLAIM_UID), vec![uid.clone()]);
        Call::Find { claim: claim.metadata.name.clone().unwrap_or_default(), claim_uid: uid, filters }
    }

    fn repair_policies(&self) -> &[RepairPolicy] {
        &repair::POLICIES
    }

    fn terminate(&self, provider_id: &str) -> Call {
        let instance_id = provider_id.rsplit('/').next().unwrap_or_default().to_owned();
        Call::Terminate { provider_id: provider_id.to_owned(), instance_id }
    }
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

/// An answer that says the call is not allowed will not be better in a moment.
fn is_capacity_error(error: &CallError) -> bool {
    outcome::is_capacity_code(&error.code)
}
