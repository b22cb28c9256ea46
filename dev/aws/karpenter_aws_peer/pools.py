"""Capacity pools: what a test has drained, and with which words EC2 then refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

INSUFFICIENT = "InsufficientInstanceCapacity"


@dataclass
class Rule:
    capacity_type: str
    instance_type: str
    zone: str
    #: How many instances the pool still yields before it refuses; a rule's count is shared by all pools it matches.
    remaining: int = 0
    code: str = INSUFFICIENT
    message: str | None = None

    def matches(self, capacity_type: str, instance_type: str, zone: str) -> bool:
        return (
            fnmatchcase(capacity_type, self.capacity_type)
            and fnmatchcase(instance_type, self.instance_type)
            and fnmatchcase(zone, self.zone)
        )


@dataclass
class Pools:
    rules: list[Rule] = field(default_factory=list)

    def rule_for(self, capacity_type: str, instance_type: str, zone: str) -> Rule | None:
        """The newest rule wins, so that a test can narrow what it said before."""
        for rule in reversed(self.rules):
            if rule.matches(capacity_type, instance_type, zone):
                return rule
        return None

    def refill(self, patterns: list[Rule] | None) -> int:
        """Forgets all rules, or those said with exactly these patterns."""
        before = len(self.rules)
        if patterns is None:
            self.rules.clear()
        else:
            gone = {(rule.capacity_type, rule.instance_type, rule.zone) for rule in patterns}
            self.rules = [r for r in self.rules if (r.capacity_type, r.instance_type, r.zone) not in gone]
        return before - len(self.rules)


def refusal_message(code: str, capacity_type: str, instance_type: str, zone: str) -> str:
    match code:
        case "InsufficientInstanceCapacity" if capacity_type == "spot":
            return "There is no Spot capacity available that matches your request."
        case "InsufficientInstanceCapacity":
            return (
                f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
                f"({zone}). Our system will be working on provisioning additional capacity."
            )
        case "MaxSpotInstanceCountExceeded":
            return "Max spot instance count exceeded"
        case "VcpuLimitExceeded":
            return "You have requested more vCPU capacity than your current vCPU limit allows for the instance bucket."
        case "UnfulfillableCapacity":
            return "Unable to fulfill capacity due to your request configuration. Please adjust your request and try again."
        case _:
            return f"{code} for {instance_type} ({capacity_type}) in {zone}"
