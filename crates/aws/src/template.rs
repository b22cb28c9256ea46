//! The content of a launch template: what the class says, what the claim adds, what the instance type needs.

use std::collections::BTreeMap;

use base64::Engine;
use karpenter_api::ec2nodeclass::{
    AmiStatus, BlockDevice as ApiDevice, Ec2NodeClassStatus, InstanceStorePolicy, InterfaceType,
    MetadataOptions as ApiMetadata,
};
use karpenter_api::{NodeClaim, Taint, labels as keys, taints};
use karpenter_core::cloud::{CapacityType, InstanceType, LaunchProblem};
use karpenter_core::resources::PODS;

use crate::call::{BlockDevice, ConnectionTracking, Interface, LaunchTemplate, MetadataOptions, ReservationUse};
use crate::capacity::Sizing;
use crate::class::Class;
use crate::report::{Cluster, InstanceTypeInfo};
use crate::{AwsSettings, ami, expression, hash_name};

pub(crate) const EFA: &str = "vpc.amazonaws.com/efa";
const ENCLAVE: &str = "eks.amazonaws.com/nitro-sandbox";

/// What all templates of one launch share.
pub(crate) struct Content<'a> {
    pub(crate) settings: &'a AwsSettings,
    pub(crate) class: &'a Class,
    /// What the class's selectors came to.
    pub(crate) status: &'a Ec2NodeClassStatus,
    pub(crate) cluster: &'a Cluster,
    pub(crate) types: &'a [InstanceTypeInfo],
    /// `None` when no launch but the class itself is tried.
    pub(crate) claim: Option<&'a NodeClaim>,
    pub(crate) capacity_type: CapacityType,
    /// `dedicated`, or `default` for shared hardware.
    pub(crate) tenancy: &'static str,
    /// Of the placement group.
    pub(crate) partition: Option<i32>,
}

/// What differs between instance types (or offerings) of one launch: each shape has a template of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) max_pods: i64,
    /// The kubelet's settings as JSON, if some of them are computed for each type.
    pub(crate) kubelet: Option<String>,
    /// Interfaces of the elastic fabric adapter, one per network card; none unless the claim asks for them.
    pub(crate) efa: i64,
    /// The reservation that is launched into, and EC2's word for its market if it is not plain capacity.
    pub(crate) reservation: Option<(String, Option<&'static str>)>,
}

impl Content<'_> {
    /// The shape of a type, outside of any reservation.
    pub(crate) fn shape(&self, row: &InstanceType) -> Shape {
        let efa = if self.asks_for(EFA) { row.capacity.get(EFA) } else { 0 };
        Shape { max_pods: row.capacity.get(PODS), kubelet: self.kubelet_of(&row.name), efa, reservation: None }
    }

    fn kubelet_of(&self, name: &str) -> Option<String> {
        let info = self.types.iter().find(|info| info.name == name)?;
        let sizing = Sizing::new(self.class.family(), &self.class.object.spec, self.settings);
        serde_json::to_string(&expression::resolved(&sizing, info)?.ok()?).ok()
    }

    /// Whether the claim's pods ask for a resource.
    pub(crate) fn asks_for(&self, resource: &str) -> bool {
        let requests = self.claim.and_then(|claim| claim.spec.resources.as_ref()?.requests.as_ref());
        let amount = requests.and_then(|all| all.get(resource)).map(ToString::to_string);
        amount.and_then(|text| karpenter_core::resources::amount(resource, &text)).is_some_and(|amount| amount > 0)
    }

    /// Whether instances get what EFA their type has: the claim asks for it, or the class lists its interfaces.
    pub(crate) fn has_efa(&self) -> bool {
        let listed = self.class.object.spec.network_interfaces.as_ref().is_some_and(|own| !own.is_empty());
        listed || self.asks_for(EFA)
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
            partition: self.partition,
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
        let computed = shape.kubelet.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let bootstrap = ami::Bootstrap {
            cluster_name: &self.settings.cluster_name,
            endpoint: &own(&self.settings.cluster_endpoint, &self.cluster.endpoint),
            ca: &own(&self.settings.cluster_ca, &self.cluster.certificate_authority),
            service_cidr: self.cluster.service_cidr(),
            dns: self.cluster.dns,
            labels: self.node_labels(),
            taints: self.taints(),
            kubelet: computed.or_else(|| spec.kubelet.clone()).unwrap_or_default(),
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
        self.cluster.is_ipv6()
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
        let Some(mappings) = self.class.object.spec.block_device_mappings.as_ref().filter(|all| !all.is_empty()) else {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::{Value, json};

    /// What the content of a template is made of, where a test asks for nothing else.
    struct Ground {
        settings: AwsSettings,
        class: Class,
        status: Ec2NodeClassStatus,
        cluster: Cluster,
    }

    impl Ground {
        fn of(spec: &Value) -> Self {
            Self {
                settings: AwsSettings::default(),
                class: Class::new(testing::class(&json!({ "spec": spec }))),
                status: Ec2NodeClassStatus::default(),
                cluster: cluster(false),
            }
        }

        fn content(&self) -> Content<'_> {
            Content {
                settings: &self.settings,
                class: &self.class,
                status: &self.status,
                cluster: &self.cluster,
                types: &[],
                claim: None,
                capacity_type: CapacityType::OnDemand,
                tenancy: "default",
                partition: None,
            }
        }
    }

    /// The template of a class with this spec, for a claim that asks for these resources.
    fn template(
        spec: &Value,
        requests: &Value,
        cluster: &Cluster,
        settings: &AwsSettings,
        shape: &Shape,
    ) -> LaunchTemplate {
        let ground = Ground::of(spec);
        let mut claim = testing::claim(&json!({ "labels": { keys::NODEPOOL: "general" } }));
        claim.spec.resources = serde_json::from_value(json!({ "requests": requests })).unwrap();
        let content = Content { settings, cluster, claim: Some(&claim), ..ground.content() };
        let mut shape = shape.clone();
        shape.efa = content.shape(&row("x", shape.max_pods)).efa;
        content.template(&AmiStatus { id: "ami-1".into(), ..AmiStatus::default() }, &shape).unwrap()
    }

    fn row(name: &str, pods: i64) -> InstanceType {
        InstanceType {
            name: name.into(),
            requirements: std::sync::Arc::default(),
            capacity: [(PODS, pods), (EFA, 4)].into_iter().collect(),
            allocatable: karpenter_core::Resources::default(),
            offerings: Vec::new(),
        }
    }

    fn cluster(ipv6: bool) -> Cluster {
        Cluster {
            endpoint: "https://api.example".into(),
            certificate_authority: "Q0E=".into(),
            service_ipv4_cidr: (!ipv6).then(|| "10.100.0.0/16".to_owned()),
            service_ipv6_cidr: ipv6.then(|| "fd00:10::/108".to_owned()),
            version: "1.36".into(),
            ..Cluster::default()
        }
    }

    fn of(spec: &Value, requests: &Value) -> LaunchTemplate {
        let shape = Shape { max_pods: 29, ..Shape::default() };
        let settings = AwsSettings { reserved_capacity: false, ..AwsSettings::default() };
        template(spec, requests, &cluster(false), &settings, &shape)
    }

    #[test]
    fn efa_gets_an_interface_on_every_card_but_only_for_those_who_ask() {
        let told = |template: &LaunchTemplate| {
            template.interfaces.iter().map(|i| (i.card, i.device, i.kind)).collect::<Vec<_>>()
        };
        assert_eq!(told(&of(&json!({}), &json!({ "cpu": "1" }))), []);
        let asked = json!({ EFA: "1" });
        let cards = [(0, 0, "efa"), (1, 1, "efa"), (2, 1, "efa"), (3, 1, "efa")];
        assert_eq!(told(&of(&json!({}), &asked)), cards);
        let own = json!({ "networkInterfaces": [
            { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
            { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "efa-only" },
        ]});
        assert_eq!(told(&of(&own, &asked)), [(0, 0, "interface"), (0, 1, "efa-only")], "the class's own go before");
    }

    #[test]
    fn claims_tell_of_efa_that_they_or_their_class_asked_for() {
        let own = json!({ "networkInterfaces": [
            { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "efa-only" },
        ]});
        let table = [
            (json!({}), json!({ "cpu": "1" }), false),
            (json!({}), json!({ EFA: "1" }), true),
            (own, json!({ "cpu": "1" }), true),
            (json!({ "networkInterfaces": [] }), json!({ "cpu": "1" }), false),
        ];
        for (spec, requests, expected) in table {
            let ground = Ground::of(&spec);
            let mut claim = testing::claim(&json!({}));
            claim.spec.resources = serde_json::from_value(json!({ "requests": requests })).unwrap();
            let content = Content { claim: Some(&claim), ..ground.content() };
            assert_eq!(content.has_efa(), expected, "{spec} {requests}");
        }
    }

    #[test]
    fn a_partition_has_a_template_of_its_own() {
        let ground = Ground::of(&json!({}));
        let of = |partition| {
            let content = Content { partition, ..ground.content() };
            let template = content.template(&AmiStatus::default(), &Shape::default()).unwrap();
            (template.partition, template.name)
        };
        assert_eq!((of(None).0, of(Some(2)).0), (None, Some(2)));
        assert_ne!(of(Some(1)).1, of(Some(2)).1);
    }

    #[test]
    fn what_nobody_asked_for_is_left_to_ec2() {
        let plain = of(&json!({}), &json!({}));
        assert_eq!((plain.tenancy, plain.placement_group, plain.ip_prefix_count), (None, None, None));
        assert_eq!((plain.enclave, plain.market, plain.reservation), (false, None, ReservationUse::Any));
        assert!(of(&json!({}), &json!({ ENCLAVE: "1" })).enclave);
        assert_eq!(of(&json!({ "ipPrefixCount": 0 }), &json!({})).ip_prefix_count, None);
    }

    #[test]
    fn reserved_capacity_is_used_by_those_who_name_it_and_by_nobody_else() {
        let settings = AwsSettings { reserved_capacity: true, ..AwsSettings::default() };
        let of = |reservation| {
            let shape = Shape { reservation, ..Shape::default() };
            let made = template(&json!({}), &json!({}), &cluster(false), &settings, &shape);
            (made.reservation, made.market)
        };
        assert_eq!(of(None), (ReservationUse::None, None));
        let block = Some(("cr-1".to_owned(), Some("capacity-block")));
        assert_eq!(of(block), (ReservationUse::Target("cr-1".into()), Some("capacity-block")));
    }

    #[test]
    fn an_isolated_region_is_not_told_of_ipv6_and_an_ipv6_cluster_has_ipv6_nodes() {
        let shape = Shape::default();
        let of = |region: &str, ipv6| {
            let settings = AwsSettings { region: region.into(), ..AwsSettings::default() };
            let made = template(&json!({}), &json!({}), &cluster(ipv6), &settings, &shape);
            (made.metadata.http_protocol_ipv6, made.ipv6)
        };
        assert_eq!(of("us-west-2", false), (Some("disabled".into()), false));
        assert_eq!(of("us-west-2", true), (Some("disabled".into()), true));
        assert_eq!(of("us-iso-east-1", false), (None, false));
    }

    #[test]
    fn the_same_content_has_the_same_name_and_other_content_another() {
        let name = |spec: &Value| of(spec, &json!({})).name;
        let plain = name(&json!({}));
        assert!(plain.starts_with("karpenter.k8s.aws/"), "{plain}");
        assert_eq!(name(&json!({})), plain);
        for other in [
            json!({ "detailedMonitoring": true }),
            json!({ "userData": "echo" }),
            json!({ "tags": { "a": "b" } }),
            json!({ "blockDeviceMappings": [{ "deviceName": "/dev/xvda", "ebs": { "volumeSize": "1Gi" } }] }),
        ] {
            assert_ne!(name(&other), plain, "{other}");
        }
    }

    #[test]
    fn a_kubelet_whose_figures_are_computed_has_a_template_for_each_figure() {
        let spec = json!({ "amiFamily": "Bottlerocket", "kubelet": { "kubeReserved": { "cpu": "vcpus * 50" } } });
        let ground = Ground::of(&spec);
        let of_size =
            |name: &str, vcpus: i64| InstanceTypeInfo { name: name.into(), vcpus, ..InstanceTypeInfo::default() };
        let types = [of_size("small", 2), of_size("large", 4), of_size("other", 4)];
        let content = Content { types: &types, ..ground.content() };
        let shape = |name: &str| content.shape(&row(name, 29));
        assert_eq!(shape("large"), shape("other"));
        assert_ne!(shape("large"), shape("small"));
        let text = content.user_data(&AmiStatus::default(), &shape("large")).unwrap();
        assert!(text.contains("[settings.kubernetes.kube-reserved]\ncpu = \"200m\""), "{text}");
    }

    #[test]
    fn the_size_of_user_data_is_that_of_the_text() {
        for own in ["", "a", "ab", "abc", "abcd"] {
            let made = of(&json!({ "amiFamily": "Custom", "userData": own }), &json!({}));
            assert_eq!(made.user_data_bytes(), own.len(), "{own:?}");
        }
    }

    #[test]
    fn sizes_of_volumes_are_rounded_up() {
        let gib = |size: &str| {
            device(String::new(), Some(&ApiDevice { volume_size: Some(size.into()), ..ApiDevice::default() }))
                .volume_size_gib
        };
        for (size, expected) in [("20Gi", 20), ("50G", 47), ("1Ti", 1024), ("1T", 932)] {
            assert_eq!(gib(size), Some(expected), "{size}");
        }
    }
}
