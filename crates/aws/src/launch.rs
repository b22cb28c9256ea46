//! The launch of one claim: which types in which zones, from which image, under which template.
//!
//! Order of the filters: compatible and available → exotic types → spot dearer than on-demand →
//! the 60 cheapest. Then one capacity type: reserved before spot before on-demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use karpenter_api::ec2nodeclass::{AmiStatus, InstanceStorePolicy, MetadataOptions as ApiMetadata};
use karpenter_api::{NodeClaim, RequirementSpec, Taint, labels as keys, taints};
use karpenter_core::cloud::{CapacityType, InstanceType, LaunchProblem, NodeClassState, Offering, Price};
use karpenter_core::requirements::{Requirement, Requirements};
use karpenter_core::resources::PODS;
use karpenter_core::{Cloud, Resources};

use crate::call::{BlockDevice, Call, FleetConfig, Launch, LaunchKnowledge, LaunchTemplate, MetadataOptions, Override};
use crate::class::Class;
use crate::report::{Cluster, Subnet};
use crate::{Aws, ami, hash_name};

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
    let candidates = candidates(&rows.all, &wanted, &requests);
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
    let templates = Templates { aws, claim, class, cluster, capacity_type };
    let configs = templates.configs(&candidates, status.amis.as_deref().unwrap_or_default())?;
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let name = claim.metadata.name.clone().unwrap_or_default();
    let mut tags = templates.tags();
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
    cluster: &'a Cluster,
    capacity_type: CapacityType,
}

impl Templates<'_> {
    /// One template per image and number of pods; each type goes with the first image that fits it.
    fn configs(&self, candidates: &[Candidate], amis: &[AmiStatus]) -> Result<Vec<FleetConfig>, LaunchProblem> {
        let subnets = self.subnets();
        let mut groups: BTreeMap<(usize, i64), Vec<Override>> = BTreeMap::new();
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
            let key = (image, candidate.row.capacity.get(PODS));
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
            .map(|((image, pods), overrides)| {
                let template = self.template(&amis[image], pods)?;
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

    fn template(&self, image: &AmiStatus, max_pods: i64) -> Result<LaunchTemplate, LaunchProblem> {
        let spec = &self.class.object.spec;
        let status = self.class.object.status.as_ref();
        let family = self.class.family();
        let settings = &self.aws.settings;
        let claim = &self.claim.spec;
        let mut all_taints: Vec<Taint> = claim.taints.iter().chain(&claim.startup_taints).flatten().cloned().collect();
        let unregistered = taints::unregistered();
        all_taints.push(Taint { key: unregistered.key, value: None, effect: unregistered.effect, time_added: None });
        let image_version = ami::image_version(spec, image.name.as_deref());
        let bootstrap = ami::Bootstrap {
            cluster_name: &settings.cluster_name,
            endpoint: settings.cluster_endpoint.as_deref().unwrap_or(&self.cluster.endpoint),
            ca: settings.cluster_ca.as_deref().unwrap_or(&self.cluster.certificate_authority),
            service_cidr: self.cluster.service_ipv4_cidr.as_deref().or(self.cluster.service_ipv6_cidr.as_deref()),
            labels: self.node_labels(),
            taints: all_taints,
            kubelet: spec.kubelet.clone().unwrap_or_default(),
            max_pods,
            raid0: spec.instance_store_policy == Some(InstanceStorePolicy::Raid0),
            image_version: image_version.as_deref(),
            custom: spec.user_data.as_deref(),
        };
        let user_data = ami::user_data(family, &bootstrap)
            .map_err(|bad| LaunchProblem::Other { reason: "UserDataInvalid", message: bad.to_string() })?;
        let tags = self.tags();
        let mut template = LaunchTemplate {
            name: String::new(),
            image_id: image.id.clone(),
            user_data: base64::engine::general_purpose::STANDARD.encode(user_data),
            instance_profile: status.and_then(|s| s.instance_profile.clone()).unwrap_or_default(),
            security_group_ids: status
                .and_then(|s| s.security_groups.as_ref())
                .into_iter()
                .flatten()
                .map(|group| group.id.clone())
                .collect(),
            associate_public_ip: spec.associate_public_ip_address,
            metadata: metadata(&spec.metadata_options.clone().unwrap_or_default()),
            block_devices: self.block_devices(),
            detailed_monitoring: spec.detailed_monitoring.unwrap_or(false),
            ipv6: self.cluster.is_ipv6(),
            template_tags: tags.clone(),
            tags,
            spot: self.capacity_type == CapacityType::Spot,
            ..LaunchTemplate::default()
        };
        template.name = format!("karpenter.k8s.aws/{}", hash_name(&format!("{template:?}")));
        Ok(template)
    }

    /// What the kubelet registers with: the claim's labels and what this launch settles.
    fn node_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.claim.metadata.labels.clone().unwrap_or_default();
        labels.insert(keys::CAPACITY_TYPE.to_owned(), self.capacity_type.as_str().to_owned());
        labels.insert(keys::EC2_NODE_CLASS.to_owned(), self.class.name().to_owned());
        labels
    }

    fn block_devices(&self) -> Vec<BlockDevice> {
        let Some(mappings) = &self.class.object.spec.block_device_mappings else {
            return ami::default_block_devices(self.class.family());
        };
        let small = |number: i64| i32::try_from(number).ok();
        mappings
            .iter()
            .map(|mapping| {
                let ebs = mapping.ebs.clone().unwrap_or_default();
                let size = ebs.volume_size.as_deref().and_then(|text| karpenter_api::quantity::units(text).ok());
                BlockDevice {
                    device_name: mapping.device_name.clone().unwrap_or_default(),
                    encrypted: ebs.encrypted,
                    delete_on_termination: ebs.delete_on_termination,
                    iops: ebs.iops.and_then(small),
                    throughput: ebs.throughput.and_then(small),
                    kms_key_id: ebs.kms_key_id,
                    snapshot_id: ebs.snapshot_id,
                    volume_size_gib: size.and_then(|bytes| small((bytes + (1 << 30) - 1) >> 30)),
                    volume_type: ebs.volume_type,
                    volume_initialization_rate: ebs.volume_initialization_rate,
                }
            })
            .collect()
    }

    /// Tags of everything that is created for the claim. The user's cannot replace ours.
    fn tags(&self) -> BTreeMap<String, String> {
        let cluster = &self.aws.settings.cluster_name;
        let pool = self.claim.metadata.labels.as_ref().and_then(|labels| labels.get(keys::NODEPOOL));
        let mut tags = self.class.object.spec.tags.clone().unwrap_or_default();
        tags.insert(format!("kubernetes.io/cluster/{cluster}"), "owned".to_owned());
        tags.insert(keys::TAG_CLUSTER.to_owned(), cluster.clone());
        tags.insert(keys::EC2_NODE_CLASS.to_owned(), self.class.name().to_owned());
        tags.insert(keys::NODEPOOL.to_owned(), pool.cloned().unwrap_or_default());
        tags
    }
}

fn metadata(options: &ApiMetadata) -> MetadataOptions {
    MetadataOptions {
        http_endpoint: options.http_endpoint.clone().unwrap_or_else(|| "enabled".to_owned()),
        http_protocol_ipv6: options.http_protocol_ipv6.clone(),
        http_put_response_hop_limit: options
            .http_put_response_hop_limit
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(1),
        http_tokens: options.http_tokens.clone().unwrap_or_else(|| "required".to_owned()),
    }
}

fn image_fits(ami: &AmiStatus, of_type: &Requirements) -> bool {
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
