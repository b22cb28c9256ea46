"""In which order a fleet tries its pools: pure, so that it can be read and tested by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .prices import PriceBook, spot_depth

#: From this depth on a spot pool counts as well stocked, and price decides between such pools.
WELL_STOCKED = 4

#: EC2 takes hyphens from the API's newer types and camel case from spot fleets' older ones.
ALIASES = {
    "lowestPrice": "lowest-price",
    "capacityOptimized": "capacity-optimized",
    "capacityOptimizedPrioritized": "capacity-optimized-prioritized",
    "priceCapacityOptimized": "price-capacity-optimized",
}
ON_DEMAND = ("lowest-price", "prioritized")
SPOT = ("lowest-price", "diversified", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized")


@dataclass(frozen=True)
class Candidate:
    """One override of a launch template, with everything a launch needs."""

    order: int
    instance_type: str
    zone: str
    subnet_id: str
    image_id: str
    priority: float | None = None
    #: The launch template's data and exact reference, and the override as the caller wrote it.
    data: dict[str, Any] = field(default_factory=dict, compare=False)
    template: dict[str, str] = field(default_factory=dict, compare=False)
    override: dict[str, Any] = field(default_factory=dict, compare=False)


def rank(candidates: list[Candidate], capacity_type: str, strategy: str, prices: PriceBook) -> list[Candidate]:
    """Best pool first."""

    def price(each: Candidate) -> float:
        known = prices.of(capacity_type, each.instance_type, each.zone)
        return float("inf") if known is None else known

    def depth(each: Candidate) -> int:
        return spot_depth(each.instance_type, each.zone)

    def priority(each: Candidate) -> float:
        return float("inf") if each.priority is None else each.priority

    keys: dict[str, Callable[[Candidate], tuple[float, ...]]] = {
        "lowest-price": lambda each: (price(each), each.order),
        "diversified": lambda each: (each.order,),
        "prioritized": lambda each: (priority(each), each.order),
        "capacity-optimized": lambda each: (-depth(each), each.order),
        # Capacity first, priorities on a best-effort basis: among pools that hold enough.
        "capacity-optimized-prioritized": lambda each: (depth(each) < WELL_STOCKED, priority(each), -depth(each), each.order),
        "price-capacity-optimized": lambda each: (depth(each) < WELL_STOCKED, price(each), -depth(each), each.order),
    }
    return sorted(candidates, key=keys[ALIASES.get(strategy, strategy)])
