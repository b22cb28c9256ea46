"""One peer for all tests, reset before each; callers speak to it through the ordinary SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

CONFIG = Config(region_name="us-west-2", retries={"total_max_attempts": 1}, read_timeout=10, connect_timeout=5)


class Aws:
    """The peer: its switches, and clients of the services."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def tell(self, what: str, **body: Any) -> dict[str, Any]:
        answer = requests.post(f"{self.endpoint}/_peer/{what}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def peer(self, what: str) -> Any:
        return requests.get(f"{self.endpoint}/_peer/{what}", timeout=10).json()

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.endpoint, config=CONFIG, aws_access_key_id="test", aws_secret_access_key="test"
        )


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    command = [sys.executable, "-m", "karpenter_aws_peer", "serve", "--exit-with-stdin"]
    folder = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield json.loads(process.stdout.readline())["endpoint"]
        process.stdin.close()
        assert process.wait(timeout=10) == 0, "it stops when its standard input does"


@pytest.fixture
def aws(served: str) -> Aws:
    aws = Aws(served)
    aws.tell("reset")
    return aws


@pytest.fixture
def fleet(aws: Aws) -> Callable[..., dict[str, Any]]:
    """Asks for one instance of any of these types in any zone, as the controller does."""
    ec2, ssm = aws.client("ec2"), aws.client("ssm")
    parameter = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/recommended/image_id"
    image = ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    ec2.create_launch_template(LaunchTemplateName="test", LaunchTemplateData={"ImageId": image})
    found = ec2.describe_subnets(Filters=[{"Name": "tag:karpenter.sh/discovery", "Values": ["dev"]}])["Subnets"]
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}

    def ask(*types: str, zones: str = "abc", spot: bool = False, strategy: str | None = None, **more: Any) -> dict[str, Any]:
        overrides = [
            {"InstanceType": each, "AvailabilityZone": zone, "SubnetId": subnets[zone]}
            for each in types
            for zone in (f"us-west-2{letter}" for letter in zones)
        ]
        options = {"AllocationStrategy": strategy or ("price-capacity-optimized" if spot else "lowest-price")}
        template = {"LaunchTemplateName": "test", "Version": "$Latest"}
        return ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": overrides}],
            TargetCapacitySpecification={
                "TotalTargetCapacity": 1,
                "DefaultTargetCapacityType": "spot" if spot else "on-demand",
            },
            **{"SpotOptions" if spot else "OnDemandOptions": options},
            **more,
        )

    return ask
