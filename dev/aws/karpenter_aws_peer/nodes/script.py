"""What a test wants of joining nodes: late, never, not ready."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Script:
    #: Which instances: by id, by type, or by tags that must all be there; all of them when nothing is said.
    instance_id: str | None = None
    instance_type: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    #: Seconds from running to the Node, instead of the timings' own.
    registration_seconds: float | None = None
    never_joins: bool = False
    #: The Node, now and as long as this script stands, says it is not ready; a later script can end that.
    not_ready: bool | None = None
    #: Stays with node.cloudprovider.kubernetes.io/uninitialized, as without a cloud controller.
    uninitialized: bool | None = None
    #: The device plugin never comes up.
    no_devices: bool | None = None
    #: Memory the machine really has, as a fraction of what EC2 advertises.
    memory_fraction: float | None = None
    #: Labels and taints somebody else adds to the Node (a daemon, a user).
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    #: Conditions on the Node besides Ready: {"type", "status", "reason"}.
    conditions: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Script:
        unknown = set(given) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(
                f"unknown fields: {', '.join(sorted(unknown))}; there is {', '.join(each.name for each in fields(cls))}"
            )
        return cls(**given)

    def chooses(self, instance_id: str, instance_type: str, tags: dict[str, str]) -> bool:
        return (
            self.instance_id in (None, instance_id)
            and self.instance_type in (None, instance_type)
            and self.tags.items() <= tags.items()
        )


def combined(scripts: list[Script], instance_id: str, instance_type: str, tags: dict[str, str]) -> Script:
    """All scripts that choose this instance as one; where they disagree the newest wins."""
    result = Script()
    for script in scripts:
        if not script.chooses(instance_id, instance_type, tags):
            continue
        for name in ("registration_seconds", "not_ready", "uninitialized", "no_devices", "memory_fraction"):
            value = getattr(script, name)
            if value is not None:
                setattr(result, name, value)
        result.never_joins = script.never_joins
        result.labels = result.labels | script.labels
        result.taints = result.taints + script.taints
        result.conditions = result.conditions + script.conditions
    return result
