//! EC2 and its neighbours: a `Call` comes in, a `Report` goes out. Capacity is scripted, lists lag behind.

pub(crate) mod catalogue;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use karpenter_aws::call::{Call, ClaimRef, Filters, FleetConfig, Launch, Override};
use karpenter_aws::report::{CallError, Cluster, Fleet, FleetError, FleetInstance, Images, InstanceInfo, Report};

use crate::agenda::{MINUTE, Ms, SECOND};
use crate::dice::Dice;
use crate::faults::Faults;

pub(crate) const CLUSTER: &str = "sim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Running,
    Ending,
    Terminated,
}

impl State {
    pub(crate) fn is_up(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ending => "shutting-down",
            Self::Terminated => "terminated",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) zone: String,
    pub(crate) image: String,
    subnet: String,
    groups: Vec<String>,
    pub(crate) spot: bool,
    pub(crate) state: State,
    pub(crate) tags: BTreeMap<String, String>,
    launched: Ms,
    /// Before this, lists do not show it and a termination does not find it.
    visible: Ms,
    /// The launch it is of.
    pub(crate) token: String,
    /// Whose launch it was.
    pub(crate) claims: Vec<ClaimRef>,
}

impl Instance {
    pub(crate) fn age(&self, now: Ms) -> Ms {
        now - self.launched
    }

    /// EC2's filters by tag and by state; `*` stands for any value.
    fn matches(&self, filters: &Filters) -> bool {
        filters.iter().all(|(name, values)| {
            let found = match name.strip_prefix("tag:") {
                Some(key) => self.tags.get(key).map(String::as_str),
                None if name == "instance-state-name" => Some(self.state.word()),
                None => None,
            };
            found.is_some_and(|found| values.iter().any(|value| value == "*" || value == found))
        })
    }

    pub(crate) fn provider_id(&self) -> String {
        format!("aws:///{}/{}", self.zone, self.id)
    }
}

/// What a call did, beside its answer.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Ids of instances that were launched.
    pub(crate) launched: Vec<String>,
    /// Ids of instances whose end has begun.
    pub(crate) ended: Vec<String>,
}

type OfferingKey = (bool, String, String);

#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) instances: BTreeMap<String, Instance>,
    /// What a client token bought: the request and the answer.
    tokens: BTreeMap<String, (String, Fleet)>,
    /// Offerings without capacity.
    pub(crate) dry: BTreeSet<OfferingKey>,
    /// Names of the launch templates there are.
    pub(crate) templates: BTreeSet<String>,
    numbers: u64,
    dice: Dice,
}

impl Cloud {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            instances: BTreeMap::new(),
            tokens: BTreeMap::new(),
            dry: BTreeSet::new(),
            templates: BTreeSet::new(),
            numbers: 0,
            dice: Dice::of(seed, "cloud"),
        }
    }

    /// A region has a few offerings that are sold out; which ones changes.
    pub(crate) fn draw_capacity(&mut self, per_myriad: u32) {
        self.dry.clear();
        for info in catalogue::types() {
            for zone in catalogue::ZONES {
                for spot in [false, true] {
                    if self.dice.chance(per_myriad) {
                        self.dry.insert((spot, info.name.clone(), zone.to_owned()));
                    }
                }
            }
        }
    }

    /// Carries a call out and answers it.
    pub(crate) fn answer(&mut self, call: &Call, faults: &Faults, now: Ms, clock: Timestamp) -> (Report, Deeds) {
        let mut deeds = Deeds::default();
        let report = match call {
            Call::Launch(launch) => {
                let result = self.launch(launch, faults, now, &mut deeds);
                Report::Launch { launch: launch.clone(), result }
            }
            Call::Find(find) => Report::Find { find: find.clone(), result: Ok(self.listed(&find.filters, now)) },
            Call::Tag { instance_id, tags } => {
                let result = self.tag(instance_id, tags, now);
                Report::Tagged { instance_id: instance_id.clone(), tags: tags.clone(), result }
            }
            Call::LaunchTemplates { .. } => {
                Report::LaunchTemplates { result: Ok(self.templates.iter().cloned().collect()) }
            }
            Call::CreateLaunchTemplates { templates } => {
                self.templates.extend(templates.iter().map(|template| template.name.clone()));
                Report::LaunchTemplatesCreated { result: Ok(()) }
            }
            Call::DeleteLaunchTemplate { name } => {
                self.templates.remove(name);
                Report::LaunchTemplateDeleted { name: name.clone(), result: Ok(()) }
            }
            Call::DeleteClassResources { class, .. } => {
                self.templates.clear();
                Report::ClassResourcesDeleted { class: class.clone(), result: Ok(()) }
            }
            Call::Terminate { provider_id, instance_id } => {
                let result = Ok(self.terminate(instance_id, now, &mut deeds));
                Report::Terminate { provider_id: provider_id.clone(), result }
            }
            Call::Instances { filters } => Report::Instances { asked_at: clock, result: Ok(self.listed(filters, now)) },
            Call::InstanceStatuses => Report::InstanceStatuses { result: Ok(Vec::new()) },
            Call::InstanceTypes => Report::InstanceTypes { result: Ok(catalogue::types()) },
            Call::OnDemandPrices => Report::OnDemandPrices { result: Ok(catalogue::on_demand()) },
            Call::SpotPrices => Report::SpotPrices { result: Ok(self.spot_prices()) },
            other => described(other),
        };
        (report, deeds)
    }

    fn listed(&self, filters: &Filters, now: Ms) -> Vec<InstanceInfo> {
        self.instances.values().filter(|one| one.visible <= now && one.matches(filters)).map(info).collect()
    }

    fn tag(&mut self, id: &str, tags: &BTreeMap<String, String>, now: Ms) -> Result<(), CallError> {
        let Some(one) = self.instances.get_mut(id).filter(|one| one.visible <= now) else {
            return Err(error("CreateTags", "InvalidInstanceID.NotFound", false));
        };
        one.tags.extend(tags.clone());
        Ok(())
    }

    fn spot_prices(&mut self) -> BTreeMap<(String, String), f64> {
        let mut all = BTreeMap::new();
        for (name, price) in catalogue::on_demand() {
            for zone in catalogue::ZONES {
                let percent = u32::try_from(self.dice.between(25, 75)).unwrap_or(50);
                all.insert((name.clone(), zone.to_owned()), price * f64::from(percent) / 100.0);
            }
        }
        all
    }

    fn launch(&mut self, launch: &Launch, faults: &Faults, now: Ms, deeds: &mut Deeds) -> Result<Fleet, CallError> {
        let templates = launch.configs.iter().map(|config| config.template.name.clone());
        self.templates.extend(templates);
        let asked = format!("{:?} {:?} {:?} {}", launch.configs, launch.tags, launch.spot, launch.target);
        if let Some((before, answer)) = self.tokens.get(&launch.client_token) {
            return if *before == asked {
                Ok(answer.clone())
            } else {
                Err(error("CreateFleet", "IdempotentParameterMismatch", false))
            };
        }
        let mut fleet = Fleet::default();
        let mut choices: Vec<(&FleetConfig, &Override)> = Vec::new();
        for config in &launch.configs {
            choices.extend(config.overrides.iter().map(|one| (config, one)));
        }
        choices.sort_by(|a, b| price(a.1).total_cmp(&price(b.1)));
        let mut left = launch.target;
        for (config, one) in choices {
            let key = (launch.spot, one.instance_type.clone(), one.zone.clone());
            // What an offering has may be less than the whole fleet.
            while left > 0 && !self.dry.contains(&key) && !self.dice.chance(faults.no_capacity) {
                left -= 1;
                let bought = self.buy(launch, config, one, faults, now);
                deeds.launched.push(bought.id.clone());
                fleet.instances.push(bought);
            }
            if left == 0 {
                break;
            }
            fleet.errors.push(FleetError {
                code: "InsufficientInstanceCapacity".to_owned(),
                message: "there is no capacity".to_owned(),
                instance_type: one.instance_type.clone(),
                zone: one.zone.clone(),
                subnet_id: one.subnet_id.clone(),
                spot: launch.spot,
            });
        }
        self.tokens.insert(launch.client_token.clone(), (asked, fleet.clone()));
        Ok(fleet)
    }

    fn buy(&mut self, launch: &Launch, of: &FleetConfig, one: &Override, faults: &Faults, now: Ms) -> FleetInstance {
        self.numbers += 1;
        let id = format!("i-{:05}", self.numbers);
        let lag = if self.dice.chance(faults.ec2_lag) { self.dice.between(SECOND, 20 * SECOND) } else { 0 };
        let image = of.template.image_id.clone();
        let mut tags = of.template.tags.clone();
        tags.extend(launch.tags.clone());
        self.instances.insert(
            id.clone(),
            Instance {
                id: id.clone(),
                kind: one.instance_type.clone(),
                zone: one.zone.clone(),
                image: image.clone(),
                subnet: one.subnet_id.clone(),
                groups: of.template.security_group_ids.clone(),
                spot: launch.spot,
                state: State::Pending,
                tags,
                launched: now,
                visible: now + lag,
                token: launch.token.clone(),
                claims: launch.claims.clone(),
            },
        );
        FleetInstance {
            id,
            instance_type: one.instance_type.clone(),
            zone: one.zone.clone(),
            subnet_id: one.subnet_id.clone(),
            image_id: image,
            spot: launch.spot,
        }
    }

    /// `false`: not known, or terminated.
    fn terminate(&mut self, id: &str, now: Ms, deeds: &mut Deeds) -> bool {
        let Some(one) = self.instances.get_mut(id).filter(|one| one.visible <= now) else { return false };
        if one.state.is_up() {
            one.state = State::Ending;
            deeds.ended.push(id.to_owned());
        }
        one.state != State::Terminated
    }

    /// Terminated instances are forgotten after an hour, as EC2 does.
    pub(crate) fn forget(&mut self, now: Ms) {
        self.instances.retain(|_, one| one.state != State::Terminated || one.launched > now - 60 * MINUTE);
    }
}

/// Polls that always say the same.
fn described(call: &Call) -> Report {
    match call {
        Call::Subnets { class, generation, .. } => {
            Report::Subnets { class: class.clone(), generation: *generation, result: Ok(catalogue::subnets()) }
        }
        Call::SecurityGroups { class, generation, .. } => {
            Report::SecurityGroups { class: class.clone(), generation: *generation, result: Ok(catalogue::groups()) }
        }
        Call::Images { class, generation, parameters, .. } => {
            let mut found = Images::default();
            for parameter in parameters {
                let architecture = if parameter.contains("arm64") { "arm64" } else { "x86_64" };
                let id = format!("ami-{architecture}-{}", parameter.len());
                if !found.images.iter().any(|image| image.id == id) {
                    found.images.push(catalogue::image(&id, architecture));
                }
                found.parameters.insert(parameter.clone(), id);
            }
            Report::Images { class: class.clone(), generation: *generation, result: Ok(found) }
        }
        Call::EnsureInstanceProfile { class, profile, .. } => Report::InstanceProfile {
            class: class.clone(),
            wanted: profile.name.clone(),
            result: Ok(profile.name.clone()),
        },
        Call::InstanceProfiles { .. } => Report::InstanceProfiles { result: Ok(Vec::new()) },
        Call::DeleteInstanceProfile { name } => Report::InstanceProfileDeleted { name: name.clone(), result: Ok(()) },
        Call::Validate(trial) => {
            Report::Validated { class: trial.class.clone(), inputs: trial.inputs.clone(), result: Ok(()) }
        }
        Call::PlacementGroup { class, generation, .. } => {
            Report::PlacementGroup { class: class.clone(), generation: *generation, result: Ok(None) }
        }
        Call::Reservations { class, generation, .. } => {
            Report::Reservations { class: class.clone(), generation: *generation, result: Ok(Vec::new()) }
        }
        Call::ZonalShifts { .. } => Report::ZonalShifts { result: Ok(Vec::new()) },
        _ => Report::Cluster {
            result: Ok(Cluster {
                arn: "arn:aws:eks:us-west-2:000000000000:cluster/sim".to_owned(),
                dns: None,
                endpoint: "https://sim.example.com".to_owned(),
                certificate_authority: "c2lt".to_owned(),
                service_ipv4_cidr: Some("10.100.0.0/16".to_owned()),
                service_ipv6_cidr: None,
                version: "1.36".to_owned(),
            }),
        },
    }
}

/// The report of a call that failed.
pub(crate) fn failed(call: &Call, error: CallError) -> Report {
    match call {
        Call::Launch(launch) => Report::Launch { launch: launch.clone(), result: Err(error) },
        Call::Find(find) => Report::Find { find: find.clone(), result: Err(error) },
        Call::Tag { instance_id, tags } => {
            Report::Tagged { instance_id: instance_id.clone(), tags: tags.clone(), result: Err(error) }
        }
        Call::LaunchTemplates { .. } => Report::LaunchTemplates { result: Err(error) },
        Call::CreateLaunchTemplates { .. } => Report::LaunchTemplatesCreated { result: Err(error) },
        Call::DeleteLaunchTemplate { name } => Report::LaunchTemplateDeleted { name: name.clone(), result: Err(error) },
        Call::ZonalShifts { .. } => Report::ZonalShifts { result: Err(error) },
        Call::Terminate { provider_id, .. } => {
            Report::Terminate { provider_id: provider_id.clone(), result: Err(error) }
        }
        Call::Instances { .. } => Report::Instances { asked_at: Timestamp::UNIX_EPOCH, result: Err(error) },
        Call::InstanceStatuses => Report::InstanceStatuses { result: Err(error) },
        Call::InstanceTypes => Report::InstanceTypes { result: Err(error) },
        Call::OnDemandPrices => Report::OnDemandPrices { result: Err(error) },
        Call::SpotPrices => Report::SpotPrices { result: Err(error) },
        Call::Cluster { .. } => Report::Cluster { result: Err(error) },
        Call::Subnets { class, generation, .. } => {
            Report::Subnets { class: class.clone(), generation: *generation, result: Err(error) }
        }
        Call::SecurityGroups { class, generation, .. } => {
            Report::SecurityGroups { class: class.clone(), generation: *generation, result: Err(error) }
        }
        Call::Images { class, generation, .. } => {
            Report::Images { class: class.clone(), generation: *generation, result: Err(error) }
        }
        Call::EnsureInstanceProfile { class, profile, .. } => {
            Report::InstanceProfile { class: class.clone(), wanted: profile.name.clone(), result: Err(error) }
        }
        Call::InstanceProfiles { .. } => Report::InstanceProfiles { result: Err(error) },
        Call::DeleteInstanceProfile { name } => {
            Report::InstanceProfileDeleted { name: name.clone(), result: Err(error) }
        }
        Call::Validate(trial) => {
            Report::Validated { class: trial.class.clone(), inputs: trial.inputs.clone(), result: Err(error) }
        }
        Call::PlacementGroup { class, generation, .. } => {
            Report::PlacementGroup { class: class.clone(), generation: *generation, result: Err(error) }
        }
        Call::Reservations { class, generation, .. } => {
            Report::Reservations { class: class.clone(), generation: *generation, result: Err(error) }
        }
        Call::DeleteClassResources { class, .. } => {
            Report::ClassResourcesDeleted { class: class.clone(), result: Err(error) }
        }
    }
}

pub(crate) fn error(operation: &'static str, code: &str, uncertain: bool) -> CallError {
    CallError { operation, code: code.to_owned(), message: "as the world wants it".to_owned(), uncertain }
}

fn price(one: &Override) -> f64 {
    catalogue::on_demand().get(&one.instance_type).copied().unwrap_or(f64::MAX)
}

fn info(one: &Instance) -> InstanceInfo {
    let at = Timestamp::from_millisecond(crate::EPOCH_MS + one.launched).ok();
    InstanceInfo {
        id: one.id.clone(),
        instance_type: one.kind.clone(),
        zone: one.zone.clone(),
        zone_id: String::new(),
        image_id: one.image.clone(),
        subnet_id: one.subnet.clone(),
        security_group_ids: one.groups.clone(),
        spot: one.spot,
        reservation: None,
        efa: false,
        group: None,
        partition: None,
        tenancy: String::new(),
        state: one.state.word().to_owned(),
        launched_at: at.and_then(|at| Timestamp::from_second(at.as_second()).ok()),
        tags: one.tags.clone(),
    }
}

/// A call on one line.
pub(crate) fn brief(call: &Call) -> String {
    match call {
        Call::Launch(launch) => {
            format!(
                "launch {} of {} token {} for {} {}",
                launch.target,
                launch.token,
                launch.client_token,
                names(&launch.claims),
                if launch.spot { "spot" } else { "on-demand" }
            )
        }
        Call::Find(find) => format!("find {} for {}", find.token, names(&find.claims)),
        Call::Tag { instance_id, .. } => format!("tag {instance_id}"),
        Call::Terminate { instance_id, .. } => format!("terminate {instance_id}"),
        Call::Instances { .. } => "list instances".to_owned(),
        other => format!("{other:?}").chars().take_while(char::is_ascii_alphanumeric).collect(),
    }
}

fn names(claims: &[ClaimRef]) -> String {
    claims.iter().map(|claim| claim.name.as_str()).collect::<Vec<_>>().join(",")
}
