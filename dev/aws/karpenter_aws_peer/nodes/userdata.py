"""What an instance's user data tells it: one reader per family of images, one result."""

from __future__ import annotations

import base64
import email
import gzip
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from typing import Any

import yaml

from .flags import apply_flags, merge, parse_taint


class Unreadable(Exception):
    """The instance would boot and never join; the text says why."""


@dataclass
class Boot:
    """What the kubelet is started with, whoever wrote it."""

    family: str
    cluster_name: str | None = None
    endpoint: str | None = None
    ca: str | None = None
    service_cidr: str | None = None
    #: KubeletConfiguration's own fields.
    kubelet: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    raid0: bool = False


def decode(encoded: str | None) -> str:
    if not encoded:
        raise Unreadable("no user data: nothing tells this instance which cluster to join")
    raw = base64.b64decode(encoded)
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    return raw.decode(errors="replace")


def read(encoded: str | None) -> Boot:
    text = decode(encoded)
    head = text.lstrip()
    if "<powershell>" in head:
        return _windows(text)
    if re.match(r"(?i)(mime-version|content-type):", head):
        return _mime(text)
    if head.startswith("#!"):
        return _bootstrap_script(text)
    if "settings.kubernetes" in head:
        return _bottlerocket(text)
    if "node.eks.aws/" in head:
        return _node_configs([text])
    raise Unreadable(f"user data of no known family; it begins with {head[:40]!r}")


def _mime(text: str) -> Boot:
    message = email.message_from_string(text.lstrip())
    configs: list[str] = []
    scripts: list[str] = []
    for part in message.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        content = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
        kind = part.get_content_type()
        if kind == "application/node.eks.aws" or "apiVersion: node.eks.aws/" in content:
            configs.append(content)
        elif kind == "text/x-shellscript" or content.lstrip().startswith("#!"):
            scripts.append(content)
    if configs:
        return _node_configs(configs)
    for script in reversed(scripts):
        if "bootstrap.sh" in script:
            return _bootstrap_script(script)
    raise Unreadable("a MIME archive without a NodeConfig and without a call of /etc/eks/bootstrap.sh")


def _node_configs(texts: list[str]) -> Boot:
    """AL2023: nodeadm merges all documents in order, later fields over earlier ones, flags one after the other."""
    spec: dict[str, Any] = {}
    flags: list[str] = []
    for text in texts:
        try:
            documents = [each for each in yaml.safe_load_all(text) if each]
        except yaml.YAMLError as error:
            raise Unreadable(f"a NodeConfig that is no YAML: {error}") from error
        for document in documents:
            if document.get("kind") != "NodeConfig":
                raise Unreadable(f"expected a NodeConfig, found {document.get('kind')!r}")
            if document.get("apiVersion") != "node.eks.aws/v1alpha1":
                raise Unreadable(f"expected node.eks.aws/v1alpha1, found {document.get('apiVersion')!r}")
            one = document.get("spec") or {}
            flags += (one.get("kubelet") or {}).get("flags") or []
            spec = merge(spec, one)
    cluster = spec.get("cluster") or {}
    # nodeadm refuses to start without any of these.
    for key in ("name", "apiServerEndpoint", "certificateAuthority", "cidr"):
        if not cluster.get(key):
            raise Unreadable(f"spec.cluster.{key} is missing in the NodeConfig")
    kubelet = dict((spec.get("kubelet") or {}).get("config") or {})
    boot = Boot(
        family="AL2023",
        cluster_name=cluster["name"],
        endpoint=cluster["apiServerEndpoint"],
        ca=cluster["certificateAuthority"],
        service_cidr=cluster["cidr"],
        kubelet=kubelet,
        taints=[dict(taint) for taint in kubelet.pop("registerWithTaints", None) or []],
        raid0=((spec.get("instance") or {}).get("localStorage") or {}).get("strategy") == "RAID0",
    )
    apply_flags(boot, flags)
    return boot


def _bootstrap_script(text: str) -> Boot:
    """AL2: /etc/eks/bootstrap.sh 'name' --apiserver-endpoint '…' --kubelet-extra-args '…'."""
    joined = text.replace("\\\n", " ")
    line = next((each for each in joined.splitlines() if "/etc/eks/bootstrap.sh" in each), None)
    if line is None:
        raise Unreadable("a script that never calls /etc/eks/bootstrap.sh")
    words = shlex.split(line[line.index("/etc/eks/bootstrap.sh") :])[1:]
    boot = Boot(family="AL2")
    options: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if not equals and position + 1 < len(words):
                position += 1
                value = words[position]
            options[name] = value
        else:
            boot.cluster_name = word
        position += 1
    boot.endpoint, boot.ca = options.get("--apiserver-endpoint"), options.get("--b64-cluster-ca")
    boot.raid0 = options.get("--local-disks") == "raid0"
    apply_flags(boot, shlex.split(options.get("--kubelet-extra-args", "")))
    return boot


def _windows(text: str) -> Boot:
    """Start-EKSBootstrap.ps1 -EKSClusterName '…' -APIServerEndpoint '…' -KubeletExtraArgs '…'."""
    options = {name.lower(): value for name, value in re.findall(r"-(\w+)\s+'([^']*)'", text)}
    if "eksclustername" not in options:
        raise Unreadable("powershell that never calls the EKS bootstrap with -EKSClusterName")
    boot = Boot(
        family="Windows",
        cluster_name=options["eksclustername"],
        endpoint=options.get("apiserverendpoint"),
        ca=options.get("base64clusterca"),
    )
    apply_flags(boot, shlex.split(options.get("kubeletextraargs", "")))
    return boot


#: Bottlerocket's settings and the kubelet's fields they become.
_BOTTLEROCKET = {
    "max-pods": "maxPods",
    "kube-reserved": "kubeReserved",
    "system-reserved": "systemReserved",
    "eviction-hard": "evictionHard",
    "cluster-dns-ip": "clusterDNS",
    "cpu-manager-policy": "cpuManagerPolicy",
}


def _bottlerocket(text: str) -> Boot:
    try:
        settings = tomllib.loads(text).get("settings", {})
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"Bottlerocket settings that are no TOML: {error}") from error
    kubernetes = settings.get("kubernetes", {})
    for key in ("cluster-name", "api-server", "cluster-certificate"):
        if not kubernetes.get(key):
            raise Unreadable(f"settings.kubernetes.{key} is missing")
    boot = Boot(
        family="Bottlerocket",
        cluster_name=kubernetes["cluster-name"],
        endpoint=kubernetes["api-server"],
        ca=kubernetes["cluster-certificate"],
        labels={key: str(value) for key, value in kubernetes.get("node-labels", {}).items()},
        kubelet={name: kubernetes[key] for key, name in _BOTTLEROCKET.items() if key in kubernetes},
    )
    for key, values in kubernetes.get("node-taints", {}).items():
        # One effect was once written as a plain string, several as a list.
        for value in [values] if isinstance(values, str) else values:
            boot.taints.append(parse_taint(f"{key}={value}"))
    commands = settings.get("bootstrap-commands", {})
    boot.raid0 = any("ephemeral-storage" in str(each.get("commands")) for each in commands.values())
    return boot
