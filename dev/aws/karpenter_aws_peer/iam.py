"""IAM as moto has it, but profiles are listed by path and in pages."""

from __future__ import annotations

from typing import Any

from moto.core.responses import TYPE_RESPONSE, ActionResult
from moto.iam import urls
from moto.iam.responses import IamResponse

from .peer import Peer


class PeerIamResponse(IamResponse):
    peer: Peer

    def _dispatch(self, request: Any, full_url: str | None = None, headers: Any = None) -> TYPE_RESPONSE:
        with self.peer.lock:
            return super()._dispatch(request, full_url, headers)

    def list_instance_profiles(self) -> ActionResult:
        prefix = self._get_param("PathPrefix") or "/"
        start, size = int(self._get_param("Marker") or 0), int(self._get_param("MaxItems") or 100)
        found = [each for each in self.backend.get_instance_profiles() if each.path.startswith(prefix)]
        end = start + size
        rest = {"IsTruncated": True, "Marker": str(end)} if end < len(found) else {"IsTruncated": False}
        return ActionResult({"InstanceProfiles": found[start:end], **rest})


def install(peer: Peer) -> None:
    """Puts our IAM in moto's place; before the server's first request to IAM."""
    bound = type("BoundIamResponse", (PeerIamResponse,), {"peer": peer})
    urls.url_paths["{0}/$"] = bound.dispatch
