"""Instances on the wire: run, describe, status, stop, terminate."""

from __future__ import annotations

import time
from typing import Any

from moto.core.responses import ActionResult

from ..errors import ec2_error, invalid_parameter
from ..instances import STATE_CODES, Instance
from ..launch import Launcher, Order
from ..peer import ACCOUNT
from ..strategy import Candidate
from ..xmlwire import Ec2Xml
from .base import Action, Values, tag_list, tag_values, tags_for
from .templates import resolve


class InstanceActions(Action):
    def run_instances(self) -> ActionResult:
        given = self.given()
        data: dict[str, Any] = {}
        reference: dict[str, str] = {}
        if given.get("LaunchTemplate"):
            data, reference = resolve(self.ec2_backend, given["LaunchTemplate"])
        # What the call says goes before what its launch template says; tags are merged.
        specifications = [*(data.get("TagSpecifications") or []), *(given.get("TagSpecifications") or [])]
        data = {**data, **{key: value for key, value in given.items() if value not in (None, [], {})}}
        data["TagSpecifications"] = specifications
        interfaces = data.get("NetworkInterfaces") or []
        subnet_id = data.get("SubnetId") or next((i["SubnetId"] for i in interfaces if i.get("SubnetId")), None)
        if not data.get("ImageId"):
            raise ec2_error("MissingParameter", "The request must contain the parameter ImageId")
        subnet = self.ec2_backend.get_subnet(subnet_id) if subnet_id else self._default_subnet(None)  # type: ignore[attr-defined]
        market = (data.get("InstanceMarketOptions") or {}).get("MarketType")
        each = Candidate(
            order=0,
            instance_type=data.get("InstanceType") or "m1.small",
            zone=subnet.availability_zone,
            subnet_id=subnet.id,
            image_id=data["ImageId"],
            data=data,
            template=reference,
        )
        launcher = Launcher(self.peer)
        order = Order(capacity_type=market or "on-demand", tags={}, volume_tags={}, client_token=given.get("ClientToken"))
        launcher._check(each, order)
        self.refuse_if_dry_run()
        instances, refusal = launcher.launch(each, order, int(given.get("MaxCount") or 1))
        if refusal is not None:
            if len(instances) < int(given.get("MinCount") or 1):
                for instance in instances:
                    self.peer.instances.terminate(instance)
                raise refusal
        for instance in instances:
            instance.reservation_id = instances[0].reservation_id
        return Ec2Xml(
            {
                "ReservationId": instances[0].reservation_id,
                "OwnerId": ACCOUNT,
                "Instances": [self._instance_told(instance) for instance in instances],
            }
        )

    def describe_instances(self) -> ActionResult:
        self.refuse_if_dry_run()
        asked = self.given().get("InstanceIds")
        if asked and self._get_param("MaxResults"):
            raise ec2_error(
                "InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults"
            )
        found = self._instances_named(asked) if asked else self._visible()
        page, token = self.page(self.filtered(found, self._instance_values), default=1000, most=1000)
        reservations: dict[str, list[dict[str, Any]]] = {}
        for instance in page:
            reservations.setdefault(instance.reservation_id, []).append(self._instance_told(instance))
        return Ec2Xml(
            {
                "Reservations": [
                    {"ReservationId": key, "OwnerId": ACCOUNT, "Instances": value} for key, value in reservations.items()
                ],
                "NextToken": token,
            }
        )

    def describe_instance_status(self) -> ActionResult:
        self.refuse_if_dry_run()
        asked = self.given().get("InstanceIds")
        found = self._instances_named(asked) if asked else self._visible()
        store = self.peer.instances
        if not self._get_bool_param("IncludeAllInstances"):
            found = [each for each in found if store.state_of(each) == "running"]

        def values(instance: Instance, name: str) -> Values | None:
            if name in ("instance-status.status", "system-status.status"):
                return [_health(instance, name.split("-")[0])["Status"]]
            if name == "event.code":
                return [event["Code"] for event in instance.events]
            return self._instance_values(instance, name)

        page, token = self.page(self.filtered(found, values), default=1000, most=1000)
        statuses = [
            {
                "InstanceId": each.id,
                "AvailabilityZone": each.zone,
                "AvailabilityZoneId": each.zone_id,
                "InstanceState": _state(store.state_of(each)),
                "InstanceStatus": _health(each, "instance"),
                "SystemStatus": _health(each, "system"),
                "AttachedEbsStatus": _health(each, "ebs"),
                "Events": each.events,
            }
            for each in page
        ]
        return Ec2Xml({"InstanceStatuses": statuses, "NextToken": token})

    def terminate_instances(self) -> ActionResult:
        return self._change("TerminatingInstances", "shutting-down", self.peer.instances.terminate)

    def stop_instances(self) -> ActionResult:
        def stop(instance: Instance) -> None:
            instance.stopped_at = instance.stopped_at or time.time()

        return self._change("StoppingInstances", "stopping", stop)

    def start_instances(self) -> ActionResult:
        def start(instance: Instance) -> None:
            instance.stopped_at, instance.launched_at = None, time.time()

        return self._change("StartingInstances", "pending", start)

    def _change(self, key: str, state: str, change: Any) -> ActionResult:
        asked = self.given().get("InstanceIds")
        if not asked:
            raise ec2_error("InvalidParameterCombination", "No instances specified")
        # All or nothing: one unknown id fails the call, as in EC2.
        instances = self._instances_named(asked)
        self.refuse_if_dry_run()
        told = []
        for instance in instances:
            before = self.peer.instances.state_of(instance)
            change(instance)
            now = self.peer.instances.state_of(instance)
            told.append({"InstanceId": instance.id, "PreviousState": _state(before), "CurrentState": _state(now)})
        return Ec2Xml({key: told})

    def describe_instance_attribute(self) -> ActionResult:
        instance = self._instances_named([self._get_param("InstanceId")])[0]
        attribute = self._get_param("Attribute")
        known: dict[str, tuple[str, Any]] = {
            "userData": ("UserData", {"Value": instance.user_data} if instance.user_data else {}),
            "instanceType": ("InstanceType", {"Value": instance.instance_type}),
            "rootDeviceName": ("RootDeviceName", {"Value": instance.root_device}),
            "groupSet": ("Groups", instance.security_groups),
        }
        if attribute not in known:
            raise invalid_parameter(f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute.")
        name, value = known[attribute]
        return Ec2Xml({"InstanceId": instance.id, name: value})

    def _visible(self) -> list[Instance]:
        since = time.time() - self.peer.timings.describe_lag
        return [each for each in self.peer.instances.all() if each.launched_at <= since]

    def _instances_named(self, ids: list[str]) -> list[Instance]:
        visible = {each.id: each for each in self._visible()}
        unknown = [each for each in ids if each not in visible]
        if len(unknown) == 1:
            raise ec2_error("InvalidInstanceID.NotFound", f"The instance ID '{unknown[0]}' does not exist")
        if unknown:
            raise ec2_error("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(unknown)}' do not exist")
        return [visible[each] for each in dict.fromkeys(ids)]

    def _instance_values(self, each: Instance, name: str) -> Values | None:
        told: dict[str, Any] = {
            "instance-id": each.id,
            "instance-type": each.instance_type,
            "instance-state-name": self.peer.instances.state_of(each),
            "instance-state-code": str(STATE_CODES[self.peer.instances.state_of(each)]),
            "instance-lifecycle": each.capacity_type if each.capacity_type != "on-demand" else None,
            "availability-zone": each.zone,
            "availability-zone-id": each.zone_id,
            "subnet-id": each.subnet.id,
            "network-interface.subnet-id": each.subnet.id,
            "vpc-id": each.vpc_id,
            "image-id": each.image_id,
            "architecture": each.architecture,
            "private-dns-name": each.private_dns_name,
            "private-ip-address": each.private_ip,
            "client-token": each.client_token,
            "reservation-id": each.reservation_id,
            "capacity-reservation-id": each.reservation.id if each.reservation else None,
            "placement-group-name": each.group.name if each.group else None,
            "iam-instance-profile.arn": each.profile["Arn"] if each.profile else None,
        }
        if name in ("instance.group-id", "network-interface.group-id"):
            return [group["GroupId"] for group in each.security_groups]
        if name in told:
            return [] if told[name] is None else [told[name]]
        return tag_values(self.peer.tags_of(each.id), name)

    def _instance_told(self, each: Instance) -> dict[str, Any]:
        from .tell import instance as tell

        return tell(each, self.peer.instances.state_of(each), self.peer.tags_of(each.id))


def _state(name: str) -> dict[str, Any]:
    return {"Name": name, "Code": STATE_CODES[name]}


def _health(instance: Instance, part: str) -> dict[str, Any]:
    told = instance.status.get(part) or {"status": "ok"}
    ok = told["status"] == "ok"
    detail: dict[str, Any] = {"Name": "reachability", "Status": "passed" if ok else "failed"}
    if told.get("since"):
        detail["ImpairedSince"] = told["since"]
    return {"Status": told["status"], "Details": [detail]}
