"""The WSGI application in front of moto: it names each call, notes it, and does to it what a test has asked for."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from . import control, pricing, zonalshift
from .faults import Fault
from .peer import Peer

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Front:
    def __init__(self, peer: Peer, moto: App) -> None:
        self.peer = peer
        self.moto = moto

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, body = environ.get("PATH_INFO", "/"), _body(environ)
        if path.startswith("/_peer"):
            return _json(start_response, *control.handle(self.peer, environ["REQUEST_METHOD"], path, environ, body))
        service, action, parameters = name_call(environ, path, body)
        entry = self.peer.calls.note(service, action, parameters)
        began = time.perf_counter()

        before = self.peer.faults.take(action, parameters, "before")
        if before is not None:
            spoilt = self._spoil(before, service, environ, start_response)
            if spoilt is not None:
                entry["status"] = f"{before.kind} {before.code if before.kind == 'error' else ''}".strip()
                return spoilt

        status: list[str] = []
        held: list[Any] = []

        def hold(line: str, headers: list[tuple[str, str]], *rest: Any) -> None:
            status.append(line)
            held.append((line, headers))

        answered = list(self._answer(service, action, path, environ, hold, body))
        entry["status"] = int(status[-1].split()[0])
        if entry["status"] >= 400:
            entry["error"] = b"".join(answered)[:600].decode(errors="replace")
        entry["milliseconds"] = round((time.perf_counter() - began) * 1000, 2)

        after = self.peer.faults.take(action, parameters, "after")
        if after is not None:
            entry["status"] = f"{entry['status']} then {after.kind}"
            spoilt = self._spoil(after, service, environ, start_response)
            if spoilt is not None:
                return spoilt
        start_response(*held[-1])
        return answered

    def _answer(
        self, service: str, action: str, path: str, environ: dict[str, Any], start_response: StartResponse, body: bytes
    ) -> Iterable[bytes]:
        # moto has neither of these.
        if service == "pricing":
            if action != "GetProducts":
                return _json(start_response, 400, {"__type": "InvalidParameterException", "message": f"no {action} here"})
            with self.peer.lock:
                return _json(start_response, 200, pricing.get_products(self.peer, json.loads(body or b"{}")))
        if service == "arc-zonal-shift":
            return _json(start_response, *zonalshift.answer(self.peer, path))
        return self.moto(environ, start_response)

    def _spoil(
        self, fault: Fault, service: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """Carries the fault out; None when the call then goes on as usual."""
        if fault.kind == "error":
            return _error(start_response, service, fault)
        if fault.kind.startswith("drop"):
            _hang_up(environ)
            start_response("500 Dropped", [("Connection", "close")])
            return [b""]
        self.peer.faults.wait(600.0 if fault.kind.startswith("hang") and fault.seconds == 1.0 else fault.seconds)
        return None


def name_call(environ: dict[str, Any], path: str, body: bytes) -> tuple[str, str, dict[str, str]]:
    """Service, action and flat parameters of a call, whichever of AWS's protocols it speaks."""
    service = _service(environ.get("HTTP_AUTHORIZATION", ""))
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        try:
            parameters = {key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(body or b"{}").items()}
        except ValueError:
            parameters = {}
        return service, target.rsplit(".", 1)[-1], parameters
    fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    fields = fields or dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    action = fields.pop("Action", None)
    if action:
        fields.pop("Version", None)
        return service or "ec2", action, fields
    return service, _rest_action(service, environ["REQUEST_METHOD"], path), {"path": path, **fields}


def _service(authorization: str) -> str:
    """Out of "AWS4-HMAC-SHA256 Credential=key/date/region/service/aws4_request, …"."""
    scope = authorization.partition("Credential=")[2].split(",")[0].split("/")
    return scope[3] if len(scope) > 4 else ""


def _rest_action(service: str, method: str, path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if service == "eks" and method == "GET" and parts[:1] == ["clusters"]:
        return "DescribeCluster" if len(parts) == 2 else "ListClusters"
    if service == "arc-zonal-shift" and method == "GET":
        return "ListZonalShifts" if parts[:1] == ["zonalshifts"] else "GetManagedResource"
    return f"{method} {path}"


def _body(environ: dict[str, Any]) -> bytes:
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    body = environ["wsgi.input"].read(length) if length else b""
    # Put back for whoever comes after.
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _json(start_response: StartResponse, status: int, answer: Any) -> Iterable[bytes]:
    body = json.dumps(answer).encode()
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
    if isinstance(answer, dict) and answer.get("__type"):
        headers.append(("x-amzn-ErrorType", answer["__type"]))
    start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
    return [body]


def _error(start_response: StartResponse, service: str, fault: Fault) -> Iterable[bytes]:
    code, message = escape(fault.code), escape(fault.message)
    if service == "ec2":
        text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>fault</RequestID></Response>"
    elif service in ("iam", "sts"):
        text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>fault</RequestId></ErrorResponse>"
    else:
        return _json(start_response, fault.status, {"__type": fault.code, "message": fault.message})
    body = text.encode()
    start_response(f"{fault.status} Error", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _hang_up(environ: dict[str, Any]) -> None:
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
