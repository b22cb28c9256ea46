"""Faults on either side of the effect, and the clock of instances."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, ConnectionClosedError


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(aws: Any) -> int:
    return sum(each["state"] in ("pending", "running") for each in aws.peer("state")["instances"])


def test_an_error_is_given_as_often_as_asked_for(aws: Any, fleet: Any) -> None:
    aws.tell("fault", action="CreateFleet", kind="error", code="RequestLimitExceeded", count=2)
    for _ in range(2):
        with pytest.raises(ClientError, match="RequestLimitExceeded") as error:
            fleet("m5.large")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    fleet("m5.large")
    assert alive(aws) == 1


@pytest.mark.parametrize(("kind", "bought"), [("drop_before", 0), ("drop_after", 1)])
def test_a_connection_breaks_before_or_after_the_effect(aws: Any, fleet: Any, kind: str, bought: int) -> None:
    aws.tell("fault", action="CreateFleet", kind=kind)
    with pytest.raises(ConnectionClosedError):
        fleet("m5.large")
    assert alive(aws) == bought


@pytest.mark.parametrize(("kind", "bought"), [("hang_before", 0), ("hang_after", 1)])
def test_a_call_hangs_before_or_after_the_effect(aws: Any, fleet: Any, kind: str, bought: int) -> None:
    aws.tell("fault", action="CreateFleet", kind=kind)
    call = threading.Thread(target=fleet, args=("m5.large",))
    call.start()
    eventually(lambda: aws.peer("calls?action=CreateFleet")["count"] == 1, "the call arrived")
    eventually(lambda: alive(aws) == bought, f"{bought} bought")
    assert call.is_alive()
    aws.tell("fault", clear=True)
    call.join(timeout=10)
    assert not call.is_alive() and alive(aws) == 1, "released, it goes its way"


def test_a_fault_meets_only_what_it_is_for(aws: Any) -> None:
    ec2 = aws.client("ec2")
    aws.tell("fault", action="DescribeSubnets", kind="error", count=None, match={"Filter.1.Name": "vpc-id"})
    ec2.describe_subnets()
    with pytest.raises(ClientError):
        ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": ["vpc-1"]}])


@pytest.mark.parametrize("fault", [{"action": "X", "kind": "explode"}, {"kind": "error"}, {"action": "X", "kind": "error", "colour": 1}])
def test_a_fault_that_makes_no_sense_is_refused(aws: Any, fault: dict[str, Any]) -> None:
    answer = requests.post(f"{aws.endpoint}/_peer/fault", json=fault, timeout=10)
    assert answer.status_code == 400 and answer.json()["error"]


def test_an_instance_can_be_older_than_it_is(aws: Any, fleet: Any) -> None:
    fleet("m5.large")
    (before,) = aws.peer("state")["instances"]
    aws.tell("instances", event="age", seconds=3600)
    (after,) = aws.peer("state")["instances"]
    assert before["launched_at"] - after["launched_at"] == pytest.approx(3600)


def test_an_instance_lives_by_the_clock(aws: Any, fleet: Any) -> None:
    ec2 = aws.client("ec2")
    aws.tell("timings", pending=0.3, shutting_down=0.3, describe_lag=0.3)
    (instance_id,) = fleet("m5.large")["Instances"][0]["InstanceIds"]

    def state() -> str:
        found = ec2.describe_instances()["Reservations"]
        return found[0]["Instances"][0]["State"]["Name"] if found else "unseen"

    seen = [state()]

    def reaches(last: str) -> bool:
        now = state()
        if now != seen[-1]:
            seen.append(now)
        return now == last

    eventually(lambda: reaches("running"), "it runs")
    ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: reaches("terminated"), "it ends")
    assert seen[0] == "unseen" and seen[-3:] == ["running", "shutting-down", "terminated"], seen


def test_a_dry_run_meets_only_the_faults_that_are_meant_for_it(aws: Any) -> None:
    ec2 = aws.client("ec2")

    def code() -> str:
        with pytest.raises(ClientError) as error:
            ec2.describe_subnets(DryRun=True)
        return error.value.response["Error"]["Code"]

    aws.tell("fault", action="DescribeSubnets", kind="error", code="UnauthorizedOperation", count=None)
    assert code() == "DryRunOperation"
    aws.tell("fault", action="DescribeSubnets", kind="error", code="UnauthorizedOperation", match={"DryRun": "true"})
    assert code() == "UnauthorizedOperation"


def test_a_list_may_begin_with_an_empty_page(aws: Any, fleet: Any) -> None:
    fleet("m5.large")
    aws.tell("pages", empty=True)
    ec2 = aws.client("ec2")
    first = ec2.describe_instances()
    assert not first["Reservations"] and first["NextToken"]
    assert len(ec2.describe_instances(NextToken=first["NextToken"])["Reservations"]) == 1
