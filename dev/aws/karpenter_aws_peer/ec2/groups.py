"""Placement groups, which moto lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.core.responses import ActionResult

from ..errors import ec2_error, invalid_parameter
from ..peer import ACCOUNT
from ..xmlwire import Ec2Xml
from .base import Action, Values, tag_list, tag_values, tags_for

#: EC2 puts at most so many instances of a rack-level spread group into one zone.
SPREAD_LIMIT = 7


@dataclass
class PlacementGroup:
    id: str
    name: str
    strategy: str
    partitions: int | None
    spread_level: str | None
    state: str = "available"


class PlacementGroupActions(Action):
    def create_placement_group(self) -> ActionResult:
        given = self.given()
        name, strategy = given.get("GroupName"), given.get("Strategy", "cluster")
        if not name:
            raise ec2_error("MissingParameter", "The request must contain the parameter groupName")
        if name in self.peer.groups:
            raise ec2_error("InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists.")
        if strategy not in ("cluster", "partition", "spread"):
            raise invalid_parameter(f"Value ({strategy}) for parameter strategy is invalid")
        self.refuse_if_dry_run()
        group = PlacementGroup(
            id=self.peer.instances.new_id("pg"),
            name=name,
            strategy=strategy,
            partitions=int(given.get("PartitionCount") or 2) if strategy == "partition" else None,
            spread_level=(given.get("SpreadLevel") or "rack") if strategy == "spread" else None,
        )
        self.peer.groups[name] = group
        tags = tags_for(given.get("TagSpecifications"), "placement-group")
        if tags:
            self.ec2_backend.create_tags([group.id], tags)
        return Ec2Xml({"PlacementGroup": self._group_told(group)})

    def describe_placement_groups(self) -> ActionResult:
        self.refuse_if_dry_run()
        given = self.given()
        groups = list(self.peer.groups.values())
        for key, attribute in (("GroupNames", "name"), ("GroupIds", "id")):
            asked = given.get(key)
            if asked:
                unknown = sorted(set(asked) - {getattr(group, attribute) for group in groups})
                if unknown:
                    raise ec2_error("InvalidPlacementGroup.Unknown", f"The Placement Group '{unknown[0]}' is unknown.")
                groups = [group for group in groups if getattr(group, attribute) in asked]

        def values(group: PlacementGroup, name: str) -> Values | None:
            told = {
                "group-name": [group.name],
                "group-id": [group.id],
                "state": [group.state],
                "strategy": [group.strategy],
                "spread-level": [group.spread_level] if group.spread_level else [],
            }
            return told[name] if name in told else tag_values(self.peer.tags_of(group.id), name)

        return Ec2Xml({"PlacementGroups": [self._group_told(group) for group in self.filtered(groups, values)]})

    def delete_placement_group(self) -> ActionResult:
        name = self._get_param("GroupName")
        if name not in self.peer.groups:
            raise ec2_error("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        if any(each.group is self.peer.groups[name] for each in self.peer.instances.live()):
            raise ec2_error("InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use.")
        self.refuse_if_dry_run()
        del self.peer.groups[name]
        return Ec2Xml({})

    def _group_told(self, group: PlacementGroup) -> dict[str, Any]:
        return {
            "GroupName": group.name,
            "GroupId": group.id,
            "GroupArn": f"arn:aws:ec2:{self.peer.region}:{ACCOUNT}:placement-group/{group.name}",
            "State": group.state,
            "Strategy": group.strategy,
            "PartitionCount": group.partitions,
            "SpreadLevel": group.spread_level,
            "Tags": tag_list(self.peer.tags_of(group.id)),
        }
