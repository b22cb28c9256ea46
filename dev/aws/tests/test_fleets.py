"""CreateFleet: which pool it takes, what it refuses, and what a client token guarantees."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError


def chosen(answer: dict[str, Any]) -> tuple[str, str]:
    (one,) = answer["Instances"]
    return one["InstanceType"], one["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"]


def ids(answer: dict[str, Any]) -> list[str]:
    return [each for one in answer["Instances"] for each in one["InstanceIds"]]


def test_on_demand_takes_the_lowest_price(fleet: Any) -> None:
    assert chosen(fleet("m5.xlarge", "m5.large", "m5a.large"))[0] == "m5a.large"


def test_spot_takes_the_cheapest_of_the_well_stocked_pools(aws: Any, fleet: Any) -> None:
    from karpenter_aws_peer.prices import spot_depth
    from karpenter_aws_peer.strategy import WELL_STOCKED

    types = ("m5.large", "m5a.large", "c5.large", "r5.large")
    pools = [(each, f"us-west-2{letter}") for each in types for letter in "abc"]
    shallow = min(pools, key=lambda pool: spot_depth(*pool))
    assert spot_depth(*shallow) < WELL_STOCKED, "the seed has a shallow pool among these"
    aws.tell("prices", spot=[{"instance_type": shallow[0], "zone": shallow[1], "usd": 0.0001}])
    deep = chosen(fleet(*types, spot=True))
    assert deep != shallow and spot_depth(*deep) >= WELL_STOCKED
    assert chosen(fleet(*types, spot=True, strategy="lowest-price")) == shallow


def test_a_drained_pool_is_told_and_passed_over(aws: Any, fleet: Any) -> None:
    aws.tell("drain", pools=[{"instance_type": "m5a.large", "zone": "us-west-2?"}])
    answer = fleet("m5a.large", "m5.large", zones="ab")
    assert chosen(answer)[0] == "m5.large"
    refused = [(e["ErrorCode"], e["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"]) for e in answer["Errors"]]
    assert refused == [("InsufficientInstanceCapacity", "m5a.large")] * 2
    aws.tell("refill")
    assert chosen(fleet("m5a.large", "m5.large"))[0] == "m5a.large"


def test_a_pool_yields_what_a_rule_leaves_it(aws: Any, fleet: Any) -> None:
    aws.tell("drain", pools=[{"instance_type": "m5.large", "remaining": 1, "code": "UnfulfillableCapacity"}])
    assert len(ids(fleet("m5.large"))) == 1
    second = fleet("m5.large", zones="a")
    assert ids(second) == [] and second["Errors"][0]["ErrorCode"] == "UnfulfillableCapacity"


def test_a_token_buys_once(aws: Any, fleet: Any) -> None:
    first = fleet("m5.large", ClientToken="one")
    assert ids(fleet("m5.large", ClientToken="one")) == ids(first)
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        fleet("m5.xlarge", ClientToken="one")
    assert len(aws.peer("state")["instances"]) == 1


def test_a_token_repeats_a_refusal_as_well(aws: Any, fleet: Any) -> None:
    aws.tell("drain", pools=[{"instance_type": "*"}])
    fleet("m5.large", ClientToken="one")
    aws.tell("refill")
    assert ids(fleet("m5.large", ClientToken="one")) == []
    assert len(ids(fleet("m5.large", ClientToken="two"))) == 1


def test_two_calls_with_one_token_at_the_same_time_buy_once(aws: Any, fleet: Any) -> None:
    aws.tell("fault", action="CreateFleet", kind="delay_before", seconds=0.5, count=2)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: ids(fleet("m5.large", ClientToken="one")), range(2)))
    assert answers[0] == answers[1]
    assert len(aws.peer("state")["instances"]) == 1
