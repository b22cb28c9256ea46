"""The few calls to the Kubernetes API that a joining node needs."""

from __future__ import annotations

import base64
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import requests
import yaml

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class KubeError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kube:
    """Reads a kubeconfig: certificates or a token, inline or in files."""

    def __init__(self, kubeconfig: str) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        base = Path(kubeconfig).parent
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        self.server = cluster["server"].rstrip("/")
        # requests wants files; they live as long as this client.
        self._kept = tempfile.TemporaryDirectory(prefix="karpenter-aws-peer-")
        authority = self._file(cluster, "certificate-authority", base)
        self._verify: Any = False if cluster.get("insecure-skip-tls-verify") else (authority or True)
        certificate, key = self._file(user, "client-certificate", base), self._file(user, "client-key", base)
        self._certificate = (certificate, key) if certificate and key else None
        self._token = user.get("token")
        self._local = threading.local()

    def _file(self, entry: dict[str, Any], name: str, base: Path) -> str | None:
        inline = entry.get(f"{name}-data")
        if inline:
            path = Path(self._kept.name) / name
            path.write_bytes(base64.b64decode(inline))
            path.chmod(0o600)
            return str(path)
        return str(base / entry[name]) if entry.get(name) else None

    def _session(self) -> requests.Session:
        """One a thread: a session is not made to be shared."""
        session = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.verify = self._verify
            session.cert = self._certificate
            if self._token:
                session.headers["Authorization"] = f"Bearer {self._token}"
            self._local.session = session
        return session

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        answer = self._session().request(
            method,
            self.server + path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind},
            timeout=10,
        )
        if answer.status_code >= 400:
            try:
                message = answer.json().get("message", answer.text)
            except ValueError:
                message = answer.text
            raise KubeError(answer.status_code, message[:500])
        return answer.json() if answer.content else None


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise ValueError(f"the kubeconfig has no entry {name!r}")
