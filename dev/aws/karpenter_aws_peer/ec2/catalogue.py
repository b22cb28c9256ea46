"""DescribeInstanceTypes and DescribeInstanceTypeOfferings from moto's public figures, written once and kept."""

from __future__ import annotations

from functools import cache
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES, InstanceType

from ..errors import ec2_error
from ..xmlwire import Ec2Xml, Markup, items, output_shape
from .base import Action, Values


@cache
def _written() -> dict[str, Markup]:
    names = sorted(INSTANCE_TYPES)
    shape = output_shape("DescribeInstanceTypes").members["InstanceTypes"]
    return dict(zip(names, items(shape, [INSTANCE_TYPES[name] for name in names])))


def type_info(instance_type: str) -> dict[str, Any] | None:
    return INSTANCE_TYPES.get(instance_type)


@cache
def offered(region: str, location_type: str) -> list[dict[str, str]]:
    return sorted(
        INSTANCE_TYPE_OFFERINGS[location_type].get(region, []), key=lambda o: (o["InstanceType"], o["Location"])
    )


@cache
def zones_of(region: str) -> dict[str, frozenset[str]]:
    """Where each type is sold."""
    zones: dict[str, set[str]] = {}
    for offering in offered(region, "availability-zone"):
        zones.setdefault(offering["InstanceType"], set()).add(offering["Location"])
    return {name: frozenset(where) for name, where in zones.items()}


@cache
def _filter_values(name: str, filter_name: str) -> tuple[str, ...] | None:
    path = InstanceType._filter_attributes.get(filter_name)
    if path is None:
        return None
    found: list[Any] = [INSTANCE_TYPES[name]]
    for key in path:
        deeper: list[Any] = []
        for each in found:
            value = each.get(key) if isinstance(each, dict) else None
            deeper += value if isinstance(value, list) else [] if value is None else [value]
        found = deeper
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in found)


class CatalogueActions(Action):
    def describe_instance_types(self) -> ActionResult:
        self.refuse_if_dry_run()
        here = zones_of(self.peer.region)
        names = [name for name in _written() if name in here]
        asked = self.given().get("InstanceTypes")
        if asked:
            unknown = sorted(set(asked) - set(names))
            if unknown:
                raise ec2_error(
                    "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
                )
            names = [name for name in names if name in set(asked)]
        names = self.filtered(names, lambda name, key: _filter_values(name, key))
        page, token = self.page(names, default=100, most=100)
        written = _written()
        return Ec2Xml({"InstanceTypes": Markup("".join(written[name] for name in page)), "NextToken": token})

    def describe_instance_type_offerings(self) -> ActionResult:
        self.refuse_if_dry_run()

        def values(offering: dict[str, str], name: str) -> Values | None:
            return {"location": [offering["Location"]], "instance-type": [offering["InstanceType"]]}.get(name)

        location_type = self._get_param("LocationType") or "region"
        page, token = self.page(
            self.filtered(offered(self.peer.region, location_type), values), default=1000, most=1000
        )
        return Ec2Xml({"InstanceTypeOfferings": page, "NextToken": token})
