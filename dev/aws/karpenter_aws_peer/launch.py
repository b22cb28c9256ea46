"""Starting instances: what CreateFleet and RunInstances share, and everything EC2 refuses on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import EC2ClientError

from .ec2.base import tags_for
from .ec2.catalogue import type_info, zones_of
from .ec2.groups import SPREAD_LIMIT, PlacementGroup
from .ec2.reservations import Reservation
from .errors import ec2_error, invalid_parameter
from .instances import Instance
from .peer import ACCOUNT, Peer
from .pools import refusal_message
from .strategy import Candidate

RESERVED_MARKETS = ("capacity-block", "interruptible-capacity-reservation")


@dataclass
class Order:
    """What is the same for all instances of one request."""

    capacity_type: str
    tags: dict[str, str]
    volume_tags: dict[str, str]
    fleet_id: str | None = None
    client_token: str | None = None


class Launcher:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def launch(self, each: Candidate, order: Order, wanted: int) -> tuple[list[Instance], EC2ClientError | None]:
        """As many of the wanted instances as the pool yields, and why not all of them."""
        launched: list[Instance] = []
        rule = self.peer.pools.rule_for(order.capacity_type, each.instance_type, each.zone)
        try:
            self._check(each, order)
            for index in range(wanted):
                if rule is not None and rule.remaining <= 0:
                    message = rule.message or refusal_message(
                        rule.code, order.capacity_type, each.instance_type, each.zone
                    )
                    raise ec2_error(rule.code, message)
                launched.append(self._start(each, order, index))
                if rule is not None:
                    rule.remaining -= 1
        except EC2ClientError as refusal:
            return launched, refusal
        return launched, None

    def _check(self, each: Candidate, order: Order) -> None:
        info = type_info(each.instance_type)
        if info is None:
            raise invalid_parameter(f"Invalid value '{each.instance_type}' for InstanceType.")
        if each.zone not in zones_of(self.peer.region).get(each.instance_type, ()):
            raise ec2_error(
                "Unsupported",
                f"Your requested instance type ({each.instance_type}) is not supported in your requested Availability "
                f"Zone ({each.zone}).",
            )
        if order.capacity_type == "spot" and "spot" not in info.get("SupportedUsageClasses", []):
            raise ec2_error("Unsupported", f"The instance type {each.instance_type} is not supported for Spot.")
        image = self._image(each.image_id)
        architectures = info["ProcessorInfo"]["SupportedArchitectures"]
        if image.architecture not in architectures:
            raise invalid_parameter(
                f"The architecture '{','.join(architectures)}' of the specified instance type does not match the "
                f"architecture '{image.architecture}' of the specified AMI. Specify an instance type and an AMI that "
                "have matching architectures, and try again."
            )
        self._profile(each.data.get("IamInstanceProfile"))
        self._security_groups(each.data)

    def _image(self, image_id: str) -> Any:
        image = self.peer.ec2.amis.get(image_id)
        if image is None:
            raise ec2_error("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        return image

    def _profile(self, given: dict[str, str] | None) -> dict[str, str] | None:
        if not given:
            return None
        from moto.iam.models import iam_backends

        name = given.get("Name") or given.get("Arn", "").rsplit("/", 1)[-1]
        for profile in iam_backends[ACCOUNT]["aws"].instance_profiles.values():
            if profile.name == name:
                return {"Arn": profile.arn, "Id": profile.id}
        raise invalid_parameter(
            f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        )

    def _security_groups(self, data: dict[str, Any]) -> list[dict[str, str]]:
        ids = list(data.get("SecurityGroupIds") or [])
        for interface in data.get("NetworkInterfaces") or []:
            ids += [each for each in interface.get("Groups") or [] if each not in ids]
        told = []
        for group_id in ids:
            group = self.peer.ec2.get_security_group_from_id(group_id)
            if group is None:
                raise ec2_error("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
            told.append({"GroupId": group.id, "GroupName": group.name})
        return told

    def _start(self, each: Candidate, order: Order, index: int) -> Instance:
        peer, data = self.peer, each.data
        placement = data.get("Placement") or {}
        subnet = peer.ec2.get_subnet(each.subnet_id)
        if subnet.available_ip_address_count <= 0:
            raise ec2_error(
                "InsufficientFreeAddressesInSubnet",
                f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of instances.",
            )
        group = self._group(placement)
        partition = self._partition(group, each.zone, placement)
        reservation = self._reservation(each, order, placement.get("Tenancy") or "default")
        image = self._image(each.image_id)
        store = peer.instances
        instance = Instance(
            id=store.new_id("i"),
            reservation_id=store.new_id("r"),
            instance_type=each.instance_type,
            image_id=each.image_id,
            architecture=image.architecture,
            platform=image.platform,
            zone=each.zone,
            zone_id=subnet.availability_zone_id,
            subnet=subnet,
            vpc_id=subnet.vpc_id,
            private_ip="",
            private_dns_name="",
            security_groups=self._security_groups(data),
            profile=self._profile(data.get("IamInstanceProfile")),
            capacity_type=order.capacity_type,
            price=peer.prices.of(order.capacity_type, each.instance_type, each.zone),
            # moto keeps a type of its own; its text is the base64.
            user_data=str(data["UserData"]) if data.get("UserData") else None,
            launched_at=time.time(),
            launch_index=index,
            fleet_id=order.fleet_id,
            template=each.template or None,
            client_token=order.client_token,
            tenancy=placement.get("Tenancy") or "default",
            group=group,
            partition=partition,
            reservation=reservation,
            root_device=image.root_device_name,
            network_interfaces=data.get("NetworkInterfaces") or [],
            metadata=data.get("MetadataOptions") or {},
            monitoring=bool((data.get("Monitoring") or {}).get("Enabled")),
        )
        instance.private_ip = subnet.get_available_subnet_ip(instance)
        dashed = instance.private_ip.replace(".", "-")
        domain = "ec2.internal" if peer.region == "us-east-1" else f"{peer.region}.compute.internal"
        instance.private_dns_name = f"ip-{dashed}.{domain}"
        if reservation is not None:
            reservation.users.add(instance.id)
        self._tag(instance, each, order)
        store.add(instance)
        return instance

    def _tag(self, instance: Instance, each: Candidate, order: Order) -> None:
        ec2, specifications = self.peer.ec2, each.data.get("TagSpecifications")
        tags = tags_for(specifications, "instance") | order.tags
        if each.template:
            tags["aws:ec2launchtemplate:id"] = each.template["LaunchTemplateId"]
            tags["aws:ec2launchtemplate:version"] = each.template["Version"]
        if order.fleet_id:
            tags["aws:ec2:fleet-id"] = order.fleet_id
        if tags:
            ec2.create_tags([instance.id], tags)
        volume_tags = tags_for(specifications, "volume") | order.volume_tags
        mappings = each.data.get("BlockDeviceMappings") or [{"DeviceName": instance.root_device, "Ebs": {"VolumeSize": 20}}]
        for mapping in mappings:
            volume_id = self.peer.instances.new_id("vol")
            instance.block_devices.append({**mapping, "VolumeId": volume_id})
            if volume_tags:
                ec2.create_tags([volume_id], volume_tags)

    def _group(self, placement: dict[str, Any]) -> PlacementGroup | None:
        name, group_id = placement.get("GroupName"), placement.get("GroupId")
        if not (name or group_id):
            return None
        for group in self.peer.groups.values():
            if group.name == name or group.id == group_id:
                return group
        raise ec2_error("InvalidPlacementGroup.Unknown", f"The Placement Group '{name or group_id}' is unknown.")

    def _partition(self, group: PlacementGroup | None, zone: str, placement: dict[str, Any]) -> int | None:
        if group is None:
            return None
        fellows = [each for each in self.peer.instances.live() if each.group is group]
        if group.strategy == "spread" and group.spread_level == "rack":
            if sum(each.zone == zone for each in fellows) >= SPREAD_LIMIT:
                raise ec2_error(
                    "InsufficientInstanceCapacity",
                    "You've reached the limit of instances in this spread placement group. A spread placement group can "
                    f"have up to {SPREAD_LIMIT} instances per Availability Zone.",
                )
        if group.strategy != "partition":
            return None
        asked = placement.get("PartitionNumber")
        if asked:
            return int(asked)
        # EC2 tries to spread evenly; so does this, the lowest number first.
        return min(range(1, (group.partitions or 1) + 1), key=lambda n: sum(each.partition == n for each in fellows))

    def _reservation(self, each: Candidate, order: Order, tenancy: str) -> Reservation | None:
        specification = each.data.get("CapacityReservationSpecification") or {}
        target = (specification.get("CapacityReservationTarget") or {}).get("CapacityReservationId")
        if target:
            found = self.peer.reservations.get(target)
            if found is None:
                raise ec2_error("InvalidCapacityReservationId.NotFound", f"The capacity reservation ID '{target}' is not found")
            if (found.instance_type, found.zone) != (each.instance_type, each.zone):
                raise invalid_parameter(
                    f"The capacity reservation '{target}' is for {found.instance_type} in {found.zone}, not for "
                    f"{each.instance_type} in {each.zone}"
                )
            if found.available <= 0:
                raise ec2_error(
                    "ReservationCapacityExceeded",
                    f"The requested reservation {target} does not have sufficient compatible and available capacity for "
                    "this request.",
                )
            return found
        if order.capacity_type in RESERVED_MARKETS:
            raise invalid_parameter("A launch into a capacity block must name its capacity reservation")
        # An open reservation takes in whatever fits it, unless the launch says otherwise.
        if order.capacity_type == "on-demand" and specification.get("CapacityReservationPreference", "open") == "open":
            for found in self.peer.reservations.values():
                fits = (found.instance_type, found.zone, found.tenancy) == (each.instance_type, each.zone, tenancy)
                if fits and found.match == "open" and found.available > 0:
                    return found
        return None
