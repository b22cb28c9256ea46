"""The writes to the API that make a Node and move it on."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .kube import MERGE, STRATEGIC, Kube, KubeError
from .machine import Resources
from .node import NOT_READY, NOT_READY_TAINT, UNINITIALIZED, Plan, conditions


def _path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def register(kube: Kube, node: dict[str, Any]) -> None:
    try:
        kube.call("POST", "/api/v1/nodes", node)
    except KubeError as error:
        if error.status != 409:
            raise
        # The name is free again only when the address's last holder is gone; so it is ours from a try before.
        existing = kube.call("GET", _path(node["metadata"]["name"]))
        if existing["spec"].get("providerID") != node["spec"]["providerID"]:
            kube.call("DELETE", _path(node["metadata"]["name"]))
            raise


def _without_taint(kube: Kube, name: str, taint: dict[str, str], labels: dict[str, str], annotations: dict[str, Any]) -> None:
    """Others change taints too: the version read goes along, and a conflict is tried again."""
    current = kube.call("GET", _path(name))
    taints = [
        each for each in current["spec"].get("taints") or [] if (each["key"], each["effect"]) != (taint["key"], taint["effect"])
    ]
    patch = {
        "metadata": {
            "resourceVersion": current["metadata"]["resourceVersion"],
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {"taints": taints or None},
    }
    kube.call("PATCH", _path(name), patch, MERGE)


def initialise(kube: Kube, plan: Plan | None) -> None:
    """The cloud controller: its labels, and its taint away."""
    assert plan is not None
    _without_taint(kube, plan.name, UNINITIALIZED, plan.cloud_labels, {})


def set_ready(kube: Kube, plan: Plan | None, ready: bool) -> None:
    assert plan is not None
    status = {"status": {"conditions": conditions(ready)}}
    if ready:
        # First the annotation, so that whoever keeps the heartbeat does not turn the condition back.
        _without_taint(kube, plan.name, NOT_READY_TAINT, {}, {NOT_READY: None})
        kube.call("PATCH", f"{_path(plan.name)}/status", status, STRATEGIC)
    else:
        kube.call("PATCH", _path(plan.name), {"metadata": {"annotations": {NOT_READY: "true"}}}, MERGE)
        kube.call("PATCH", f"{_path(plan.name)}/status", status, STRATEGIC)


def show_devices(kube: Kube, plan: Plan | None) -> None:
    assert plan is not None
    capacity, allocatable = Resources(plan.devices, plan.devices).told()
    kube.call("PATCH", f"{_path(plan.name)}/status", {"status": {"capacity": capacity, "allocatable": allocatable}}, STRATEGIC)


def set_conditions(kube: Kube, name: str, wanted: list[dict[str, str]], before: list[dict[str, str]]) -> None:
    """Conditions a script asks for; one it no longer asks for goes away."""
    moment = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch: list[dict[str, str]] = [
        {"reason": "Scripted", "message": "a test asked for it", "lastHeartbeatTime": moment, "lastTransitionTime": moment, **each}
        for each in wanted
    ]
    gone = {each["type"] for each in before} - {each["type"] for each in wanted}
    patch += [{"type": each, "$patch": "delete"} for each in sorted(gone)]
    kube.call("PATCH", f"{_path(name)}/status", {"status": {"conditions": patch}}, STRATEGIC)


def delete(kube: Kube, name: str) -> None:
    """As the cloud controller does; finalizers may keep the object, which is their business."""
    try:
        kube.call("DELETE", _path(name))
    except KubeError as error:
        if error.status != 404:
            raise
