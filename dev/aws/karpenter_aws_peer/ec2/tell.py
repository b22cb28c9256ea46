"""An instance in DescribeInstances' words."""

from __future__ import annotations

from typing import Any

from ..instances import STATE_CODES, Instance
from ..peer import ACCOUNT
from ..prices import draw
from .base import tag_list
from .catalogue import type_info


def instance(each: Instance, state: str, tags: dict[str, str]) -> dict[str, Any]:
    info = type_info(each.instance_type) or {}
    gone = state == "terminated"
    placement: dict[str, Any] = {
        "AvailabilityZone": each.zone,
        "AvailabilityZoneId": each.zone_id,
        "Tenancy": each.tenancy,
        "GroupName": each.group.name if each.group else "",
        "GroupId": each.group.id if each.group else None,
        "PartitionNumber": each.partition,
    }
    target = {"CapacityReservationId": each.reservation.id} if each.reservation else None
    cores = info.get("VCpuInfo", {})
    return {
        "InstanceId": each.id,
        "ImageId": each.image_id,
        "InstanceType": each.instance_type,
        "InstanceLifecycle": each.capacity_type if each.capacity_type != "on-demand" else None,
        "SpotInstanceRequestId": f"sir-{each.id[-8:]}" if each.capacity_type == "spot" else None,
        "State": {"Name": state, "Code": STATE_CODES[state]},
        "StateReason": each.state_reason,
        "StateTransitionReason": "User initiated" if each.terminated_at else "",
        "LaunchTime": each.launched_at,
        "AmiLaunchIndex": each.launch_index,
        "ClientToken": each.client_token or "",
        "Architecture": each.architecture,
        "Platform": each.platform,
        "PlatformDetails": "Windows" if each.platform == "windows" else "Linux/UNIX",
        "Hypervisor": info.get("Hypervisor") or "nitro",
        "VirtualizationType": "hvm",
        "EnaSupport": True,
        "Placement": placement,
        # A terminated instance has lost its addresses, as in EC2.
        "PrivateIpAddress": None if gone else each.private_ip,
        "PrivateDnsName": "" if gone else each.private_dns_name,
        "PublicDnsName": "",
        "SubnetId": None if gone else each.subnet.id,
        "VpcId": None if gone else each.vpc_id,
        "SecurityGroups": [] if gone else each.security_groups,
        "IamInstanceProfile": each.profile,
        "RootDeviceName": each.root_device,
        "RootDeviceType": "ebs",
        "BlockDeviceMappings": [] if gone else [_device(each, mapping) for mapping in each.block_devices],
        "NetworkInterfaces": [] if gone else _interfaces(each),
        "SourceDestCheck": True,
        "EbsOptimized": False,
        "Monitoring": {"State": "enabled" if each.monitoring else "disabled"},
        "CpuOptions": {
            "CoreCount": cores.get("DefaultCores"),
            "ThreadsPerCore": cores.get("DefaultThreadsPerCore"),
        },
        "CapacityReservationId": each.reservation.id if each.reservation else None,
        "CapacityReservationSpecification": {
            "CapacityReservationPreference": None if target else "open",
            "CapacityReservationTarget": target,
        },
        "MetadataOptions": {
            "State": "applied",
            "HttpTokens": each.metadata.get("HttpTokens", "optional"),
            "HttpPutResponseHopLimit": each.metadata.get("HttpPutResponseHopLimit", 1),
            "HttpEndpoint": each.metadata.get("HttpEndpoint", "enabled"),
            "HttpProtocolIpv6": each.metadata.get("HttpProtocolIpv6", "disabled"),
            "InstanceMetadataTags": each.metadata.get("InstanceMetadataTags", "disabled"),
        },
        "Tags": tag_list(tags),
    }


def _device(each: Instance, mapping: dict[str, Any]) -> dict[str, Any]:
    ebs = mapping.get("Ebs") or {}
    return {
        "DeviceName": mapping.get("DeviceName"),
        "Ebs": {
            "VolumeId": mapping["VolumeId"],
            "Status": "attached",
            "AttachTime": each.launched_at,
            "DeleteOnTermination": ebs.get("DeleteOnTermination", True),
        },
    }


def _interfaces(each: Instance) -> list[dict[str, Any]]:
    given = each.network_interfaces or [{"DeviceIndex": 0}]
    told = []
    for number, interface in enumerate(given):
        mac = f"{int(draw('mac', each.id, str(number)) * 2**40):010x}"
        told.append(
            {
                "NetworkInterfaceId": f"eni-{each.id[2:17]}{number:02x}",
                "OwnerId": ACCOUNT,
                "Status": "in-use",
                "SubnetId": each.subnet.id,
                "VpcId": each.vpc_id,
                "MacAddress": "06:" + ":".join(mac[i : i + 2] for i in range(0, 10, 2)),
                "InterfaceType": interface.get("InterfaceType") or "interface",
                "Groups": each.security_groups,
                "PrivateIpAddress": each.private_ip if number == 0 else None,
                "PrivateDnsName": each.private_dns_name if number == 0 else None,
                "SourceDestCheck": True,
                "Attachment": {
                    "AttachmentId": f"eni-attach-{each.id[2:17]}{number:02x}",
                    "AttachTime": each.launched_at,
                    "DeleteOnTermination": True,
                    "DeviceIndex": int(interface.get("DeviceIndex") or 0),
                    "NetworkCardIndex": int(interface.get("NetworkCardIndex") or 0),
                    "Status": "attached",
                },
            }
        )
    return told
