//! Hashes of templates, from which static drift is told.
//!
//! They equal the ones Karpenter writes under the same version, so that nodes it launched do not look drifted. The
//! scheme (mitchellh/hashstructure, format 2, slices as sets, zero values left out): FNV-1 of 64 bit over little-endian
//! bytes; a structure starts from its type's name and takes in one field after the other, so the order of fields
//! counts; a map is the XOR of its entries, hashed once more; a list is the XOR of its items. The names below are
//! those of Karpenter's types.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::ec2nodeclass::{
    BlockDevice, BlockDeviceMapping, ConnectionTracking, CpuOptions, Ec2NodeClassSpec, InterfaceType, MetadataOptions,
    NetworkInterface, PlacementGroupSelector,
};
use crate::nodepool::{NodePool, TemplateMetadata};
use crate::{Ec2NodeClass, NodeClassRef, Taint, duration, quantity};

pub const NODEPOOL_HASH_VERSION: &str = "v3";
pub const EC2_NODE_CLASS_HASH_VERSION: &str = "v6";

/// Decimal hash of a NodePool's template: labels, annotations, taints, class, life times.
pub fn nodepool_hash(pool: &NodePool) -> String {
    let template = &pool.spec.template;
    let spec = &template.spec;
    let inner = Structure::named("NodeClaimTemplateSpec")
        .with("Taints", spec.taints.as_deref().map(|all| set(all, taint)))
        .with("StartupTaints", spec.startup_taints.as_deref().map(|all| set(all, taint)))
        .with("NodeClassRef", Some(class_ref(&spec.node_class_ref)))
        .with("TerminationGracePeriod", spec.termination_grace_period.as_deref().and_then(grace_period))
        .with("ExpireAfter", spec.expire_after.as_deref().and_then(life_time));
    Structure::named("NodeClaimTemplate")
        .with("ObjectMeta", template.metadata.as_ref().and_then(metadata))
        .with("Spec", Some(inner.0))
        .0
        .to_string()
}

/// Decimal hash of an EC2NodeClass's launch settings and of the cluster's CA (base64 PEM) that its nodes trust.
/// Selectors are left out: what they resolve to is compared instead.
pub fn ec2_node_class_hash(class: &Ec2NodeClass, cluster_ca: &str) -> String {
    let spec = &class.spec;
    let parts = [launch_settings(spec), text(spec.family().name()), text(cluster_ca), text(&kubelet(spec))];
    parts.into_iter().fold(0, |all, part| all ^ part).to_string()
}

fn metadata(metadata: &TemplateMetadata) -> Option<u64> {
    let TemplateMetadata { labels, annotations } = metadata;
    (labels.is_some() || annotations.is_some()).then(|| {
        Structure::named("ObjectMeta")
            .with("Labels", labels.as_ref().map(map))
            .with("Annotations", annotations.as_ref().map(map))
            .0
    })
}

fn taint(taint: &Taint) -> u64 {
    Structure::named("Taint")
        .word("Key", &taint.key)
        .word("Value", taint.value.as_deref().unwrap_or_default())
        .word("Effect", &taint.effect)
        .with("TimeAdded", taint.time_added.as_ref().map(time))
        .0
}

fn class_ref(class: &NodeClassRef) -> u64 {
    Structure::named("NodeClassReference")
        .word("Kind", &class.kind)
        .word("Name", &class.name)
        .word("Group", &class.group)
        .0
}

/// A duration of zero is a zero value: the structure stays without it.
fn grace_period(text: &str) -> Option<u64> {
    let nanoseconds = go_duration(text)?;
    let amount = (nanoseconds != 0).then(|| fnv1(nanoseconds.to_le_bytes()));
    Some(Structure::named("Duration").with("Duration", amount).0)
}

/// `Never` is no value at all; a life of zero is one.
fn life_time(text: &str) -> Option<u64> {
    let nanoseconds = go_duration(text)?;
    Some(Structure::named("NillableDuration").with("Duration", Some(fnv1(nanoseconds.to_le_bytes()))).0)
}

fn launch_settings(spec: &Ec2NodeClassSpec) -> u64 {
    Structure::named("EC2NodeClassSpec")
        .with("PlacementGroupSelector", spec.placement_group_selector.as_ref().map(placement_group))
        .with("AssociatePublicIPAddress", spec.associate_public_ip_address.map(boolean))
        .with("UserData", spec.user_data.as_deref().map(text))
        .word("Role", spec.role.as_deref().unwrap_or_default())
        .with("InstanceProfile", spec.instance_profile.as_deref().map(text))
        .with("Tags", spec.tags.as_ref().map(map))
        .with("BlockDeviceMappings", spec.block_device_mappings.as_deref().map(|all| set(all, mapping)))
        .with("InstanceStorePolicy", spec.instance_store_policy.map(|policy| text(policy.name())))
        .with("NetworkInterfaces", spec.network_interfaces.as_deref().map(|all| set(all, interface)))
        .with("DetailedMonitoring", spec.detailed_monitoring.map(boolean))
        .with("MetadataOptions", spec.metadata_options.as_ref().map(metadata_options))
        .with("ConnectionTracking", spec.connection_tracking.as_ref().map(connection_tracking))
        .with("Context", spec.context.as_deref().map(text))
        .with("CPUOptions", spec.cpu_options.as_ref().map(cpu_options))
        .0
}

fn placement_group(group: &PlacementGroupSelector) -> u64 {
    Structure::named("PlacementGroupSelector")
        .with("Name", group.name.as_deref().map(text))
        .with("ID", group.id.as_deref().map(text))
        .0
}

fn mapping(mapping: &BlockDeviceMapping) -> u64 {
    Structure::named("BlockDeviceMapping")
        .with("DeviceName", mapping.device_name.as_deref().map(text))
        .with("EBS", mapping.ebs.as_ref().map(volume))
        .with("RootVolume", mapping.root_volume.filter(|is_root| *is_root).map(boolean))
        .0
}

fn volume(volume: &BlockDevice) -> u64 {
    Structure::named("BlockDevice")
        .with("DeleteOnTermination", volume.delete_on_termination.map(boolean))
        .with("Encrypted", volume.encrypted.map(boolean))
        .with("IOPS", volume.iops.map(|n| fnv1(n.to_le_bytes())))
        .with("KMSKeyID", volume.kms_key_id.as_deref().map(text))
        .with("SnapshotID", volume.snapshot_id.as_deref().map(text))
        .with("Throughput", volume.throughput.map(|n| fnv1(n.to_le_bytes())))
        .with("VolumeInitializationRate", volume.volume_initialization_rate.map(|n| fnv1(n.to_le_bytes())))
        .with("VolumeSize", volume.volume_size.as_deref().map(|size| text(&quantity::canonical(size))))
        .with("VolumeType", volume.volume_type.as_deref().map(text))
        .0
}

fn interface(interface: &NetworkInterface) -> u64 {
    let index = |n: i32| (n != 0).then(|| fnv1(n.to_le_bytes()));
    let kind = match interface.interface_type {
        InterfaceType::Interface => "interface",
        InterfaceType::EfaOnly => "efa-only",
    };
    Structure::named("NetworkInterface")
        .with("NetworkCardIndex", index(interface.network_card_index))
        .with("DeviceIndex", index(interface.device_index))
        .word("InterfaceType", kind)
        .0
}

fn metadata_options(options: &MetadataOptions) -> u64 {
    Structure::named("MetadataOptions")
        .with("HTTPEndpoint", options.http_endpoint.as_deref().map(text))
        .with("HTTPProtocolIPv6", options.http_protocol_ipv6.as_deref().map(text))
        .with("HTTPPutResponseHopLimit", options.http_put_response_hop_limit.map(|n| fnv1(n.to_le_bytes())))
        .with("HTTPTokens", options.http_tokens.as_deref().map(text))
        .0
}

fn connection_tracking(tracking: &ConnectionTracking) -> u64 {
    let seconds = |n: Option<i32>| n.map(|n| fnv1(n.to_le_bytes()));
    Structure::named("ConnectionTracking")
        .with("TCPEstablishedTimeout", seconds(tracking.tcp_established_timeout))
        .with("UDPStreamTimeout", seconds(tracking.udp_stream_timeout))
        .with("UDPTimeout", seconds(tracking.udp_timeout))
        .0
}

fn cpu_options(options: &CpuOptions) -> u64 {
    Structure::named("CPUOptions").with("NestedVirtualization", options.nested_virtualization.as_deref().map(text)).0
}

/// The kubelet's settings as Go writes JSON, which escapes what HTML would read.
fn kubelet(spec: &Ec2NodeClassSpec) -> String {
    let Some(fields) = spec.kubelet.as_ref().filter(|fields| !fields.is_empty()) else {
        return "null".to_owned();
    };
    let sorted: BTreeMap<_, _> = fields.iter().collect();
    let mut json = serde_json::to_string(&sorted).unwrap_or_default();
    for (sign, escaped) in
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")]
    {
        json = json.replace(sign, escaped);
    }
    json
}

/// A structure of the scheme, as far as its fields were taken in.
struct Structure(u64);

impl Structure {
    fn named(name: &str) -> Self {
        Self(text(name))
    }

    /// Takes in a field; `None` is a zero value, which leaves no trace.
    fn with(self, name: &str, value: Option<u64>) -> Self {
        match value {
            None => self,
            Some(value) => Self(finish(self.0 ^ pair(text(name), value))),
        }
    }

    /// A text of which the empty one is the zero value.
    fn word(self, name: &str, value: &str) -> Self {
        self.with(name, (!value.is_empty()).then(|| text(value)))
    }
}

fn map(entries: &BTreeMap<String, String>) -> u64 {
    finish(entries.iter().fold(0, |all, (key, value)| all ^ pair(text(key), text(value))))
}

fn set<T>(items: &[T], hash: impl Fn(&T) -> u64) -> u64 {
    items.iter().fold(0, |all, item| all ^ hash(item))
}

/// Go's binary form of a time at offset zero: version, seconds since the year 1, nanoseconds, offset in minutes.
fn time(time: &Time) -> u64 {
    const UNIX_EPOCH: i64 = 62_135_596_800;
    let nanoseconds = time.0.subsec_nanosecond();
    let bytes = [1].into_iter().chain((time.0.as_second() + UNIX_EPOCH).to_be_bytes());
    let moment = fnv1(bytes.chain(nanoseconds.to_be_bytes()).chain([0, 0]));
    Structure::named("Time").with("Time", Some(moment)).0
}

/// Nanoseconds of a Go duration such as `1h30m`; `None` for `Never` and what is not one.
fn go_duration(text: &str) -> Option<i64> {
    i64::try_from(duration::parse(text)?.as_nanos()).ok()
}

fn fnv1(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
}

fn text(value: &str) -> u64 {
    fnv1(value.bytes())
}

fn boolean(value: bool) -> u64 {
    fnv1([u8::from(value)])
}

fn pair(a: u64, b: u64) -> u64 {
    fnv1(a.to_le_bytes().into_iter().chain(b.to_le_bytes()))
}

fn finish(a: u64) -> u64 {
    fnv1(a.to_le_bytes())
}
