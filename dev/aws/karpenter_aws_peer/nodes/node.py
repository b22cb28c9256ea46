"""The Node a kubelet registers and what the cloud controller then adds: pure, from the instance and its user data."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..ec2.catalogue import type_info
from ..instances import Instance
from ..peer import Cluster
from .flags import refused_labels
from .machine import MEMORY_FRACTION, Resources, devices, resources
from .script import Script
from .userdata import Boot, Unreadable, read

FAKE = "kwok.x-k8s.io/node"
NOT_READY = "dev.karpenter-rs.dev/not-ready"
UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
NOT_READY_TAINT = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
WINDOWS_BUILDS = {"2019": "10.0.17763", "2022": "10.0.20348", "2025": "10.0.26100"}


@dataclass
class Plan:
    """Everything about a node that is known before it registers."""

    node: dict[str, Any]
    #: What the cloud controller adds when it takes the uninitialized taint away.
    cloud_labels: dict[str, str]
    resources: Resources
    devices: dict[str, int]

    @property
    def name(self) -> str:
        return self.node["metadata"]["name"]


def check_cluster(boot: Boot, cluster: Cluster) -> None:
    """An instance that was told of another cluster joins that one, not ours."""
    for what, told, ours in (
        ("cluster name", boot.cluster_name, cluster.name),
        ("endpoint", boot.endpoint, cluster.endpoint),
        ("certificate authority", boot.ca, cluster.ca),
    ):
        # AL2 and Windows look up at EKS what their user data leaves out.
        if told is not None and str(told).rstrip("/") != ours.rstrip("/"):
            raise Unreadable(f"the user data's {what} is {_short(told)}, the cluster's is {_short(ours)}")
    refused = refused_labels(boot.labels)
    if refused:
        raise Unreadable(f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: {refused}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}")


def plan(instance: Instance, image_name: str, cluster: Cluster, region: str, script: Script) -> Plan:
    boot = read(instance.user_data)
    check_cluster(boot, cluster)
    info = type_info(instance.instance_type)
    if info is None:
        raise Unreadable(f"no facts about {instance.instance_type}")
    windows = boot.family == "Windows"
    try:
        found = resources(
            info, boot.family, boot.kubelet, boot.raid0, instance.block_devices, script.memory_fraction or MEMORY_FRACTION
        )
    except ValueError as error:
        raise Unreadable(f"the kubelet refuses its configuration: {error}") from error
    arch = "arm64" if instance.architecture == "arm64" else "amd64"
    system = "windows" if windows else "linux"
    name = instance.private_dns_name
    labels = boot.labels | {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": arch,
        "kubernetes.io/os": system,
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": system,
    }
    if windows:
        year = next((year for year in WINDOWS_BUILDS if year in image_name), "2022")
        labels["node.kubernetes.io/windows-build"] = WINDOWS_BUILDS[year]
    capacity, allocatable = found.told()
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels | script.labels,
            "annotations": {
                FAKE: "fake",
                NOT_READY: "true",
                "node.alpha.kubernetes.io/ttl": "0",
                # The control plane attaches volumes, not the kubelet.
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {
            "providerID": f"aws:///{instance.zone}/{instance.id}",
            "taints": _distinct([*boot.taints, *script.taints, UNINITIALIZED, NOT_READY_TAINT]),
        },
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": instance.private_ip},
                {"type": "InternalDNS", "address": name},
                {"type": "Hostname", "address": name},
            ],
            "conditions": conditions(False),
            "nodeInfo": _node_info(instance, image_name, cluster, boot, arch, system),
        },
    }
    cloud_labels = {
        "node.kubernetes.io/instance-type": instance.instance_type,
        "beta.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/zone": instance.zone,
        "topology.kubernetes.io/region": region,
        "failure-domain.beta.kubernetes.io/zone": instance.zone,
        "failure-domain.beta.kubernetes.io/region": region,
        "topology.k8s.aws/zone-id": instance.zone_id,
    }
    return Plan(node, cloud_labels, found, devices(info, instance.network_interfaces, windows))


def _distinct(taints: list[dict[str, str]]) -> list[dict[str, str]]:
    """One taint a key and effect: the API refuses the second."""
    return list({(taint["key"], taint["effect"]): taint for taint in taints}.values())


def conditions(ready: bool, now: datetime | None = None) -> list[dict[str, str]]:
    moment = (now or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }

    told = [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ]
    if ready:
        told.append(condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    else:
        told.append(condition("Ready", "False", "KubeletNotReady", "container runtime network not ready"))
    return told


def _node_info(
    instance: Instance, image_name: str, cluster: Cluster, boot: Boot, arch: str, system: str
) -> dict[str, str]:
    # The image knows its Kubernetes; a custom one is taken for the cluster's.
    found = re.search(r"(?<![\d.])1\.[23]\d(?![\d.])", image_name)
    version = f"v{found.group() if found else cluster.version}.3-eks-a0b1c2d"
    machine = hashlib.sha256(instance.id.encode()).hexdigest()[:32]
    described = {
        "AL2": ("Amazon Linux 2", "5.10.245-243.979.amzn2"),
        "AL2023": ("Amazon Linux 2023.9.20260105", "6.12.58-82.121.amzn2023"),
        "Bottlerocket": ("Bottlerocket OS 1.56.0 (aws-k8s)", "6.12.58"),
        "Windows": ("Windows Server Datacenter", "10.0.20348.4405"),
    }
    image, kernel = described[boot.family]
    return {
        "machineID": machine,
        "systemUUID": str(uuid.UUID(machine)),
        "bootID": str(uuid.UUID(machine[::-1])),
        "kernelVersion": f"{kernel}.{'aarch64' if arch == 'arm64' else 'x86_64'}" if system == "linux" else kernel,
        "osImage": image,
        "containerRuntimeVersion": "containerd://2.1.5",
        "kubeletVersion": version,
        "kubeProxyVersion": version,
        "operatingSystem": system,
        "architecture": arch,
    }
