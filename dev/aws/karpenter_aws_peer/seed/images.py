"""EKS's images and the public parameters that name them, for every version of Kubernetes that EKS runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..peer import ACCOUNT, Peer

KUBERNETES = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
#: Older first, so that "newest" and a pinned alias differ.
AL_RELEASES = ("v20260101", "v20260801")
BOTTLEROCKET_RELEASES = (("1.50.0", "b1b3bd4f"), ("1.56.0", "5f2a7c31"))
WINDOWS_RELEASES = ("2026.01.13", "2026.08.11")
AMAZON_EKS, AMAZON_BOTTLEROCKET, AMAZON_WINDOWS = "602401143452", "092701018921", "801119661308"
OLD, NEW = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 8, 1, tzinfo=timezone.utc)
#: EKS deprecates an image two years after its release; the images of the oldest Kubernetes are past that here.
DEPRECATED_KUBERNETES = "1.29"
DEPRECATED_SINCE = datetime(2026, 6, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Image:
    name: str
    architecture: str
    owner: str
    created: datetime
    kubernetes: str
    #: The parameters that name it, newest release first to claim the moving ones.
    parameters: tuple[str, ...]
    platform: str | None = None
    root_device: str = "/dev/xvda"

    @property
    def id(self) -> str:
        # The same id in every run, so that a manifest may name it.
        return "ami-" + hashlib.sha256(self.name.encode()).hexdigest()[:17]


def _created(release: int, kubernetes: str) -> datetime:
    return (OLD, NEW)[release] + timedelta(hours=KUBERNETES.index(kubernetes))


def _al2023(kubernetes: str) -> Iterator[Image]:
    base = f"/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2023"
    kinds = (("x86_64", "standard"), ("arm64", "standard"), ("x86_64", "nvidia"), ("arm64", "nvidia"), ("x86_64", "neuron"))
    for architecture, variant in kinds:
        for index, release in enumerate(AL_RELEASES):
            name = f"amazon-eks-node-al2023-{architecture}-{variant}-{kubernetes}-{release}"
            stem = f"{base}/{architecture}/{variant}"
            yield Image(name, architecture, AMAZON_EKS, _created(index, kubernetes), kubernetes, _both(stem, "recommended", name, index))


def _al2(kubernetes: str) -> Iterator[Image]:
    if KUBERNETES.index(kubernetes) > KUBERNETES.index("1.32"):
        return  # EKS released no AL2 image after 1.32.
    for suffix, infix, architecture in (("", "", "x86_64"), ("-arm64", "-arm64", "arm64"), ("-gpu", "-gpu", "x86_64")):
        for index, release in enumerate(AL_RELEASES):
            name = f"amazon-eks{infix}-node-{kubernetes}-{release}"
            stem = f"/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2{suffix}"
            yield Image(name, architecture, AMAZON_EKS, _created(index, kubernetes), kubernetes, _both(stem, "recommended", name, index))


def _bottlerocket(kubernetes: str) -> Iterator[Image]:
    for variant in ("", "-nvidia"):
        for architecture in ("x86_64", "arm64"):
            for index, (version, commit) in enumerate(BOTTLEROCKET_RELEASES):
                name = f"bottlerocket-aws-k8s-{kubernetes}{variant}-{'aarch64' if architecture == 'arm64' else architecture}-v{version}-{commit}"
                stem = f"/aws/service/bottlerocket/aws-k8s-{kubernetes}{variant}/{architecture}"
                parameters = _both(stem, "latest", version, index) + _both(stem, "latest", f"{version}-{commit}", 0)
                yield Image(name, architecture, AMAZON_BOTTLEROCKET, _created(index, kubernetes), kubernetes, parameters)


def _windows(kubernetes: str) -> Iterator[Image]:
    for year in ("2019", "2022", "2025"):
        if year == "2025" and kubernetes not in ("1.35", "1.36"):
            continue
        for edition in ("Core", "Full"):
            for index, release in enumerate(WINDOWS_RELEASES):
                stem = f"Windows_Server-{year}-English-{edition}-EKS_Optimized-{kubernetes}"
                moving = (f"/aws/service/ami-windows-latest/{stem}/image_id",) if index == 1 else ()
                yield Image(
                    f"{stem}-{release}", "x86_64", AMAZON_WINDOWS, _created(index, kubernetes), kubernetes, moving,
                    platform="windows", root_device="/dev/sda1",
                )  # fmt: skip


def _both(stem: str, moving: str, pinned: str, index: int) -> tuple[str, ...]:
    """The pinned parameter, and for the newest release the one that moves."""
    parameters: tuple[str, ...] = (f"{stem}/{pinned}/image_id",)
    return (*parameters, f"{stem}/{moving}/image_id") if index == 1 else parameters


def all_images() -> Iterator[Image]:
    for kubernetes in KUBERNETES:
        for family in (_al2023, _al2, _bottlerocket, _windows):
            yield from family(kubernetes)


def plant(peer: Peer) -> None:
    from moto.ssm.models import Parameter, ssm_backends

    parameters = ssm_backends[ACCOUNT][peer.region]._parameters
    for image in all_images():
        _add(peer, image)
        for name in image.parameters:
            parameters[name].append(
                Parameter(
                    account_id=ACCOUNT, name=name, value=image.id, parameter_type="String", description=None,
                    allowed_pattern=None, keyid=None, last_modified_date=image.created, version=1, data_type="text",
                )  # fmt: skip
            )


def _add(peer: Peer, image: Image) -> Any:
    from moto.ec2.models.amis import Ami

    ami = Ami(
        peer.ec2,
        image.id,
        name=image.name,
        description=f"EKS optimised image for Kubernetes {image.kubernetes}",
        owner_id=image.owner,
        owner_alias="amazon",
        public=True,
        virtualization_type="hvm",
        architecture=image.architecture,
        creation_date=image.created,
        platform=image.platform,
        image_location=f"amazon/{image.name}",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=image.root_device,
        region_name=f"{peer.region}a",
    )
    deprecated = image.kubernetes == DEPRECATED_KUBERNETES
    ami.deprecation_time = DEPRECATED_SINCE if deprecated else image.created + timedelta(days=730)
    peer.ec2.amis[image.id] = ami
    return ami
