//! EC2 as a test scripts it: what a fleet gets, and what it is told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use karpenter_aws::call::{Call, Launch};
use karpenter_aws::report::{
    CallError, Cluster, Fleet, FleetError, FleetInstance, Image, Images, InstanceInfo, InstanceTypeInfo, NetworkCard,
    NetworkInfo, Report, SecurityGroup, Subnet,
};

pub(crate) const ZONES: [&str; 3] = ["us-west-2a", "us-west-2b", "us-west-2c"];
pub(crate) const IMAGE: &str = "ami-1";

/// Whether an offering has something to give: spot or not, instance type, zone, and when.
type Stock = Box<dyn Fn(bool, &str, &str, Timestamp) -> bool>;

pub(crate) struct Ec2 {
    types: Vec<InstanceTypeInfo>,
    pub(crate) stock: Stock,
    /// A fleet that gets nothing names this many of the offerings it has tried.
    pub(crate) named: usize,
    /// The most that one fleet gets; the rest of its target is refused for lack of capacity.
    pub(crate) at_most: usize,
    /// How long a new instance is not described yet.
    pub(crate) lag: SignedDuration,
    pub(crate) instances: BTreeMap<String, InstanceInfo>,
    /// Answers by client token: a repetition buys nothing.
    answers: BTreeMap<String, (String, Fleet)>,
    /// By operation.
    pub(crate) calls: BTreeMap<&'static str, usize>,
    pub(crate) launches: Vec<Launch>,
    /// Launch templates that were made, in front of a launch.
    pub(crate) made: Vec<String>,
    /// Launch templates that were deleted.
    pub(crate) deleted: Vec<String>,
}

impl Ec2 {
    pub(crate) fn new(types: &[(&str, i64)]) -> Self {
        Self {
            types: types.iter().map(|(name, vcpus)| machine(name, *vcpus)).collect(),
            stock: Box::new(|_, _, _, _| true),
            named: usize::MAX,
            at_most: usize::MAX,
            lag: SignedDuration::ZERO,
            instances: BTreeMap::new(),
            answers: BTreeMap::new(),
            calls: BTreeMap::new(),
            launches: Vec::new(),
            made: Vec::new(),
            deleted: Vec::new(),
        }
    }

    /// `None` for a call that is not known here: it fails.
    pub(crate) fn answer(&mut self, call: Call, now: Timestamp) -> Option<Report> {
        *self.calls.entry(name_of(&call)).or_default() += 1;
        Some(match call {
            Call::Cluster { .. } => Report::Cluster { result: Ok(cluster()) },
            Call::InstanceTypes => Report::InstanceTypes { result: Ok(self.types.clone()) },
            Call::OnDemandPrices => Report::OnDemandPrices { result: Ok(self.prices(0.1)) },
            Call::SpotPrices => {
                let prices = self.prices(0.03);
                let by_zone = |(name, usd): (&String, &f64)| ZONES.map(|zone| ((name.clone(), zone.to_owned()), *usd));
                Report::SpotPrices { result: Ok(prices.iter().flat_map(by_zone).collect()) }
            }
            Call::Subnets { class, generation, .. } => Report::Subnets { class, generation, result: Ok(subnets()) },
            Call::SecurityGroups { class, generation, .. } => {
                let group = SecurityGroup { id: "sg-1".into(), name: "nodes".into(), ..SecurityGroup::default() };
                Report::SecurityGroups { class, generation, result: Ok(vec![group]) }
            }
            Call::Images { class, generation, .. } => {
                let image = Image {
                    id: IMAGE.into(),
                    name: "al2023".into(),
                    architecture: "x86_64".into(),
                    ..Image::default()
                };
                let images = Images { images: vec![image], ..Images::default() };
                Report::Images { class, generation, result: Ok(images) }
            }
            Call::Instances { .. } => Report::Instances { asked_at: now, result: Ok(self.described(now).collect()) },
            Call::Launch(launch) => {
                self.launches.push((*launch).clone());
                let result = self.fleet(&launch, now);
                Report::Launch { launch, result }
            }
            Call::Find(find) => {
                let bought = |one: &InstanceInfo| one.tags.get("karpenter-rs.dev/launch") == Some(&find.token);
                let found = self.described(now).filter(bought).collect();
                Report::Find { find, result: Ok(found) }
            }
            Call::InstanceStatuses => Report::InstanceStatuses { result: Ok(Vec::new()) },
            Call::LaunchTemplates { .. } => Report::LaunchTemplates { result: Ok(vec!["left-behind".into()]) },
            Call::CreateLaunchTemplates { templates } => {
                self.made.extend(templates.into_iter().map(|template| template.name));
                Report::LaunchTemplatesCreated { result: Ok(()) }
            }
            Call::DeleteLaunchTemplate { name } => {
                self.deleted.push(name.clone());
                Report::LaunchTemplateDeleted { name, result: Ok(()) }
            }
            Call::Tag { instance_id, tags } => {
                if let Some(instance) = self.instances.get_mut(&instance_id) {
                    instance.tags.extend(tags.clone());
                }
                Report::Tagged { instance_id, tags, result: Ok(()) }
            }
            Call::Terminate { provider_id, instance_id } => {
                let there = self.instances.remove(&instance_id).is_some();
                Report::Terminate { provider_id, result: Ok(there) }
            }
            _ => return None,
        })
    }

    fn described(&self, now: Timestamp) -> impl Iterator<Item = InstanceInfo> {
        let is_old = move |one: &&InstanceInfo| one.launched_at.is_some_and(|at| at + self.lag <= now);
        self.instances.values().filter(is_old).cloned()
    }

    fn fleet(&mut self, launch: &Launch, now: Timestamp) -> Result<Fleet, CallError> {
        let asked = format!("{} {:?}", launch.target, launch.configs);
        if let Some((known, fleet)) = self.answers.get(&launch.client_token) {
            if *known == asked {
                return Ok(fleet.clone());
            }
            return Err(error("IdempotentParameterMismatch"));
        }
        let overrides = launch.configs.iter().flat_map(|config| &config.overrides);
        let (there, lacking): (Vec<_>, Vec<_>) =
            overrides.partition(|one| (self.stock)(launch.spot, &one.instance_type, &one.zone, now));
        let refusal = |one: &&karpenter_aws::call::Override| FleetError {
            code: "InsufficientInstanceCapacity".into(),
            message: "none".into(),
            instance_type: one.instance_type.clone(),
            zone: one.zone.clone(),
            subnet_id: one.subnet_id.clone(),
            spot: launch.spot,
        };
        let mut fleet = Fleet { errors: lacking.iter().take(self.named).map(refusal).collect(), ..Fleet::default() };
        if let Some(first) = there.first() {
            let target = usize::try_from(launch.target).unwrap();
            for _ in 0..target.min(self.at_most) {
                let id = format!("i-{:05}", self.instances.len());
                self.instances.insert(id.clone(), instance(&id, first, launch, now));
                fleet.instances.push(FleetInstance {
                    id,
                    instance_type: first.instance_type.clone(),
                    zone: first.zone.clone(),
                    subnet_id: first.subnet_id.clone(),
                    image_id: IMAGE.into(),
                    spot: launch.spot,
                });
            }
            if target > self.at_most {
                fleet.errors.push(refusal(first));
            }
        }
        self.answers.insert(launch.client_token.clone(), (asked, fleet.clone()));
        Ok(fleet)
    }

    fn prices(&self, per_vcpu: f64) -> BTreeMap<String, f64> {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let price = |info: &InstanceTypeInfo| (info.name.clone(), info.vcpus as f64 * per_vcpu);
        self.types.iter().map(price).collect()
    }

    /// Claims' instances: no two are the same.
    pub(crate) fn is_each_one_once<'a>(&self, ids: impl Iterator<Item = &'a str>) -> bool {
        let mut seen = BTreeSet::new();
        ids.map(|id| id.rsplit('/').next().unwrap_or_default())
            .all(|id| self.instances.contains_key(id) && seen.insert(id))
    }
}

fn error(code: &str) -> CallError {
    CallError { operation: "CreateFleet", code: code.to_owned(), message: code.to_owned(), uncertain: false }
}

/// What EC2 is asked, in its own words.
fn name_of(call: &Call) -> &'static str {
    match call {
        Call::Launch(_) => "CreateFleet",
        Call::Find(_) => "Find",
        Call::Instances { .. } => "DescribeInstances",
        Call::Terminate { .. } => "TerminateInstances",
        Call::Tag { .. } => "CreateTags",
        Call::InstanceStatuses => "DescribeInstanceStatus",
        Call::LaunchTemplates { .. } => "DescribeLaunchTemplates",
        Call::CreateLaunchTemplates { .. } => "CreateLaunchTemplate",
        Call::DeleteLaunchTemplate { .. } => "DeleteLaunchTemplate",
        _ => "what classes and the catalogue are made of",
    }
}

fn cluster() -> Cluster {
    Cluster {
        arn: "arn:aws:eks:us-west-2:000000000000:cluster/test".into(),
        dns: None,
        endpoint: "https://cluster.test".into(),
        certificate_authority: "Q0E=".into(),
        service_ipv4_cidr: Some("10.100.0.0/16".into()),
        service_ipv6_cidr: None,
        version: "1.34".into(),
    }
}

pub(crate) fn subnets() -> Vec<Subnet> {
    let subnet = |(n, zone): (usize, &&str)| Subnet {
        id: format!("subnet-{n}"),
        zone: (*zone).to_owned(),
        zone_id: format!("usw2-az{n}"),
        available_addresses: 8000,
        tags: BTreeMap::new(),
    };
    ZONES.iter().enumerate().map(subnet).collect()
}

fn machine(name: &str, vcpus: i64) -> InstanceTypeInfo {
    InstanceTypeInfo {
        name: name.to_owned(),
        architectures: vec!["x86_64".into()],
        usage_classes: vec!["on-demand".into(), "spot".into()],
        hypervisor: "nitro".into(),
        vcpus,
        memory_mib: vcpus * 4096,
        network: NetworkInfo {
            maximum_interfaces: 8,
            ipv4_per_interface: 30,
            cards: vec![NetworkCard { index: 0, maximum_interfaces: 8 }],
            ..NetworkInfo::default()
        },
        zones: ZONES.map(str::to_owned).to_vec(),
        ..InstanceTypeInfo::default()
    }
}

fn instance(id: &str, of: &karpenter_aws::call::Override, launch: &Launch, now: Timestamp) -> InstanceInfo {
    let tenancy = launch.configs.first().and_then(|config| config.template.tenancy.clone());
    InstanceInfo {
        id: id.to_owned(),
        instance_type: of.instance_type.clone(),
        zone: of.zone.clone(),
        image_id: IMAGE.into(),
        subnet_id: of.subnet_id.clone(),
        spot: launch.spot,
        tenancy: tenancy.unwrap_or_else(|| "default".into()),
        state: "running".into(),
        launched_at: Some(now),
        tags: launch.tags.clone(),
        ..InstanceInfo::default()
    }
}
