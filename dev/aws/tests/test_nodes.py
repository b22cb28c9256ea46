"""The Node that an instance becomes, from its user data; and what a script does to it. Pure: no cluster is needed."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from karpenter_aws_peer.nodes.node import plan
from karpenter_aws_peer.nodes.script import Script, combined
from karpenter_aws_peer.nodes.userdata import Unreadable, read
from karpenter_aws_peer.peer import Cluster

CLUSTER = Cluster(endpoint="https://127.0.0.1:1", ca="Q0E=")
NODE_CONFIG = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {{ name: {name}, apiServerEndpoint: "https://127.0.0.1:1", certificateAuthority: Q0E=, cidr: 10.100.0.0/16 }}
  kubelet:
    config:
      maxPods: 20
      registerWithTaints: [{{ key: karpenter.sh/unregistered, effect: NoExecute }}]
    flags: [--node-labels="{labels}"]
--//--
"""


def encoded(name: str = "dev", labels: str = "karpenter.sh/nodepool=general") -> str:
    return base64.b64encode(NODE_CONFIG.format(name=name, labels=labels).encode()).decode()


def instance(user_data: str) -> Any:
    return SimpleNamespace(
        id="i-1", instance_type="m5.large", architecture="x86_64", zone="us-west-2a", zone_id="usw2-az1", user_data=user_data,
        private_ip="10.0.0.4", private_dns_name="ip-10-0-0-4", block_devices=[], network_interfaces=[],
    )  # fmt: skip


def test_a_kubelet_registers_what_its_configuration_says() -> None:
    made = plan(instance(encoded()), "al2023-1.36", CLUSTER, "us-west-2", Script())
    node = made.node
    assert node["spec"]["providerID"] == "aws:///us-west-2a/i-1"
    assert node["metadata"]["labels"]["karpenter.sh/nodepool"] == "general"
    taints = {taint["key"] for taint in node["spec"]["taints"]}
    assert {"karpenter.sh/unregistered", "node.kubernetes.io/not-ready"} <= taints
    capacity, allocatable = node["status"]["capacity"], node["status"]["allocatable"]
    assert (capacity["cpu"], capacity["pods"], allocatable["cpu"]) == ("2", "20", "1930m")
    assert "topology.kubernetes.io/zone" in made.cloud_labels, "the cloud controller's, not the kubelet's"


@pytest.mark.parametrize(
    ("user_data", "why"),
    [
        (encoded(name="other"), "cluster name"),
        (encoded(labels="kubernetes.io/mine=1"), "node-labels"),
        (base64.b64encode(b"hello").decode(), "no known family"),
    ],
)
def test_an_instance_with_bad_user_data_never_joins(user_data: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        plan(instance(user_data), "al2023-1.36", CLUSTER, "us-west-2", Script())


def test_a_node_config_without_a_cluster_is_refused_by_name() -> None:
    text = NODE_CONFIG.format(name="dev", labels="a=b").replace("cidr: 10.100.0.0/16", "")
    with pytest.raises(Unreadable, match="spec.cluster.cidr"):
        read(base64.b64encode(text.encode()).decode())


def test_scripts_add_up_and_the_newest_wins() -> None:
    scripts = [
        Script(never_joins=True),
        Script(instance_type="m5.large", never_joins=False, registration_seconds=3.0),
        Script(tags={"a": "b"}, not_ready=True),
    ]
    one = combined(scripts, "i-1", "m5.large", {})
    assert (one.never_joins, one.registration_seconds, one.not_ready) == (False, 3.0, None)
    assert combined(scripts, "i-1", "c5.large", {"a": "b"}).not_ready
    with pytest.raises(ValueError, match="unknown fields: colour"):
        Script.parse({"colour": "blue"})
