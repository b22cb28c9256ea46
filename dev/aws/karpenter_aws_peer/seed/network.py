"""A VPC with three private subnets the autoscaler may find, one public one it may not, and security groups."""

from __future__ import annotations

from ..peer import Peer

DISCOVERY = "karpenter.sh/discovery"
#: Zone letter → block, and how many of its addresses are free: the middle zone has the most.
PRIVATE = {"a": ("10.0.0.0/18", 8000), "b": ("10.0.64.0/18", 16000), "c": ("10.0.128.0/18", 4000)}
PUBLIC = ("a", "10.0.192.0/20")


def plant(peer: Peer) -> None:
    ec2, name = peer.ec2, peer.cluster.name
    vpc = ec2.create_vpc("10.0.0.0/16")
    vpc.add_tags({"Name": f"{name}-vpc"})
    for letter, (block, free) in PRIVATE.items():
        subnet = ec2.create_subnet(vpc.id, block, availability_zone=f"{peer.region}{letter}")
        subnet._available_ip_addresses = free
        subnet.add_tags(
            {DISCOVERY: name, "Name": f"{name}-private-{letter}", "kubernetes.io/role/internal-elb": "1"}
        )
    letter, block = PUBLIC
    public = ec2.create_subnet(vpc.id, block, availability_zone=f"{peer.region}{letter}")
    public.map_public_ip_on_launch = True
    public.add_tags({"Name": f"{name}-public-{letter}", "kubernetes.io/role/elb": "1"})
    for group_name in ("cluster", "nodes"):
        group = ec2.create_security_group(f"{name}-{group_name}", f"{group_name} of {name}", vpc_id=vpc.id)
        group.add_tags({DISCOVERY: name, "Name": f"{name}-{group_name}"})
    other = ec2.create_security_group(f"{name}-database", "not for nodes", vpc_id=vpc.id)
    other.add_tags({"Name": f"{name}-database"})
