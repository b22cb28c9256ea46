"""CreateFleet, of type instant: allocation strategies, drained pools, client tokens."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from moto.core.responses import ActionResult

from ..errors import ec2_error, invalid_parameter
from ..launch import Launcher, Order
from ..strategy import ALIASES, ON_DEMAND, SPOT, Candidate, rank
from ..xmlwire import Ec2Xml
from .base import Action, tag_list, tags_for
from .templates import resolve

ECHOED = ("InstanceType", "SubnetId", "AvailabilityZone", "ImageId", "Priority", "WeightedCapacity", "MaxPrice", "Placement")


class FleetActions(Action):
    def create_fleet(self) -> ActionResult:
        given = self.given()
        token = given.pop("ClientToken", None)
        dry_run = given.pop("DryRun", None)
        fingerprint = hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()
        if token and not dry_run and token in self.peer.tokens:
            known, answer = self.peer.tokens[token]
            if known != fingerprint:
                raise ec2_error(
                    "IdempotentParameterMismatch",
                    f"The client token {token} was used before with other parameters than those of this request.",
                )
            return Ec2Xml(answer)

        if given.get("Type", "maintain") != "instant":
            raise ec2_error("InvalidParameterValue", "Only fleets of type instant are known here")
        capacity_type, strategy, wanted = self._aim(given)
        candidates = self._candidates(given.get("LaunchTemplateConfigs") or [])
        self.refuse_if_dry_run()

        fleet_id = self._fleet_id()
        specifications = given.get("TagSpecifications")
        order = Order(
            capacity_type=capacity_type,
            tags=tags_for(specifications, "instance"),
            volume_tags=tags_for(specifications, "volume"),
            fleet_id=fleet_id,
            client_token=token,
        )
        fleet_tags = tags_for(specifications, "fleet")
        if fleet_tags:
            self.ec2_backend.create_tags([fleet_id], fleet_tags)
        answer = self._fill(rank(candidates, capacity_type, strategy, self.peer.prices), order, wanted)
        answer["FleetId"] = fleet_id
        self.peer.fleets[fleet_id] = {"request": given, "answer": answer, "context": given.get("Context")}
        if token:
            self.peer.tokens[token] = (fingerprint, answer)
        return Ec2Xml(answer)

    def describe_fleets(self) -> ActionResult:
        self.refuse_if_dry_run()
        asked = self.given().get("FleetIds")
        return Ec2Xml(
            {
                "Fleets": [
                    {
                        "FleetId": fleet_id,
                        "FleetState": "active",
                        "Type": "instant",
                        "Context": fleet["context"],
                        "Errors": fleet["answer"]["Errors"],
                        "Instances": fleet["answer"]["Instances"],
                        "Tags": tag_list(self.peer.tags_of(fleet_id)),
                    }
                    for fleet_id, fleet in self.peer.fleets.items()
                    if not asked or fleet_id in asked
                ]
            }
        )

    def _fleet_id(self) -> str:
        long = self.peer.instances.new_id("fleet").removeprefix("fleet-")
        return f"fleet-{long[:8]}-{long[8:12]}-{long[12:16]}-{long[:4]}-{long[4:16]}"

    @staticmethod
    def _aim(given: dict[str, Any]) -> tuple[str, str, int]:
        target = given.get("TargetCapacitySpecification") or {}
        if target.get("TotalTargetCapacity") is None:
            raise ec2_error("MissingParameter", "The request must contain the parameter TotalTargetCapacity")
        capacity_type = target.get("DefaultTargetCapacityType") or "on-demand"
        # An instant fleet may split its target; one that does not goes all to the default type.
        if capacity_type == "spot":
            options, known, default = given.get("SpotOptions") or {}, SPOT, "lowest-price"
        else:
            options, known, default = given.get("OnDemandOptions") or {}, ON_DEMAND, "lowest-price"
        strategy = options.get("AllocationStrategy") or default
        strategy = ALIASES.get(strategy, strategy)
        if strategy not in known:
            raise invalid_parameter(f"Invalid allocation strategy '{strategy}' for {capacity_type}: expected {', '.join(known)}")
        return capacity_type, strategy, int(target["TotalTargetCapacity"])

    def _candidates(self, configs: list[dict[str, Any]]) -> list[Candidate]:
        if not configs:
            raise ec2_error("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
        found: list[Candidate] = []
        for config in configs:
            data, reference = resolve(self.ec2_backend, config.get("LaunchTemplateSpecification") or {})
            for override in config.get("Overrides") or [{}]:
                if "InstanceRequirements" in override:
                    raise invalid_parameter("InstanceRequirements are not known here: name instance types")
                found.append(self._candidate(len(found), data, reference, override))
        return found

    def _candidate(
        self, order: int, data: dict[str, Any], reference: dict[str, str], override: dict[str, Any]
    ) -> Candidate:
        instance_type = override.get("InstanceType") or data.get("InstanceType")
        image_id = override.get("ImageId") or data.get("ImageId")
        interfaces = data.get("NetworkInterfaces") or []
        subnet_id = override.get("SubnetId") or next((i["SubnetId"] for i in interfaces if i.get("SubnetId")), None)
        zone = override.get("AvailabilityZone")
        if not instance_type or not image_id:
            raise ec2_error("InvalidFleetConfiguration", "Each override or its launch template needs an instance type and an image")
        if subnet_id:
            # Raises EC2's error for an unknown subnet.
            subnet = self.ec2_backend.get_subnet(subnet_id)
            if zone and zone != subnet.availability_zone:
                raise ec2_error(
                    "InvalidFleetConfiguration", f"The subnet {subnet_id} is in {subnet.availability_zone}, not in {zone}"
                )
            zone = subnet.availability_zone
        else:
            subnet = self._default_subnet(zone)
            subnet_id, zone = subnet.id, subnet.availability_zone
        told = {key: override[key] for key in ECHOED if key in override}
        return Candidate(
            order=order,
            instance_type=instance_type,
            zone=zone,
            subnet_id=subnet_id,
            image_id=image_id,
            priority=float(override["Priority"]) if override.get("Priority") is not None else None,
            data=data,
            template=reference,
            override={**told, "InstanceType": instance_type, "AvailabilityZone": zone},
        )

    def _default_subnet(self, zone: str | None) -> Any:
        for subnet in self.ec2_backend.describe_subnets():
            if subnet.default_for_az and zone in (None, subnet.availability_zone):
                return subnet
        raise ec2_error("MissingInput", f"No default subnet for availability zone: '{zone}'.")

    def _fill(self, ranked: list[Candidate], order: Order, wanted: int) -> dict[str, Any]:
        launcher = Launcher(self.peer)
        filled: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        lifecycle = "spot" if order.capacity_type == "spot" else "on-demand"
        for each in ranked:
            if wanted <= 0:
                break
            instances, refusal = launcher.launch(each, order, wanted)
            reference = {key: each.template[key] for key in ("LaunchTemplateId", "Version")}
            pool = {"LaunchTemplateSpecification": reference, "Overrides": each.override}
            if instances:
                wanted -= len(instances)
                filled.append(
                    {
                        "LaunchTemplateAndOverrides": pool,
                        "Lifecycle": lifecycle,
                        "InstanceIds": [instance.id for instance in instances],
                        "InstanceType": each.instance_type,
                        "Platform": instances[0].platform,
                    }
                )
            if refusal is not None:
                errors.append(
                    {
                        "LaunchTemplateAndOverrides": pool,
                        "Lifecycle": lifecycle,
                        "ErrorCode": refusal.code,
                        "ErrorMessage": refusal.message,
                    }
                )
        return {"Errors": errors, "Instances": filled}
