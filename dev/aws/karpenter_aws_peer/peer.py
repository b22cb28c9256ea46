"""Everything the peer knows beyond moto, in one object behind one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from .calls import Calls
from .faults import Faults
from .instances import InstanceStore, Timings
from .pools import Pools
from .prices import PriceBook

ACCOUNT = "123456789012"


@dataclass
class Cluster:
    """What DescribeCluster tells and what user data must name for a node to join."""

    name: str = "dev"
    endpoint: str = "https://127.0.0.1:6443"
    ca: str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
    version: str = "1.36"
    service_cidr: str = "10.100.0.0/16"
    kubeconfig: str | None = None


@dataclass
class Peer:
    region: str = "us-west-2"
    seed: str = "default"
    #: moto was not written for threads; neither need we be. EC2 answers in well under a millisecond here.
    lock: threading.RLock = field(default_factory=threading.RLock)
    timings: Timings = field(default_factory=Timings)
    pools: Pools = field(default_factory=Pools)
    prices: PriceBook = field(default_factory=PriceBook)
    faults: Faults = field(default_factory=Faults)
    calls: Calls = field(default_factory=Calls)
    cluster: Cluster = field(default_factory=Cluster)
    #: CreateFleet's client tokens: token → (fingerprint of the parameters, the answer).
    tokens: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    fleets: dict[str, dict[str, Any]] = field(default_factory=dict)
    reservations: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    shifts: list[dict[str, Any]] = field(default_factory=list)
    #: Whether a list begins with an empty page, as EC2's may.
    empty_pages: bool = False
    #: Scripts for joining nodes, newest last (see nodes/script.py).
    node_scripts: list[Any] = field(default_factory=list)
    #: What the node simulator reports of each instance: joined, refused and why.
    node_reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    instances: InstanceStore = field(init=False)

    def __post_init__(self) -> None:
        self.instances = InstanceStore(self.timings)

    @property
    def ec2(self) -> Any:
        from moto.ec2.models import ec2_backends

        return ec2_backends[ACCOUNT][self.region]

    def tags_of(self, resource_id: str) -> dict[str, str]:
        return self.ec2.tags.get(resource_id, {})

    def reset(self) -> None:
        """Back to the seeded start; the cluster's address stays, the control plane did not change."""
        from moto.backends import get_backend

        from .seed import plant

        self.faults.clear()
        with self.lock:
            self.instances.clear()
            self.pools, self.prices = Pools(), PriceBook()
            for kept in (self.tokens, self.fleets, self.reservations, self.groups, self.shifts):
                kept.clear()
            self.empty_pages = False
            self.node_scripts.clear()
            self.node_reports.clear()
            self.calls.clear()
            for name, value in vars(Timings()).items():
                setattr(self.timings, name, value)
            for service in ("ec2", "iam", "eks", "sqs", "ssm", "sts"):
                for account in get_backend(service).values():
                    for backend in account.values():
                        backend.reset()
            plant(self)
