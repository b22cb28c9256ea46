"""Prices, and how deep a spot pool is: figures that never change between runs."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


@cache
def _table() -> dict[str, float]:
    lines = files(__package__).joinpath("data/on-demand-prices.tsv").read_text().splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith(("#", "instance_type")))
    return {instance_type: float(usd) for instance_type, usd in rows}


def draw(*parts: str) -> float:
    """A number in [0, 1) that depends on the words alone."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class PriceBook:
    """On-demand prices from the public list, spot prices at 25–60 % of them; a test may set either."""

    def __init__(self) -> None:
        self._on_demand: dict[str, float] = dict(_table())
        self._spot: dict[tuple[str, str], float] = {}

    def types(self) -> list[str]:
        return sorted(self._on_demand)

    def on_demand(self, instance_type: str) -> float | None:
        return self._on_demand.get(instance_type)

    def spot(self, instance_type: str, zone: str) -> float | None:
        told = self._spot.get((instance_type, zone))
        if told is not None:
            return told
        full = self._on_demand.get(instance_type)
        return None if full is None else round(full * (0.25 + 0.35 * draw("spot", instance_type, zone)), 6)

    def set_on_demand(self, instance_type: str, usd: float) -> None:
        self._on_demand[instance_type] = usd

    def set_spot(self, instance_type: str, zone: str, usd: float) -> None:
        self._spot[instance_type, zone] = usd

    def of(self, capacity_type: str, instance_type: str, zone: str) -> float | None:
        return self.spot(instance_type, zone) if capacity_type == "spot" else self.on_demand(instance_type)


def spot_depth(instance_type: str, zone: str) -> int:
    """How many machines a spot pool seems to hold, 1 (shallow) to 10 (deep)."""
    return 1 + int(10 * draw("depth", instance_type, zone))
