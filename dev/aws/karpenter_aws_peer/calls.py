"""What was called, how often, with which parameters and what came of it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any


class Calls:
    def __init__(self, keep: int = 2000) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: deque[dict[str, Any]] = deque(maxlen=keep)

    def note(self, service: str, action: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Written down before the effect, so that a call that hangs is seen too; the caller adds the status."""
        entry = {"at": time.time(), "service": service, "action": action, "status": None, "parameters": parameters}
        with self._lock:
            self._counts[action] += 1
            self._recent.append(entry)
        return entry

    def summary(self, action: str | None, limit: int) -> dict[str, Any]:
        with self._lock:
            recent = [entry for entry in self._recent if action in (None, entry["action"])]
            counts = dict(sorted(self._counts.items()))
        count = counts.get(action, 0) if action else sum(counts.values())
        return {"count": count, "counts": counts, "recent": recent[-limit:]}

    def clear(self) -> None:
        with self._lock:
            self._counts.clear()
            self._recent.clear()
