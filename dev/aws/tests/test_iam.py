"""Instance profiles by path, as the controller cleans them up."""

from __future__ import annotations

from typing import Any


def test_profiles_are_listed_by_path_and_in_pages(aws: Any) -> None:
    iam = aws.client("iam")
    for number in range(3):
        iam.create_instance_profile(InstanceProfileName=f"ours-{number}", Path="/karpenter/us-west-2/dev/a/")
    iam.create_instance_profile(InstanceProfileName="theirs", Path="/other/")
    page = iam.list_instance_profiles(PathPrefix="/karpenter/us-west-2/dev/", MaxItems=2)
    assert page["IsTruncated"] and len(page["InstanceProfiles"]) == 2
    rest = iam.list_instance_profiles(PathPrefix="/karpenter/us-west-2/dev/", Marker=page["Marker"])
    names = [each["InstanceProfileName"] for each in page["InstanceProfiles"] + rest["InstanceProfiles"]]
    assert names == ["ours-0", "ours-1", "ours-2"] and not rest["IsTruncated"]
