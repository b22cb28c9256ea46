"""What moto lacks or takes long for: types, prices, images' parameters."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from karpenter_aws_peer.facts import lines


def test_all_instance_types_are_told_within_a_second_or_two(aws: Any) -> None:
    began = time.monotonic()
    filters = [
        {"Name": "supported-virtualization-type", "Values": ["hvm"]},
        {"Name": "processor-info.supported-architecture", "Values": ["x86_64", "arm64"]},
    ]
    pages = aws.client("ec2").get_paginator("describe_instance_types").paginate(Filters=filters)
    types = {each["InstanceType"] for page in pages for each in page["InstanceTypes"]}
    assert len(types) > 700 and {"m5.large", "m7g.large", "p4d.24xlarge"} <= types
    assert time.monotonic() - began < 5


def test_the_price_list_has_an_hourly_price(aws: Any) -> None:
    fields = {"regionCode": "us-west-2", "instanceType": "m5.large", "operatingSystem": "Linux", "tenancy": "Shared"}
    filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in fields.items()]
    (product,) = aws.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    (term,) = json.loads(product)["terms"]["OnDemand"].values()
    (rate,) = term["priceDimensions"].values()
    assert float(rate["pricePerUnit"]["USD"]) == 0.096


def test_spot_prices_differ_by_zone_and_are_below_on_demand(aws: Any) -> None:
    history = aws.client("ec2").describe_spot_price_history(InstanceTypes=["m5.large"])["SpotPriceHistory"]
    prices = {each["AvailabilityZone"]: float(each["SpotPrice"]) for each in history}
    assert len(set(prices.values())) == len(prices) >= 3
    assert all(0.02 < price < 0.06 for price in prices.values())


def test_parameters_name_images_that_exist(aws: Any) -> None:
    ssm, ec2 = aws.client("ssm"), aws.client("ec2")
    for name in (
        "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/recommended/image_id",
        "/aws/service/bottlerocket/aws-k8s-1.36/x86_64/latest/image_id",
        "/aws/service/ami-windows-latest/Windows_Server-2022-English-Core-EKS_Optimized-1.36/image_id",
    ):
        image = ssm.get_parameter(Name=name)["Parameter"]["Value"]
        assert ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"


def test_the_fixture_of_the_capacity_tests_is_what_moto_ships() -> None:
    fixture = Path(__file__).parents[3] / "crates/aws/tests/data/instance-types.tsv"
    told = [line for line in fixture.read_text().splitlines() if not line.startswith("#")]
    assert told == list(lines()), f"python -m karpenter_aws_peer facts, after the comment, makes {fixture} anew"
