"""On-demand capacity reservations and capacity blocks, which moto lacks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.responses import ActionResult

from ..errors import ec2_error
from ..peer import ACCOUNT
from ..xmlwire import Ec2Xml
from .base import Action, Values, tag_list, tag_values, tags_for


@dataclass
class Reservation:
    id: str
    instance_type: str
    zone: str
    zone_id: str
    total: int
    #: "open" takes every launch that fits, "targeted" only those that name it.
    match: str
    kind: str = "default"
    tenancy: str = "default"
    owner: str = ACCOUNT
    end: float | None = None
    interruptible: bool = False
    cancelled: bool = False
    created: float = field(default_factory=time.time)
    users: set[str] = field(default_factory=set)

    @property
    def available(self) -> int:
        return max(0, self.total - len(self.users)) if self.state == "active" else 0

    @property
    def state(self) -> str:
        if self.cancelled:
            return "cancelled"
        return "expired" if self.end is not None and time.time() >= self.end else "active"

    def release(self, instance_id: str) -> None:
        self.users.discard(instance_id)


def _seconds(moment: Any) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else moment


class ReservationActions(Action):
    def create_capacity_reservation(self) -> ActionResult:
        given = self.given()
        for name in ("InstanceType", "InstanceCount"):
            if not given.get(name):
                raise ec2_error("MissingParameter", f"The request must contain the parameter {name}")
        zone = given.get("AvailabilityZone")
        if not zone:
            raise ec2_error("MissingParameter", "The request must contain the parameter AvailabilityZone")
        self.refuse_if_dry_run()
        reservation = self.new_reservation(
            instance_type=given["InstanceType"],
            zone=zone,
            total=int(given["InstanceCount"]),
            match=given.get("InstanceMatchCriteria", "open"),
            tenancy=given.get("Tenancy", "default"),
            end=_seconds(given.get("EndDate")),
        )
        tags = tags_for(given.get("TagSpecifications"), "capacity-reservation")
        if tags:
            self.ec2_backend.create_tags([reservation.id], tags)
        return Ec2Xml({"CapacityReservation": self._reservation_told(reservation)})

    def new_reservation(self, **fields: Any) -> Reservation:
        reservation = make_reservation(self.peer, **fields)
        return reservation

    def describe_capacity_reservations(self) -> ActionResult:
        self.refuse_if_dry_run()
        asked = self.given().get("CapacityReservationIds")
        found = list(self.peer.reservations.values())
        if asked:
            unknown = sorted(set(asked) - set(self.peer.reservations))
            if unknown:
                raise ec2_error(
                    "InvalidCapacityReservationId.NotFound", f"The capacity reservation ID '{unknown[0]}' is not found"
                )
            found = [each for each in found if each.id in asked]

        def values(each: Reservation, name: str) -> Values | None:
            told = {
                "instance-type": [each.instance_type],
                "owner-id": [each.owner],
                "instance-match-criteria": [each.match],
                "availability-zone": [each.zone],
                "availability-zone-id": [each.zone_id],
                "tenancy": [each.tenancy],
                "state": [each.state],
            }
            return told[name] if name in told else tag_values(self.peer.tags_of(each.id), name)

        page, token = self.page(self.filtered(found, values), default=1000, most=1000)
        return Ec2Xml({"CapacityReservations": [self._reservation_told(each) for each in page], "NextToken": token})

    def modify_capacity_reservation(self) -> ActionResult:
        reservation = self._reservation_named()
        given = self.given()
        self.refuse_if_dry_run()
        if given.get("InstanceCount") is not None:
            reservation.total = int(given["InstanceCount"])
        if given.get("EndDate") is not None:
            reservation.end = _seconds(given["EndDate"])
        return Ec2Xml({"Return": True})

    def cancel_capacity_reservation(self) -> ActionResult:
        reservation = self._reservation_named()
        self.refuse_if_dry_run()
        reservation.cancelled = True
        # What ran in it goes on running as plain on-demand.
        for instance in self.peer.instances.live():
            if instance.reservation is reservation:
                instance.reservation = None
        return Ec2Xml({"Return": True})

    def _reservation_named(self) -> Reservation:
        asked = self._get_param("CapacityReservationId")
        found = self.peer.reservations.get(asked)
        if found is None:
            raise ec2_error("InvalidCapacityReservationId.NotFound", f"The capacity reservation ID '{asked}' is not found")
        return found

    def _reservation_told(self, each: Reservation) -> dict[str, Any]:
        return {
            "CapacityReservationId": each.id,
            "OwnerId": each.owner,
            "CapacityReservationArn": f"arn:aws:ec2:{self.peer.region}:{each.owner}:capacity-reservation/{each.id}",
            "InstanceType": each.instance_type,
            "InstancePlatform": "Linux/UNIX",
            "AvailabilityZone": each.zone,
            "AvailabilityZoneId": each.zone_id,
            "Tenancy": each.tenancy,
            "TotalInstanceCount": each.total,
            "AvailableInstanceCount": each.available,
            "EbsOptimized": False,
            "EphemeralStorage": False,
            "State": each.state,
            "StartDate": each.created,
            "CreateDate": each.created,
            "EndDate": each.end,
            "EndDateType": "unlimited" if each.end is None else "limited",
            "InstanceMatchCriteria": each.match,
            "ReservationType": each.kind,
            "Interruptible": each.interruptible,
            "Tags": tag_list(self.peer.tags_of(each.id)),
        }


def make_reservation(peer: Any, **fields: Any) -> Reservation:
    """Also behind /_peer/reservations, which can make the kinds the API sells rather than creates."""
    zone = fields["zone"]
    zone_id = next((each.zone_id for each in peer.ec2.describe_availability_zones() if each.name == zone), "")
    reservation = Reservation(id=peer.instances.new_id("cr"), zone_id=zone_id, **fields)
    peer.reservations[reservation.id] = reservation
    return reservation
