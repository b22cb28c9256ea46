//! A launch template in the SDK's words.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use karpenter_aws::call::{BlockDevice, Interface, LaunchTemplate, ReservationUse};

pub(crate) fn data(template: &LaunchTemplate) -> ec2::RequestLaunchTemplateData {
    let metadata = &template.metadata;
    let metadata = ec2::LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(metadata.http_endpoint.as_str().into())
        .set_http_protocol_ipv6(metadata.http_protocol_ipv6.as_deref().map(Into::into))
        .http_put_response_hop_limit(metadata.http_put_response_hop_limit)
        .http_tokens(metadata.http_tokens.as_str().into())
        .instance_metadata_tags(ec2::LaunchTemplateInstanceMetadataTagsState::Disabled)
        .build();
    let profile =
        ec2::LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(&template.instance_profile).build();
    let monitoring = ec2::LaunchTemplatesMonitoringRequest::builder().enabled(template.detailed_monitoring).build();
    let mut data = ec2::RequestLaunchTemplateData::builder()
        .image_id(&template.image_id)
        .user_data(&template.user_data)
        .iam_instance_profile(profile)
        .metadata_options(metadata)
        .monitoring(monitoring)
        .set_block_device_mappings(Some(template.block_devices.iter().map(device).collect()));
    for each in interfaces(template) {
        data = data.network_interfaces(each);
    }
    data = data
        .set_placement(placement(template))
        .set_cpu_options(template.nested_virtualization.as_deref().map(|nested| {
            let nested = ec2::NestedVirtualizationSpecification::from(nested);
            ec2::LaunchTemplateCpuOptionsRequest::builder().nested_virtualization(nested).build()
        }))
        .set_enclave_options(
            template.enclave.then(|| ec2::LaunchTemplateEnclaveOptionsRequest::builder().enabled(true).build()),
        )
        .set_capacity_reservation_specification(reservation(&template.reservation))
        .set_instance_market_options(template.market.map(|market| {
            ec2::LaunchTemplateInstanceMarketOptionsRequest::builder().market_type(market.into()).build()
        }));
    let mut tagged_kinds =
        vec![ec2::ResourceType::Instance, ec2::ResourceType::Volume, ec2::ResourceType::NetworkInterface];
    if template.spot {
        tagged_kinds.push(ec2::ResourceType::SpotInstancesRequest);
    }
    for kind in tagged_kinds {
        let specification = ec2::LaunchTemplateTagSpecificationRequest::builder()
            .resource_type(kind)
            .set_tags(Some(tags(&template.tags)))
            .build();
        data = data.tag_specifications(specification);
    }
    data.build()
}

/// Interfaces by name, or the one that every instance has: groups and addresses are told by interface.
fn interfaces(template: &LaunchTemplate) -> Vec<ec2::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest> {
    let one = |named: Option<&Interface>| {
        let carries_ip = named.is_none_or(|interface| interface.kind != "efa-only");
        let ipv6 = template.ipv6 && carries_ip;
        let prefixes = template.ip_prefix_count.filter(|_| carries_ip);
        ec2::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .set_network_card_index(named.map(|interface| interface.card))
            .device_index(named.map_or(0, |interface| interface.device))
            .set_interface_type(named.map(|interface| interface.kind.to_owned()))
            .set_groups(Some(template.security_group_ids.clone()))
            .set_associate_public_ip_address(template.associate_public_ip.filter(|_| carries_ip))
            .set_ipv4_prefix_count(prefixes.filter(|_| !template.ipv6))
            .set_ipv6_prefix_count(prefixes.filter(|_| template.ipv6))
            .set_ipv6_address_count(ipv6.then_some(1))
            .set_primary_ipv6(ipv6.then_some(true))
            .set_connection_tracking_specification(tracking(template).filter(|_| carries_ip))
            .build()
    };
    if template.interfaces.is_empty() {
        return vec![one(None)];
    }
    template.interfaces.iter().map(|interface| one(Some(interface))).collect()
}

fn tracking(template: &LaunchTemplate) -> Option<ec2::ConnectionTrackingSpecificationRequest> {
    let tracking = template.connection_tracking.as_ref()?;
    Some(
        ec2::ConnectionTrackingSpecificationRequest::builder()
            .set_tcp_established_timeout(tracking.tcp_established)
            .set_udp_stream_timeout(tracking.udp_stream)
            .set_udp_timeout(tracking.udp)
            .build(),
    )
}

fn placement(template: &LaunchTemplate) -> Option<ec2::LaunchTemplatePlacementRequest> {
    if template.tenancy.is_none() && template.placement_group.is_none() {
        return None;
    }
    let tenancy = template.tenancy.as_deref().map(ec2::Tenancy::from);
    let placement = ec2::LaunchTemplatePlacementRequest::builder().set_tenancy(tenancy);
    let placement = placement.set_group_id(template.placement_group.clone());
    Some(placement.set_partition_number(template.partition).build())
}

fn reservation(wanted: &ReservationUse) -> Option<ec2::LaunchTemplateCapacityReservationSpecificationRequest> {
    let specification = ec2::LaunchTemplateCapacityReservationSpecificationRequest::builder();
    Some(match wanted {
        ReservationUse::Any => return None,
        ReservationUse::None => {
            specification.capacity_reservation_preference(ec2::CapacityReservationPreference::None).build()
        }
        ReservationUse::Target(id) => {
            let target = ec2::CapacityReservationTarget::builder().capacity_reservation_id(id).build();
            let only = ec2::CapacityReservationPreference::CapacityReservationsOnly;
            specification.capacity_reservation_preference(only).capacity_reservation_target(target).build()
        }
    })
}

fn device(device: &BlockDevice) -> ec2::LaunchTemplateBlockDeviceMappingRequest {
    let ebs = ec2::LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_encrypted(device.encrypted)
        .set_delete_on_termination(device.delete_on_termination)
        .set_iops(device.iops)
        .set_throughput(device.throughput)
        .set_kms_key_id(device.kms_key_id.clone())
        .set_snapshot_id(device.snapshot_id.clone())
        .set_volume_size(device.volume_size_gib)
        .set_volume_type(device.volume_type.as_deref().map(ec2::VolumeType::from))
        .set_volume_initialization_rate(device.volume_initialization_rate)
        .build();
    ec2::LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&device.device_name).ebs(ebs).build()
}

pub(crate) fn tagged(kind: ec2::ResourceType, all: &BTreeMap<String, String>) -> ec2::TagSpecification {
    ec2::TagSpecification::builder().resource_type(kind).set_tags(Some(tags(all))).build()
}

fn tags(all: &BTreeMap<String, String>) -> Vec<ec2::Tag> {
    all.iter().map(|(key, value)| ec2::Tag::builder().key(key).value(value).build()).collect()
}
