//! The launch of claims that are alike: which types in which zones, from which image, under which template.

use std::collections::BTreeMap;

use jiff::Timestamp;
use karpenter_api::ec2nodeclass::{AmiStatus, Ec2NodeClassStatus};
use karpenter_api::{NodeClaim, RequirementSpec, labels as keys};
use karpenter_core::Cloud;
use karpenter_core::cloud::{CapacityType, LaunchBatch, LaunchProblem, NodeClassState, Offering};
use karpenter_core::requirements::{Requirement, Requirements};
use karpenter_core::resources::PODS;

use crate::call::{Call, ClaimRef, FleetConfig, Launch, LaunchKnowledge, Override};
use crate::class::Class;
use crate::report::{Cluster, Subnet};
use crate::select::{Candidate, select};
use crate::template::{Content, Shape};
use crate::unavailable::{family_of, part, place};
use crate::{Aws, partitions, reserved};

/// With fewer types than this, on-demand capacity is short more often (Karpenter's figure).
const FEW: usize = 5;

/// Plans the launch. Everything that can go wrong is told apart: see `LaunchProblem`.
pub(crate) fn plan(
    aws: &Aws,
    batch: &LaunchBatch<'_>,
    planned: &[Call],
    now: Timestamp,
) -> Result<Call, LaunchProblem> {
    let claim = *batch.claims.first().ok_or_else(|| LaunchProblem::NotYet("no claim is to be launched".to_owned()))?;
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
    let (mut candidates, capacity_type) = select(&rows.all, &batch.claims)?;
    let partition = partitions::narrow(&mut candidates, claim);
    let spot = capacity_type == CapacityType::Spot;
    let tenancy = tenancy(claim);
    let templates =
        Templates { aws, claim, class, status: &status, cluster, capacity_type, tenancy, partition, planned, now };
    let configs = templates.configs(&candidates, status.amis.as_deref().unwrap_or_default())?;
    let mut tags = templates.content().tags();
    tags.insert(keys::TAG_LAUNCH.to_owned(), batch.token.to_owned());
    let target = i32::try_from(batch.target).unwrap_or(i32::MAX);
    // Fewest pods, fewest addresses: what the launch takes at least.
    let each = candidates.iter().map(|candidate| candidate.row.capacity.get(PODS)).min().unwrap_or(0).max(1);
    let subnets = configs.iter().flat_map(|config| &config.overrides).map(|one| one.subnet_id.clone());
    let addresses = subnets.map(|subnet| (subnet, each.saturating_mul(i64::from(target)))).collect();
    let relaxed = claim.metadata.annotations.as_ref().and_then(|all| all.get(keys::MIN_VALUES_RELAXED));
    Ok(Call::Launch(Box::new(Launch {
        token: batch.token.to_owned(),
        claims: batch.claims.iter().map(|claim| reference(claim)).collect(),
        taken: batch.taken.clone(),
        target,
        client_token: client_token(batch.token, batch.attempt),
        addresses,
        spot,
        allocation_strategy: if spot { "price-capacity-optimized" } else { "lowest-price" },
        configs,
        tags,
        context: class.object.spec.context.clone().filter(|_| relaxed.is_none_or(|text| text != "true")),
        knowledge: LaunchKnowledge {
            class: class_name.clone(),
            annotations: annotations(class, aws.cluster_ca()),
            tenancy: tenancy.to_owned(),
            reserved: reservations(&candidates),
            efa: templates.content().has_efa(),
            group: group_of(aws, class_name),
            partition,
            has_partitions: partitions::are_in(class),
            few_types: few_types(&candidates, capacity_type, claim),
        },
    })))
}

/// The templates of a launch that is to come, as far as they are not there.
pub(crate) fn prepare(aws: &Aws, batch: &LaunchBatch<'_>, now: Timestamp) -> Option<Call> {
    // What stands in the way is told when it is launched.
    let Ok(Call::Launch(launch)) = plan(aws, batch, &[], now) else { return None };
    let templates = launch.configs.into_iter().map(|config| config.template);
    let missing: Vec<_> = templates.filter(|template| !aws.templates.is_there(&template.name)).collect();
    (!missing.is_empty()).then_some(Call::CreateLaunchTemplates { templates: missing })
}

pub(crate) fn reference(claim: &NodeClaim) -> ClaimRef {
    let meta = &claim.metadata;
    ClaimRef { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
}

/// Shared hardware unless the claim rules it out.
fn tenancy(claim: &NodeClaim) -> &'static str {
    let is_tenancy = |spec: &&RequirementSpec| keys::normalized(&spec.key) == keys::INSTANCE_TENANCY;
    let mut asked = claim.spec.requirements.iter().filter(is_tenancy);
    if asked.all(|spec| Requirement::from_spec(spec).has("default")) { "default" } else { "dedicated" }
}

/// If the claim would be launched on nothing but capacity that is on trial: a name for it.
pub(crate) fn trial(aws: &Aws, claim: &NodeClaim) -> Option<String> {
    if aws.unavailable.is_empty() {
        return None;
    }
    let rows = aws.rows.get(&claim.spec.node_class_ref.name)?;
    let (mut candidates, capacity_type) = select(&rows.all, &[claim]).ok()?;
    let partition = partitions::narrow(&mut candidates, claim);
    let offerings = || candidates.iter().flat_map(|c| c.offerings.iter().map(|o| (&c.row.name, &o.zone)));
    let group = group_of(aws, &claim.spec.node_class_ref.name).map(|group| part(&group, partition));
    let on_trial = offerings()
        .all(|(name, zone)| aws.unavailable.is_on_trial(capacity_type, name, &place(zone, group.as_deref())));
    let (name, _) = offerings().next().filter(|_| on_trial)?;
    Some(format!("{} {}", capacity_type.as_str(), family_of(name)))
}

/// Id of the placement group of a class.
fn group_of(aws: &Aws, class: &str) -> Option<String> {
    aws.classes.get(class)?.placement_group().map(|group| group.id.clone())
}

/// How many types an on-demand launch may take if they are few and spot would do: more of them, or spot alone, would
/// find capacity sooner.
fn few_types(candidates: &[Candidate], capacity_type: CapacityType, claim: &NodeClaim) -> Option<usize> {
    let mut asked = claim.spec.requirements.iter().filter(|spec| keys::normalized(&spec.key) == keys::CAPACITY_TYPE);
    let spot_would_do = asked.all(|spec| Requirement::from_spec(spec).has(CapacityType::Spot.as_str()));
    let few = capacity_type == CapacityType::OnDemand && spot_would_do && candidates.len() < FEW;
    few.then_some(candidates.len())
}

/// Which reservation an instance of a type in a zone is in.
fn reservations(candidates: &[Candidate]) -> BTreeMap<(String, String), String> {
    let of = |candidate: &Candidate, offering: &Offering| {
        let id = offering.reservation.as_ref()?.id.clone();
        Some(((candidate.row.name.clone(), offering.zone.clone()), id))
    };
    candidates.iter().flat_map(|one| one.offerings.iter().filter_map(|offering| of(one, offering))).collect()
}

/// The first launch has the batch's own token; each one after a launch that ended without its instances has another, as
/// EC2 would only repeat its earlier answer.
fn client_token(token: &str, attempt: u32) -> String {
    if attempt == 0 { token.to_owned() } else { format!("{token}-{attempt}") }
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

/// What the templates of one launch share.
struct Templates<'a> {
    aws: &'a Aws,
    claim: &'a NodeClaim,
    class: &'a Class,
    status: &'a Ec2NodeClassStatus,
    cluster: &'a Cluster,
    capacity_type: CapacityType,
    tenancy: &'static str,
    partition: Option<i32>,
    /// Launches of the same moment.
    planned: &'a [Call],
    now: Timestamp,
}

impl Templates<'_> {
    fn content(&self) -> Content<'_> {
        Content {
            settings: &self.aws.settings,
            class: self.class,
            status: self.status,
            cluster: self.cluster,
            types: &self.aws.types,
            claim: Some(self.claim),
            capacity_type: self.capacity_type,
            tenancy: self.tenancy,
            partition: self.partition,
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
            for offering in &candidate.offerings {
                let Some(subnet) = subnets.get(offering.zone.as_str()) else { continue };
                let mut shape = content.shape(&candidate.row);
                shape.reservation = offering.reservation.as_ref().map(|of| (of.id.clone(), reserved::market(offering)));
                let one = Override {
                    instance_type: candidate.row.name.clone(),
                    zone: offering.zone.clone(),
                    subnet_id: subnet.id.clone(),
                    priority: None,
                };
                // Partitions of a group are offerings of their own, and one to EC2.
                let overrides = groups.entry((image, shape)).or_default();
                if !overrides.contains(&one) {
                    overrides.push(one);
                }
            }
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

    /// The subnet with the most free addresses of each zone; one that EC2 has called full lately comes last.
    fn subnets(&self) -> BTreeMap<&str, &Subnet> {
        let mut best: BTreeMap<&str, ((bool, i64), &Subnet)> = BTreeMap::new();
        let all = self.class.subnets.as_ref().and_then(|answer| answer.result.as_ref().ok());
        for subnet in all.into_iter().flatten() {
            let planned: i64 = self.planned.iter().filter_map(|call| call.addresses(&subnet.id)).sum();
            let free = self.aws.addresses.free(subnet) - planned;
            let rank = (!self.aws.unavailable.has_subnet(&subnet.id, self.now), free);
            // The class's list is sorted: of equals, the first.
            if best.get(subnet.zone.as_str()).is_none_or(|(known, _)| *known < rank) {
                best.insert(subnet.zone.as_str(), (rank, subnet));
            }
        }
        best.into_iter().map(|(zone, (_, subnet))| (zone, subnet)).collect()
    }
}

pub(crate) fn image_fits(ami: &AmiStatus, of_type: &Requirements) -> bool {
    ami.requirements.iter().all(|spec| {
        let has_any = |found: &Requirement| spec.values.iter().flatten().any(|value| found.values.contains(value));
        let found = of_type.get(&spec.key).filter(|found| !found.has_no_value());
        match (spec.operator.as_str(), found) {
            ("In", Some(found)) => has_any(found),
            ("NotIn", Some(found)) => !has_any(found),
            ("Exists", found) => found.is_some(),
            ("DoesNotExist", found) => found.is_none(),
            ("NotIn", None) => true,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karpenter_core::Resources;
    use karpenter_core::cloud::InstanceType;
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn an_on_demand_launch_of_few_types_is_told_of_where_spot_would_do() {
        let candidate = |number: usize| Candidate {
            row: Arc::new(InstanceType {
                name: format!("m{number}.large"),
                requirements: Arc::default(),
                capacity: Resources::default(),
                allocatable: Resources::default(),
                offerings: Vec::new(),
            }),
            offerings: Vec::new(),
        };
        let claim = |types: &[&str]| {
            let requirement = json!({ "key": keys::CAPACITY_TYPE, "operator": "In", "values": types });
            let mut claim = testing::claim(&json!({}));
            claim.spec.requirements = vec![serde_json::from_value(requirement).unwrap()];
            claim
        };
        let (both, on_demand) = (claim(&["spot", "on-demand"]), claim(&["on-demand"]));
        let of = |types: usize, capacity_type, claim| {
            few_types(&(0..types).map(candidate).collect::<Vec<_>>(), capacity_type, claim)
        };
        assert_eq!(of(4, CapacityType::OnDemand, &both), Some(4));
        assert_eq!(of(5, CapacityType::OnDemand, &both), None, "enough");
        assert_eq!(of(4, CapacityType::Spot, &both), None);
        assert_eq!(of(4, CapacityType::OnDemand, &on_demand), None, "as it was asked for");
    }
}
