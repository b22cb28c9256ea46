"""Faults a test asks for: an error, a wait or a lost answer, on either side of the effect."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = ("error", "delay_before", "delay_after", "hang_before", "hang_after", "drop_before", "drop_after")
#: A hang ends when the peer is reset or stopped, or after this long: no thread should outlive its test for ever.
LONGEST_HANG = 600.0


@dataclass
class Fault:
    action: str
    kind: str
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    seconds: float = 1.0
    #: How many calls it meets; None: all of them.
    count: int | None = 1
    #: Only calls whose parameters contain these (as on the wire: "InstanceId.1": "i-…").
    match: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Fault:
        if given.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, found {given.get('kind')!r}")
        if not given.get("action"):
            raise ValueError("action is missing: an API action's name, or * for all")
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        fault = cls(**given)
        # An error that names no status is the caller's, unless its name says otherwise, as EC2 has it.
        if "status" not in given:
            fault.status = _status_of(fault.code)
        return fault


def _status_of(code: str) -> int:
    if code in ("InternalError", "InternalFailure"):
        return 500
    if code in ("RequestLimitExceeded", "Unavailable", "ServiceUnavailable"):
        return 503
    return 403 if code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException") else 400


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._released = threading.Event()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def take(self, action: str, parameters: dict[str, str], moment: str) -> Fault | None:
        """The first fault that meets this call at this moment ("before" or "after" its effect)."""
        with self._lock:
            for fault in self._faults:
                if fault.action not in (action, "*") or fault.kind.endswith("_after") != (moment == "after"):
                    continue
                if any(parameters.get(key) != value for key, value in fault.match.items()):
                    continue
                # A dry run has no effect to spoil; a fault that is meant for it says so.
                if parameters.get("DryRun") == "true" and "DryRun" not in fault.match:
                    continue
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self._faults.remove(fault)
                return fault
        return None

    def wait(self, seconds: float) -> None:
        self._released.wait(min(seconds, LONGEST_HANG))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]
