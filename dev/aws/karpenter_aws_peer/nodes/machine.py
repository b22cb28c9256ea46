"""The machine under a node: what the kubelet finds there, and what it leaves to pods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

GIB, MIB = 1024**3, 1024**2
#: Firmware and kernel keep some of what EC2 advertises.
MEMORY_FRACTION = 0.93
#: A file system's own tables.
DISK_FRACTION = 0.9994

_SUFFIXES = {
    "": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip


def quantity(text: Any) -> Decimal:
    """Kubernetes' quantities, as far as a kubelet's settings use them."""
    word = str(text).strip()
    number = word.rstrip("kmMGTPi")
    suffix = word[len(number) :]
    if suffix not in _SUFFIXES or not number:
        raise ValueError(f"{word!r} is no quantity")
    return Decimal(number) * _SUFFIXES[suffix]


@dataclass
class Resources:
    capacity: dict[str, int]
    #: In the unit the Node shows: cpu in thousandths, the rest in bytes or pieces.
    allocatable: dict[str, int]

    def told(self) -> tuple[dict[str, str], dict[str, str]]:
        return _words(self.capacity), _words(self.allocatable)


def _words(values: dict[str, int]) -> dict[str, str]:
    told = {}
    for key, value in values.items():
        if key == "cpu":
            told[key] = f"{value}m" if value % 1000 else str(value // 1000)
        elif key == "memory":
            told[key] = f"{value // 1024}Ki"
        else:
            told[key] = str(value)
    return told


#: Which block device holds pods' ephemeral storage, and how large it is when nobody says.
_DISKS = {"AL2": ("/dev/xvda", 20), "AL2023": ("/dev/xvda", 20), "Bottlerocket": ("/dev/xvdb", 20), "Windows": ("/dev/sda1", 50)}


def _disk(info: dict[str, Any], family: str, raid0: bool, block_devices: list[dict[str, Any]]) -> int:
    storage = info.get("InstanceStorageInfo") or {}
    if raid0 and storage.get("NvmeSupport") in ("required", "supported"):
        return int(storage["TotalSizeInGB"] * 10**9 * DISK_FRACTION)
    device, size = _DISKS[family]
    for mapping in block_devices:
        if mapping.get("DeviceName") == device and (mapping.get("Ebs") or {}).get("VolumeSize"):
            size = int(mapping["Ebs"]["VolumeSize"])
    return int(size * GIB * DISK_FRACTION)


def eni_limited_pods(info: dict[str, Any]) -> int:
    network = info.get("NetworkInfo") or {}
    default_card = network.get("DefaultNetworkCardIndex") or 0
    cards = network.get("NetworkCards") or []
    interfaces = next(
        (card["MaximumNetworkInterfaces"] for card in cards if card["NetworkCardIndex"] == default_card),
        network.get("MaximumNetworkInterfaces", 0),
    )
    return interfaces * (network.get("Ipv4AddressesPerInterface", 1) - 1) + 2


def _pods(info: dict[str, Any], family: str, kubelet: dict[str, Any]) -> int:
    most = kubelet.get("maxPods")
    if most is None:
        most = 110 if family == "Windows" else eni_limited_pods(info)
    per_core = int(kubelet.get("podsPerCore") or 0)
    return min(int(most), per_core * info["VCpuInfo"]["DefaultVCpus"]) if per_core else int(most)


def _reserved_cpu(cores: int) -> int:
    """Thousandths: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    shares = [60, 10, 5, 5] + [Decimal("2.5")] * max(0, cores - 4)
    return int(sum(shares[:cores]))


def resources(
    info: dict[str, Any],
    family: str,
    kubelet: dict[str, Any],
    raid0: bool,
    block_devices: list[dict[str, Any]],
    memory_fraction: float = MEMORY_FRACTION,
) -> Resources:
    cores = info["VCpuInfo"]["DefaultVCpus"]
    pods = _pods(info, family, kubelet)
    capacity = {
        "cpu": cores * 1000,
        "memory": int(info["MemoryInfo"]["SizeInMiB"] * 1024 * memory_fraction) * 1024,
        "ephemeral-storage": _disk(info, family, raid0, block_devices),
        "pods": pods,
    }
    # The image's own reservations, which the user's go over one by one.
    counted = pods if family in ("Bottlerocket", "Windows") else eni_limited_pods(info)
    kube: dict[str, Any] = {
        "cpu": f"{_reserved_cpu(cores)}m",
        "memory": f"{255 + 11 * counted}Mi",
        "ephemeral-storage": "1Gi",
    } | (kubelet.get("kubeReserved") or {})
    system = kubelet.get("systemReserved") or {}
    eviction = {"memory.available": "100Mi", "nodefs.available": "10%"} | (kubelet.get("evictionHard") or {})
    allocatable = dict(capacity)
    for held in (kube, system):
        for key in ("cpu", "memory", "ephemeral-storage"):
            if key in held:
                allocatable[key] -= int(quantity(held[key]) * (1000 if key == "cpu" else 1))
    for signal, key in (("memory.available", "memory"), ("nodefs.available", "ephemeral-storage")):
        allocatable[key] -= _threshold(eviction[signal], capacity[key])
    return Resources(capacity, {key: max(0, value) for key, value in allocatable.items()})


def _threshold(text: Any, whole: int) -> int:
    word = str(text)
    if not word.endswith("%"):
        return int(quantity(word))
    share = Decimal(word[:-1])
    return 0 if share >= 100 else math.ceil(whole * share / 100)


def devices(info: dict[str, Any], interfaces: list[dict[str, Any]], windows: bool) -> dict[str, int]:
    """What device plugins and the VPC's controllers tell of, some time after the node is there."""
    found: dict[str, int] = {}
    for gpu in (info.get("GpuInfo") or {}).get("Gpus") or []:
        name = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "habana": "habana.ai/gaudi"}.get(gpu["Manufacturer"].lower())
        if name:
            found[name] = found.get(name, 0) + int(gpu["Count"])
    for device in (info.get("NeuronInfo") or {}).get("NeuronDevices") or []:
        found["aws.amazon.com/neuron"] = found.get("aws.amazon.com/neuron", 0) + device["Count"]
        cores = device["Count"] * (device.get("CoreInfo") or {}).get("Count", 1)
        found["aws.amazon.com/neuroncore"] = found.get("aws.amazon.com/neuroncore", 0) + cores
    for accelerator in (info.get("InferenceAcceleratorInfo") or {}).get("Accelerators") or []:
        if "aws.amazon.com/neuron" not in found and accelerator.get("Manufacturer", "").lower() == "aws":
            found["aws.amazon.com/neuron"] = accelerator["Count"]
    efa = sum(each.get("InterfaceType") in ("efa", "efa-only") for each in interfaces)
    if efa:
        found["vpc.amazonaws.com/efa"] = efa
    if windows:
        found["vpc.amazonaws.com/PrivateIPv4Address"] = (info.get("NetworkInfo") or {}).get("Ipv4AddressesPerInterface", 1) - 1
    return found
