"""DescribeSpotPriceHistory: one price a pool, the same in every run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from moto.core.responses import ActionResult

from ..xmlwire import Ec2Xml
from .base import Action, Values
from .catalogue import type_info, zones_of

#: A spot price holds for hours; ours has held since this moment.
SINCE = datetime(2026, 1, 1, tzinfo=timezone.utc)
PRODUCT = "Linux/UNIX"


class SpotPriceActions(Action):
    def describe_spot_price_history(self) -> ActionResult:
        self.refuse_if_dry_run()
        given = self.given()
        asked = set(given.get("InstanceTypes") or [])
        products = given.get("ProductDescriptions")
        rows: list[dict[str, Any]] = []
        # Current EC2 regions are all VPC; both descriptions name the same prices.
        if not products or {PRODUCT, f"{PRODUCT} (Amazon VPC)"} & set(products):
            rows = [row for name in zones_of(self.peer.region) if not asked or name in asked for row in self._prices(name)]
        zone = given.get("AvailabilityZone")
        if zone:
            rows = [row for row in rows if row["AvailabilityZone"] == zone]

        def values(row: dict[str, Any], name: str) -> Values | None:
            keys = {
                "availability-zone": "AvailabilityZone",
                "instance-type": "InstanceType",
                "product-description": "ProductDescription",
                "spot-price": "SpotPrice",
                "timestamp": "Timestamp",
            }
            return [str(row[keys[name]])] if name in keys else None

        page, token = self.page(self.filtered(rows, values), default=1000, most=1000)
        # EC2 answers an empty token, not none, on the last page.
        return Ec2Xml({"SpotPriceHistory": page, "NextToken": token or ""})

    def _prices(self, instance_type: str) -> list[dict[str, Any]]:
        if "spot" not in (type_info(instance_type) or {}).get("SupportedUsageClasses", []):
            return []
        found = []
        for zone in sorted(zones_of(self.peer.region)[instance_type]):
            price = self.peer.prices.spot(instance_type, zone)
            if price is not None:
                found.append(
                    {
                        "AvailabilityZone": zone,
                        "InstanceType": instance_type,
                        "ProductDescription": PRODUCT,
                        "SpotPrice": f"{price:.6f}",
                        "Timestamp": SINCE,
                    }
                )
        return found
