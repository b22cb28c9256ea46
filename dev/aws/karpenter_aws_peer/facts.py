"""What moto knows of instance types, one a line: the fixture of the tests that work without a peer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HEAD = (
    "type",
    "architectures",
    "usage",
    "hypervisor",
    "metal",
    "vcpus",
    "mib",
    "maker",
    "ghz",
    "encrypted",
    "enclaves",
    "ebs_mbps",
    "storage_gb",
    "nvme",
    "ena",
    "cards",
    "addresses",
    "efa",
    "groups",
    "gpus",
    "neuron",
    "inference",
)


def lines() -> Iterable[str]:
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    yield "\t".join(HEAD)
    for name in sorted(INSTANCE_TYPES):
        info = INSTANCE_TYPES[name]
        if {"x86_64", "arm64"} & set(info["ProcessorInfo"]["SupportedArchitectures"]):
            yield "\t".join(_line(name, info))


def _line(name: str, info: dict[str, Any]) -> list[str]:
    network, processor = info["NetworkInfo"], info["ProcessorInfo"]
    storage, ebs = info.get("InstanceStorageInfo", {}), info["EbsInfo"]
    # "#" marks the default card, whose interfaces carry pods.
    cards = [
        f"{'#' if card['NetworkCardIndex'] == network['DefaultNetworkCardIndex'] else ''}{card['MaximumNetworkInterfaces']}"
        for card in sorted(network["NetworkCards"], key=lambda card: card["NetworkCardIndex"])
    ]
    gpus = [
        (gpu["Manufacturer"], gpu["Name"], gpu["Count"], gpu["MemoryInfo"]["SizeInMiB"])
        for gpu in info.get("GpuInfo", {}).get("Gpus", [])
    ]
    neuron = [
        (device["Name"], device["Count"], device["CoreInfo"]["Count"])
        for device in info.get("NeuronInfo", {}).get("NeuronDevices", [])
    ]
    inference = [
        (each["Manufacturer"], each["Name"], each["Count"])
        for each in info.get("InferenceAcceleratorInfo", {}).get("Accelerators", [])
    ]
    mbps = ebs.get("EbsOptimizedInfo", {}).get("MaximumBandwidthInMbps") if ebs["EbsOptimizedSupport"] == "default" else None
    return [
        name,
        ",".join(processor["SupportedArchitectures"]),
        ",".join(info["SupportedUsageClasses"]),
        info.get("Hypervisor", ""),
        _yes(info["BareMetal"]),
        str(info["VCpuInfo"]["DefaultVCpus"]),
        str(info["MemoryInfo"]["SizeInMiB"]),
        processor.get("Manufacturer", ""),
        str(processor.get("SustainedClockSpeedInGhz", "")),
        _yes(network["EncryptionInTransitSupported"]),
        _yes(info["NitroEnclavesSupport"] == "supported"),
        "" if mbps is None else str(mbps),
        str(storage.get("TotalSizeInGB", "")),
        storage.get("NvmeSupport", ""),
        network["EnaSupport"],
        ",".join(cards),
        str(network["Ipv4AddressesPerInterface"]),
        str(network.get("EfaInfo", {}).get("MaximumEfaInterfaces", "")),
        ",".join(info["PlacementGroupInfo"]["SupportedStrategies"]),
        _list(gpus),
        _list(neuron),
        _list(inference),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _list(rows: list[tuple[Any, ...]]) -> str:
    return ";".join("/".join(str(cell) for cell in row) for row in rows)
