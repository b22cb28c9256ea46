"""The kubelet's command line, as far as it shows on the Node."""

from __future__ import annotations

from typing import Any


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Maps are merged, everything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def parse_taint(text: str) -> dict[str, str]:
    """key=value:Effect, or key:Effect."""
    left, colon, effect = text.strip().rpartition(":")
    if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(f"a taint is key=value:Effect, found {text!r}")
    key, _, value = left.partition("=")
    return {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}


def _pairs(text: str, separator: str) -> dict[str, str]:
    return {key.strip(): value for key, _, value in (each.partition(separator) for each in text.split(",") if each)}


def apply_flags(boot: Any, flags: list[str]) -> None:
    """What flags say goes over the configuration, as in the kubelet."""
    words = iter(flags)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            value = next(words, "")
        value = value.strip("'\"")
        match name:
            case "--node-labels":
                boot.labels |= _pairs(value, "=")
            case "--register-with-taints":
                boot.taints += [parse_taint(each) for each in value.split(",") if each]
            case "--max-pods":
                boot.kubelet["maxPods"] = int(value)
            case "--pods-per-core":
                boot.kubelet["podsPerCore"] = int(value)
            case "--kube-reserved":
                boot.kubelet["kubeReserved"] = _pairs(value, "=")
            case "--system-reserved":
                boot.kubelet["systemReserved"] = _pairs(value, "=")
            case "--eviction-hard":
                boot.kubelet["evictionHard"] = _pairs(value, "<")
            case _:
                pass  # Nothing that shows on the Node.


#: Labels of Kubernetes' own that a kubelet may give itself; it does not start with any other of these domains.
_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    }
)
_OWN_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


def refused_labels(labels: dict[str, str]) -> list[str]:
    """Those for which the kubelet would exit with 'unknown labels specified with --node-labels'."""
    return sorted(key for key in labels if _refused(key))


def _refused(key: str) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash or not _within(domain, ("kubernetes.io", "k8s.io")):
        return False
    return key not in _OWN_LABELS and not _within(domain, _OWN_DOMAINS)


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
