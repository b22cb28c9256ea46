//! The content of a launch template: what the class says, what the claim adds, what the instance type needs.

use std::collections::BTreeMap;

use base64::Engine;
use karpenter_api::ec2nodeclass::{
    AmiStatus, BlockDevice as ApiDevice, Ec2NodeClassStatus, InstanceStorePolicy, InterfaceType,
    MetadataOptions as ApiMetadata,
};
use karpenter_api::{NodeClaim, Taint, labels as keys, taints};
use karpenter_core::Resources;
use karpenter_core::cloud::{CapacityType, LaunchProblem};
use karpenter_core::resources::PODS;

use crate::call::{BlockDevice, ConnectionTracking, Interface, LaunchTemplate, MetadataOptions, ReservationUse};
use crate::class::Class;
use crate::report::Cluster;
use crate::{AwsSettings, ami, hash_name};

const EFA: &str = "vpc.amazonaws.com/efa";
const ENCLAVE: &str = "eks.amazonaws.com/nitro-sandbox";

/// What all templates of one launch share.
pub(crate) struct Content<'a> {
    pub(crate) settings: &'a AwsSettings,
    pub(crate) class: &'a Class,
    /// What the class's selectors came to.
    pub(crate) status: &'a Ec2NodeClassStatus,
    pub(crate) cluster: &'a Cluster,
    /// `None` when no launch but the class itself is tried.
    pub(crate) claim: Option<&'a NodeClaim>,
    pub(crate) capacity_type: CapacityType,
    /// `dedicated`, or `default` for shared hardware.
    pub(crate) tenancy: &'static str,
}

/// What differs between instance types (or offerings) of one launch: each shape has a template of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) max_pods: i64,
    /// Interfaces of the elastic fabric adapter, one per network card; none unless the claim asks for them.
    pub(crate) efa: i64,
    /// The reservation that is launched into, and EC2's word for its market if it is not plain capacity.
    pub(crate) reservation: Option<(String, Option<&'static str>)>,
}

impl Content<'_> {
    /// The shape of a type with this capacity, outside of any reservation.
    pub(crate) fn shape(&self, capacity: &Resources) -> Shape {
        let efa = if self.asks_for(EFA) { capacity.get(EFA) } else { 0 };
        Shape { max_pods: capacity.get(PODS), efa, reservation: None }
    }

    /// Whether the claim's pods ask for a resource.
    pub(crate) fn asks_for(&self, resource: &str) -> bool {
        let requests = self.claim.and_then(|claim| claim.spec.resources.as_ref()?.requests.as_ref());
        let amount = requests.and_then(|all| all.get(resource)).map(ToString::to_string);
        amount.and_then(|text| karpenter_core::resources::amount(resource, &text)).is_some_and(|amount| amount > 0)
    }

    pub(crate) fn template(&self, image: &AmiStatus, shape: &Shape) -> Result<LaunchTemplate, LaunchProblem> {
        let spec = &self.class.object.spec;
        let user_data = self
            .user_data(image, shape)
            .map_err(|bad| LaunchProblem::Other { reason: bad.reason(), message: bad.to_string() })?;
        let tags = self.tags();
        let mut template = LaunchTemplate {
            name: String::new(),
            image_id: image.id.clone(),
            user_data: base64::engine::general_purpose::STANDARD.encode(user_data),
            instance_profile: self.status.instance_profile.clone().unwrap_or_default(),
            security_group_ids: self.status.security_groups.iter().flatten().map(|group| group.id.clone()).collect(),
            associate_public_ip: spec.associate_public_ip_address,
            interfaces: self.interfaces(shape),
            ip_prefix_count: spec.ip_prefix_count.filter(|count| *count > 0),
            connection_tracking: spec.connection_tracking.as_ref().map(|tracking| ConnectionTracking {
                tcp_established: tracking.tcp_established_timeout,
                udp_stream: tracking.udp_stream_timeout,
                udp: tracking.udp_timeout,
            }),
            tenancy: (self.tenancy != "default").then(|| self.tenancy.to_owned()),
            placement_group: self.class.placement_group().map(|group| group.id.clone()),
            nested_virtualization: spec.cpu_options.as_ref().and_then(|options| options.nested_virtualization.clone()),
            enclave: self.asks_for(ENCLAVE),
            reservation: self.reservation_use(shape),
            market: shape.reservation.as_ref().and_then(|(_, market)| *market),
            metadata: metadata(&spec.metadata_options.clone().unwrap_or_default(), &self.settings.region),
            block_devices: self.block_devices(),
            detailed_monitoring: spec.detailed_monitoring.unwrap_or(false),
            ipv6: self.is_ipv6(),
            template_tags: tags.clone(),
            tags,
            spot: self.capacity_type == CapacityType::Spot,
        };
        template.name = format!("karpenter.k8s.aws/{}", hash_name(&format!("{template:?}")));
        Ok(template)
    }

    /// The user data of an instance, as text.
    pub(crate) fn user_data(&self, image: &AmiStatus, shape: &Shape) -> Result<String, ami::BadUserData> {
        let spec = &self.class.object.spec;
        let image_version = ami::image_version(spec, image.name.as_deref());
        let own =
            |setting: &'_ Option<String>, described: &str| setting.clone().unwrap_or_else(|| described.to_owned());
        let bootstrap = ami::Bootstrap {
            cluster_name: &self.settings.cluster_name,
            endpoint: &own(&self.settings.cluster_endpoint, &self.cluster.endpoint),
            ca: &own(&self.settings.cluster_ca, &self.cluster.certificate_authority),
            service_cidr: self.cluster.service_cidr(),
            labels: self.node_labels(),
            taints: self.taints(),
            kubelet: spec.kubelet.clone().unwrap_or_default(),
            max_pods: shape.max_pods,
            raid0: spec.instance_store_policy == Some(InstanceStorePolicy::Raid0),
            image_version: image_version.as_deref(),
            custom: spec.user_data.as_deref(),
        };
        ami::user_data(self.class.family(), &bootstrap)
    }

    /// The template's taints, the start-up ones, and the one that says "not registered yet", in this order.
    fn taints(&self) -> Vec<Taint> {
        let spec = self.claim.map(|claim| &claim.spec);
        let own = spec.into_iter().flat_map(|spec| spec.taints.iter().chain(&spec.startup_taints).flatten());
        let unregistered = taints::unregistered();
        let last = Taint { key: unregistered.key, value: None, effect: unregistered.effect, time_added: None };
        own.cloned().chain([last]).collect()
    }

    /// What the kubelet registers with: the claim's labels and what this launch settles.
    fn node_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.claim.and_then(|claim| claim.metadata.labels.clone()).unwrap_or_default();
        labels.insert(keys::CAPACITY_TYPE.to_owned(), self.capacity_type.as_str().to_owned());
        labels.insert(keys::EC2_NODE_CLASS.to_owned(), self.class.name().to_owned());
        labels
    }

    fn is_ipv6(&self) -> bool {
        self.cluster.service_ipv4_cidr.is_none() && self.cluster.service_ipv6_cidr.is_some()
    }

    /// The class's own interfaces; else one per card for EFA; else EC2's default.
    fn interfaces(&self, shape: &Shape) -> Vec<Interface> {
        if let Some(own) = self.class.object.spec.network_interfaces.as_ref().filter(|own| !own.is_empty()) {
            let told = |one: &karpenter_api::ec2nodeclass::NetworkInterface| Interface {
                card: one.network_card_index,
                device: one.device_index,
                kind: match one.interface_type {
                    InterfaceType::Interface => "interface",
                    InterfaceType::EfaOnly => "efa-only",
                },
            };
            return own.iter().map(told).collect();
        }
        let cards = i32::try_from(shape.efa).unwrap_or(0);
        (0..cards).map(|card| Interface { card, device: i32::from(card > 0), kind: "efa" }).collect()
    }

    /// Reserved capacity is used by launches that name it, and by no other; without the feature EC2 decides.
    fn reservation_use(&self, shape: &Shape) -> ReservationUse {
        match &shape.reservation {
            Some((id, _)) => ReservationUse::Target(id.clone()),
            None if self.settings.reserved_capacity => ReservationUse::None,
            None => ReservationUse::Any,
        }
    }

    fn block_devices(&self) -> Vec<BlockDevice> {
        let Some(mappings) = &self.class.object.spec.block_device_mappings else {
            return ami::default_block_devices(self.class.family());
        };
        mappings
            .iter()
            .map(|mapping| device(mapping.device_name.clone().unwrap_or_default(), mapping.ebs.as_ref()))
            .collect()
    }

    /// Tags of everything that is created for the claim. The user's cannot replace ours.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let cluster = &self.settings.cluster_name;
        let labels = self.claim.and_then(|claim| claim.metadata.labels.as_ref());
        let pool = labels.and_then(|labels| labels.get(keys::NODEPOOL)).cloned().unwrap_or_default();
        let mut tags = self.class.object.spec.tags.clone().unwrap_or_default();
        tags.insert(format!("kubernetes.io/cluster/{cluster}"), "owned".to_owned());
        tags.insert(keys::TAG_CLUSTER.to_owned(), cluster.clone());
        tags.insert(keys::EC2_NODE_CLASS.to_owned(), self.class.name().to_owned());
        tags.insert(keys::NODEPOOL.to_owned(), pool);
        tags
    }
}

fn device(device_name: String, ebs: Option<&ApiDevice>) -> BlockDevice {
    let ebs = ebs.cloned().unwrap_or_default();
    let small = |number: i64| i32::try_from(number).ok();
    let size = ebs.volume_size.as_deref().and_then(|text| karpenter_api::quantity::units(text).ok());
    BlockDevice {
        device_name,
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
}

/// Isolated regions do not know the option for IPv6.
fn metadata(options: &ApiMetadata, region: &str) -> MetadataOptions {
    MetadataOptions {
        http_endpoint: options.http_endpoint.clone().unwrap_or_else(|| "enabled".to_owned()),
        http_protocol_ipv6: options.http_protocol_ipv6.clone().filter(|_| !region.contains("-iso")),
        http_put_response_hop_limit: options
            .http_put_response_hop_limit
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(1),
        http_tokens: options.http_tokens.clone().unwrap_or_else(|| "required".to_owned()),
    }
}
