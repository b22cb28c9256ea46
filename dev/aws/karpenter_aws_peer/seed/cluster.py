"""The EKS cluster as DescribeCluster tells it, the nodes' role, and the interruption queue."""

from __future__ import annotations

import json

from ..peer import ACCOUNT, Peer

_EC2_MAY_ASSUME = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def plant(peer: Peer) -> None:
    from moto.eks.models import eks_backends
    from moto.iam.models import iam_backends
    from moto.sqs.models import sqs_backends

    name = peer.cluster.name
    iam = iam_backends[ACCOUNT]["aws"]
    for role in (f"KarpenterNodeRole-{name}", f"OtherNodeRole-{name}"):
        iam.create_role(
            role_name=role,
            assume_role_policy_document=_EC2_MAY_ASSUME,
            path="/",
            permissions_boundary=None,
            description="nodes",
            tags=[],
            max_session_duration="3600",
        )
    eks_backends[ACCOUNT][peer.region].create_cluster(
        name=name,
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/cluster-{name}",
        resources_vpc_config={"subnetIds": [], "securityGroupIds": []},
        version=peer.cluster.version,
    )
    tell_eks(peer)
    sqs_backends[ACCOUNT][peer.region].create_queue(f"karpenter-{name}", {})


def tell_eks(peer: Peer) -> None:
    """Makes DescribeCluster say what the peer knows of the cluster; its name may have changed too."""
    from moto.eks.models import eks_backends

    clusters = eks_backends[ACCOUNT][peer.region].clusters
    if not clusters:
        return
    told = peer.cluster
    name, cluster = next(iter(clusters.items()))
    if name != told.name:
        clusters[told.name] = clusters.pop(name)
        cluster.name = told.name
        cluster.arn = cluster.arn.rpartition("/")[0] + "/" + told.name
    cluster.endpoint = told.endpoint
    cluster.certificate_authority = {"data": told.ca}
    cluster.version = told.version
    cluster.kubernetes_network_config = {"serviceIpv4Cidr": told.service_cidr, "ipFamily": "ipv4"}
