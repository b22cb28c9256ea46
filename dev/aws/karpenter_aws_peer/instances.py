"""Instances: their state is a function of the clock, so nothing has to run in the background to move them on."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


@dataclass
class Timings:
    """Seconds everything takes; a test sets them with /_peer/timings."""

    pending: float = 0.5
    shutting_down: float = 0.5
    #: EC2 goes on describing a terminated instance for about an hour.
    terminated_visible: float = 3600.0
    #: DescribeInstances may not see a new instance at once.
    describe_lag: float = 0.0
    #: From running to a Node in the API, from there to Ready, and until a device plugin has told its devices.
    node_registration: float = 1.0
    node_ready: float = 1.0
    node_devices: float = 2.0


@dataclass
class Instance:
    id: str
    reservation_id: str
    instance_type: str
    image_id: str
    architecture: str
    platform: str | None
    zone: str
    zone_id: str
    subnet: Any
    vpc_id: str
    private_ip: str
    private_dns_name: str
    security_groups: list[dict[str, str]]
    profile: dict[str, str] | None
    capacity_type: str
    price: float | None
    user_data: str | None
    launched_at: float
    launch_index: int = 0
    fleet_id: str | None = None
    template: dict[str, str] | None = None
    client_token: str | None = None
    tenancy: str = "default"
    group: Any = None
    partition: int | None = None
    reservation: Any = None
    root_device: str = "/dev/xvda"
    block_devices: list[dict[str, Any]] = field(default_factory=list)
    network_interfaces: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    monitoring: bool = False
    terminated_at: float | None = None
    stopped_at: float | None = None
    state_reason: dict[str, str] | None = None
    #: Health as DescribeInstanceStatus tells it; a test may spoil it.
    status: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    released: bool = False

    def state(self, now: float, timings: Timings) -> str:
        if self.terminated_at is not None:
            return "terminated" if now >= self.terminated_at + timings.shutting_down else "shutting-down"
        if self.stopped_at is not None:
            return "stopped" if now >= self.stopped_at + timings.shutting_down else "stopping"
        return "running" if now >= self.launched_at + timings.pending else "pending"

    @property
    def running_since(self) -> float:
        return self.launched_at


class InstanceStore:
    def __init__(self, timings: Timings) -> None:
        self.timings = timings
        self._instances: dict[str, Instance] = {}
        self._serial = 0
        self._generation = 0

    def new_id(self, prefix: str) -> str:
        """Ids that repeat from run to run: a failing test can be read against an earlier one."""
        self._serial += 1
        text = f"{prefix}/{self._generation}/{self._serial}"
        return f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:17]}"

    def add(self, instance: Instance) -> None:
        self._instances[instance.id] = instance

    def get(self, instance_id: str) -> Instance | None:
        self._settle()
        return self._instances.get(instance_id)

    def all(self) -> list[Instance]:
        self._settle()
        return list(self._instances.values())

    def state_of(self, instance: Instance) -> str:
        return instance.state(time.time(), self.timings)

    def live(self) -> list[Instance]:
        return [each for each in self.all() if each.terminated_at is None]

    def terminate(self, instance: Instance, code: str = "Client.UserInitiatedShutdown", why: str | None = None) -> None:
        if instance.terminated_at is None:
            instance.terminated_at = time.time()
            instance.state_reason = {"Code": code, "Message": f"{code}: {why or 'User initiated shutdown'}"}

    def clear(self) -> None:
        self._instances.clear()
        self._serial = 0
        # A controller that outlives a reset must not find its old ids on new machines.
        self._generation += 1

    def _settle(self) -> None:
        """Gives back what terminated instances held and forgets those nobody would be told of any more."""
        now = time.time()
        for instance in list(self._instances.values()):
            if instance.terminated_at is None:
                continue
            gone_at = instance.terminated_at + self.timings.shutting_down
            if not instance.released and now >= gone_at:
                instance.released = True
                instance.subnet.del_subnet_ip(instance.private_ip)
                if instance.reservation is not None:
                    instance.reservation.release(instance.id)
            if now >= gone_at + self.timings.terminated_visible:
                del self._instances[instance.id]
