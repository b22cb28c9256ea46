//! The launch of one claim: which types in which zones, from which image, under which template.
//!
//! Order of the filters: compatible and available → exotic types → spot dearer than on-demand →
//! the 60 cheapest. Then one capacity type: reserved before spot before on-demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use karpenter_api::ec2nodeclass::{AmiStatus, Ec2NodeClassStatus};
use karpenter_api::{NodeClaim, RequirementSpec, labels as keys};
use karpenter_core::cloud::{CapacityType, InstanceType, LaunchProblem, NodeClassState, Offering, Price};
use karpenter_core::requirements::{Requirement, Requirements};
use karpenter_core::{Cloud, Resources};

use crate::Aws;
use crate::call::{Call, FleetConfig, Launch, LaunchKnowledge, Override};
use crate::class::Class;
use crate::report::{Cluster, Subnet};
use crate::template::{Content, Shape};

/// EC2 takes few overrides well; the cheapest of these are kept.
const TYPES_MAX: usize = 60;

/// A type with the offerings that are left of it.
struct Candidate {
    row: Arc<InstanceType>,
    offerings: Vec<Offering>,
}

impl Candidate {
    fn cheapest(&self) -> Price {
        self.offerings.iter().map(|o| o.price).min().unwrap_or(Price::MAX)
    }
}

/// Plans the launch. Everything that can go wrong is told apart: see `LaunchProblem`.
pub(crate) fn plan(aws: &Aws, claim: &NodeClaim, attempt: u32) -> Result<Call, LaunchProblem> {
    let class_name = &claim.spec.node_class_ref.name;
    let missing = |what| LaunchProblem::InsufficientCapacity(format!("EC2NodeClass {class_name:?} {what}"));
    let class = match aws.node_class(class_name) {
        NodeClassState::NotFound => return Err(missing("is not there")),
        NodeClassState::Terminating => return Err(missing("is being deleted")),
        NodeClassState::NotReady { reason, message } => {
            let text = format!("EC2NodeClass {class_name:?} is not ready: {reason}: {message}");
            return Err(LaunchProblem::NodeClassNotReady(text));
        }
        NodeClassState::Unknown => None,
        NodeClassState::Ready { .. } => aws.classes.get(class_name),
    };
    let class = class.ok_or_else(|| LaunchProblem::NotYet(format!("EC2NodeClass {class_name:?} is not judged yet")))?;
    let status = class.object.status.clone().unwrap_or_default();
    let cluster = aws.cluster().ok_or_else(|| LaunchProblem::NotYet("the cluster is not described yet".to_owned()))?;
    let rows =
        aws.rows.get(class_name).ok_or_else(|| LaunchProblem::NotYet("instance types are not known yet".to_owned()))?;
    let wanted = requirements(&claim.spec.requirements);
    let requests = requests(claim);
    let candidates = candidates(rows, &wanted, &requests);
    let flexible = claim.spec.requirements.iter().any(|r| r.min_values.is_some());
    let mut candidates = if flexible { candidates } else { without_dear_spot(without_exotic(candidates)) };
    candidates.sort_by(|a, b| a.cheapest().cmp(&b.cheapest()).then_with(|| a.row.name.cmp(&b.row.name)));
    candidates.truncate(TYPES_MAX);
    let capacity_type =
        candidates.iter().flat_map(|c| &c.offerings).map(|o| o.capacity_type).min().ok_or_else(|| {
            LaunchProblem::InsufficientCapacity(
                "all requested instance types were unavailable during launch".to_owned(),
            )
        })?;
    for candidate in &mut candidates {
        candidate.offerings.retain(|offering| offering.capacity_type == capacity_type);
    }
    candidates.retain(|candidate| !candidate.offerings.is_empty());
    let spot = capacity_type == CapacityType::Spot;
    let templates = Templates { aws, claim, class, status: &status, cluster, capacity_type };
    let configs = templates.configs(&candidates, status.amis.as_deref().unwrap_or_default())?;
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let name = claim.metadata.name.clone().unwrap_or_default();
    let mut tags = templates.content().tags();
    tags.insert(keys::TAG_NODECLAIM.to_owned(), name.clone());
    tags.insert(keys::TAG_NODECLAIM_UID.to_owned(), uid.clone());
    Ok(Call::Launch(Box::new(Launch {
        claim: name,
        client_token: token(&uid, attempt),
        claim_uid: uid,
        spot,
        allocation_strategy: if spot { "price-capacity-optimized" } else { "lowest-price" },
        configs,
        tags,
        context: class.object.spec.context.clone(),
        knowledge: LaunchKnowledge {
            class: class_name.clone(),
            annotations: annotations(class, aws.cluster_ca()),
            ..LaunchKnowledge::default()
        },
    })))
}

/// The first launch has the claim's own token; each one after a launch that ended without an instance has another, as
/// EC2 would only repeat its earlier answer.
fn token(uid: &str, attempt: u32) -> String {
    if attempt == 0 { uid.to_owned() } else { format!("{uid}-{attempt}") }
}

/// What a claim is told of the class it was launched with; no hash before the CA that goes into it is known.
pub(crate) fn annotations(class: &Class, cluster_ca: Option<&str>) -> BTreeMap<String, String> {
    let hash = cluster_ca.map(|ca| karpenter_api::hash::ec2_node_class_hash(&class.object, ca));
    let version = hash.as_ref().map(|_| karpenter_api::hash::EC2_NODE_CLASS_HASH_VERSION.to_owned());
    let profile = class.object.status.as_ref().and_then(|status| status.instance_profile.clone());
    [
        hash.map(|hash| (keys::EC2_NODE_CLASS_HASH.to_owned(), hash)),
        version.map(|version| (keys::EC2_NODE_CLASS_HASH_VERSION.to_owned(), version)),
        profile.map(|profile| (keys::INSTANCE_PROFILE_NAME.to_owned(), profile)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn requirements(specs: &[RequirementSpec]) -> Requirements {
    let mut all = Requirements::default();
    for spec in specs {
        all.add(keys::normalized(&spec.key), Requirement::from_spec(spec));
    }
    all
}

fn requests(claim: &NodeClaim) -> Resources {
    let requests = claim.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| {
            Some((name.clone(), karpenter_core::resources::amount(name, &amount.to_string())?))
        })
        .collect()
}

fn candidates(rows: &[Arc<InstanceType>], wanted: &Requirements, requests: &Resources) -> Vec<Candidate> {
    let allows = |key: &str, value: &str| wanted.get(key).is_none_or(|requirement| requirement.has(value));
    rows.iter()
        .filter(|row| row.requirements.intersects(wanted).is_ok() && requests.fits(&row.allocatable))
        .map(|row| {
            let offerings = row.offerings.iter().filter(|offering| {
                offering.available
                    && allows(keys::ZONE, &offering.zone)
                    && allows(keys::CAPACITY_TYPE, offering.capacity_type.as_str())
                    && (offering.zone_id.is_empty() || allows(keys::ZONE_ID, &offering.zone_id))
            });
            Candidate { row: Arc::clone(row), offerings: offerings.cloned().collect() }
        })
        .filter(|candidate| !candidate.offerings.is_empty())
        .collect()
}

/// Metal and accelerated types only when nothing else is left: nobody asked for them.
fn without_exotic(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let accelerators = ["nvidia.com/gpu", "amd.com/gpu", "aws.amazon.com/neuron", "habana.ai/gaudi"];
    let exotic =
        |c: &Candidate| c.row.name.contains(".metal") || accelerators.iter().any(|name| c.row.capacity.get(name) > 0);
    if candidates.iter().all(exotic) {
        return candidates;
    }
    candidates.into_iter().filter(|c| !exotic(c)).collect()
}

/// Spot that costs more than the cheapest on-demand offering is no bargain.
fn without_dear_spot(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let on_demand = |o: &&Offering| o.capacity_type == CapacityType::OnDemand;
    let Some(limit) = candidates.iter().flat_map(|c| &c.offerings).filter(on_demand).map(|o| o.price).min() else {
        return candidates;
    };
    for candidate in &mut candidates {
        candidate.offerings.retain(|o| o.capacity_type != CapacityType::Spot || o.price <= limit);
    }
    candidates.retain(|candidate| !candidate.offerings.is_empty());
    candidates
}

/// What the templates of one launch share.
struct Templates<'a> {
    aws: &'a Aws,
    claim: &'a NodeClaim,
    class: &'a Class,
    status: &'a Ec2NodeClassStatus,
    cluster: &'a Cluster,
    capacity_type: CapacityType,
}

impl Templates<'_> {
    fn content(&self) -> Content<'_> {
        Content {
            settings: &self.aws.settings,
            class: self.class,
            status: self.status,
            cluster: self.cluster,
            claim: Some(self.claim),
            capacity_type: self.capacity_type,
            tenancy: "default",
        }
    }

    /// One template per image and shape; each type goes with the first image that fits it.
    fn configs(&self, candidates: &[Candidate], amis: &[AmiStatus]) -> Result<Vec<FleetConfig>, LaunchProblem> {
        let subnets = self.subnets();
        let content = self.content();
        let mut groups: BTreeMap<(usize, Shape), Vec<Override>> = BTreeMap::new();
        for candidate in candidates {
            let fits = |ami: &AmiStatus| image_fits(ami, &candidate.row.requirements);
            let Some(image) = amis.iter().position(fits) else {
                continue;
            };
            let overrides = candidate.offerings.iter().filter_map(|offering| {
                let subnet = subnets.get(offering.zone.as_str())?;
                Some(Override {
                    instance_type: candidate.row.name.clone(),
                    zone: offering.zone.clone(),
                    subnet_id: subnet.id.clone(),
                    priority: None,
                })
            });
            let key = (image, content.shape(&candidate.row.capacity));
            groups.entry(key).or_default().extend(overrides);
        }
        groups.retain(|_, overrides| !overrides.is_empty());
        if groups.is_empty() {
            return Err(LaunchProblem::Other {
                reason: "AMINotFound",
                message: "no image of the EC2NodeClass fits the instance types of the claim".to_owned(),
            });
        }
        groups
            .into_iter()
            .map(|((image, shape), overrides)| {
                let template = content.template(&amis[image], &shape)?;
                Ok(FleetConfig { template, overrides })
            })
            .collect()
    }

    /// The subnet with the most free addresses of each zone; the class's list is sorted so.
    fn subnets(&self) -> BTreeMap<&str, &Subnet> {
        let mut best = BTreeMap::new();
        let all = self.class.subnets.as_ref().and_then(|answer| answer.result.as_ref().ok());
        for subnet in all.into_iter().flatten() {
            best.entry(subnet.zone.as_str()).or_insert(subnet);
        }
        best
    }
}

pub(crate) fn image_fits(ami: &AmiStatus, of_type: &Requirements) -> bool {
    ami.requirements.iter().all(|spec| {
        let values: BTreeSet<String> = spec.values.iter().flatten().cloned().collect();
        let found = of_type.get(&spec.key).filter(|found| !found.has_no_value());
        match (spec.operator.as_str(), found) {
            ("In", Some(found)) => found.values.iter().any(|value| values.contains(value)),
            ("NotIn", Some(found)) => !found.values.iter().any(|value| values.contains(value)),
            ("Exists", found) => found.is_some(),
            ("DoesNotExist", found) => found.is_none(),
            ("NotIn", None) => true,
            _ => false,
        }
    })
}
