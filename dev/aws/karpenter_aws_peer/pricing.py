"""The price list service, which moto lacks: GetProducts for EC2."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .peer import Peer
from .prices import PriceBook

#: The price list's fixed words for "on demand" and "a dollar price by the hour".
TERM, RATE = "JRTCKXETXF", "6YS6EN2CT7"
PAGE = 100


def get_products(peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    if request.get("ServiceCode") != "AmazonEC2":
        return {"FormatVersion": "aws_v1", "PriceList": []}
    filters = [(each["Field"], each["Value"]) for each in request.get("Filters") or []]
    # The list is the same in every region here, so the caller's region is each product's.
    region = dict(filters).get("regionCode", peer.region)
    products = [
        product
        for product in (_product(peer.prices, name, region) for name in peer.prices.types())
        if all(_matches(product, field, value) for field, value in filters)
    ]
    start = int(str(request.get("NextToken") or "page-0").removeprefix("page-"))
    end = start + min(int(request.get("MaxResults") or PAGE), PAGE)
    answer: dict[str, Any] = {
        "FormatVersion": "aws_v1",
        "PriceList": [json.dumps(each, separators=(",", ":")) for each in products[start:end]],
    }
    if end < len(products):
        answer["NextToken"] = f"page-{end}"
    return answer


def _matches(product: dict[str, Any], field: str, value: str) -> bool:
    described = product["product"]
    if field == "productFamily":
        return described["productFamily"] == value
    if field in ("serviceCode", "servicecode"):
        return value == "AmazonEC2"
    return described["attributes"].get(field) == value


def _product(prices: PriceBook, instance_type: str, region: str) -> dict[str, Any]:
    metal = ".metal" in instance_type
    sku = hashlib.sha256(f"{region}/{instance_type}".encode()).hexdigest()[:16].upper()
    term, rate = f"{sku}.{TERM}", f"{sku}.{TERM}.{RATE}"
    return {
        "product": {
            "productFamily": "Compute Instance (bare metal)" if metal else "Compute Instance",
            "attributes": {
                "servicecode": "AmazonEC2",
                "instanceType": instance_type,
                "regionCode": region,
                "tenancy": "Dedicated" if metal else "Shared",
                "operatingSystem": "Linux",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
                "licenseModel": "No License required",
            },
            "sku": sku,
        },
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {
                term: {
                    "sku": sku,
                    "offerTermCode": TERM,
                    "effectiveDate": "2026-01-01T00:00:00Z",
                    "termAttributes": {},
                    "priceDimensions": {
                        rate: {
                            "rateCode": rate,
                            "unit": "Hrs",
                            "beginRange": "0",
                            "endRange": "Inf",
                            "appliesTo": [],
                            "pricePerUnit": {"USD": f"{prices.on_demand(instance_type):.10f}"},
                        }
                    },
                }
            }
        },
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    }
