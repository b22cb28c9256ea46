"""ARC zonal shift, which moto lacks: which zones of the cluster are shifted away."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

from .peer import ACCOUNT, Peer


def cluster_arn(peer: Peer) -> str:
    return f"arn:aws:eks:{peer.region}:{ACCOUNT}:cluster/{peer.cluster.name}"


def answer(peer: Peer, path: str) -> tuple[int, dict[str, Any]]:
    """GET /managedresources, /managedresources/{arn} and /zonalshifts."""
    shifts = [shift for shift in peer.shifts if shift["expiryTime"] > time.time()]
    if path.startswith("/zonalshifts"):
        return 200, {"items": shifts}
    arn = unquote(path.removeprefix("/managedresources").strip("/"))
    told = {
        "arn": cluster_arn(peer),
        "name": peer.cluster.name,
        "appliedWeights": {shift["awayFrom"]: 0.0 for shift in shifts},
        "zonalShifts": shifts,
        "autoshifts": [],
        "zonalAutoshiftStatus": "DISABLED",
    }
    if not arn:
        return 200, {"items": [{key: told[key] for key in ("arn", "name", "zonalShifts", "autoshifts")}]}
    if arn != cluster_arn(peer):
        return 404, {"__type": "ResourceNotFoundException", "message": f"The resource {arn} is not managed"}
    return 200, told


def shift(peer: Peer, zone_id: str, seconds: float, status: str = "ACTIVE") -> dict[str, Any]:
    now = time.time()
    made = {
        "zonalShiftId": peer.instances.new_id("shift"),
        "resourceIdentifier": cluster_arn(peer),
        "awayFrom": zone_id,
        "startTime": now,
        "expiryTime": now + seconds,
        "status": status,
        "appliedStatus": "APPLIED",
        "comment": "a test",
    }
    peer.shifts.append(made)
    return made
