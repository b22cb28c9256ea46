"""Starts and stops the server, and says on one line of JSON when it is ready."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from typing import Any


def serve(port: int, region: str, seed: str, exit_with_stdin: bool, kubeconfig: str | None) -> int:
    # Before moto is imported: its own images would hide ours, and its host rules need a region.
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    os.environ["MOTO_ACCOUNT_ID"] = "123456789012"
    os.environ.setdefault("AWS_DEFAULT_REGION", region)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from . import iam
    from .ec2.response import install
    from .front import Front
    from .nodes.simulator import Simulator
    from .peer import Peer
    from .seed import plant

    class Handler(MotoRequestHandler):
        # Head and body go out in two writes; with Nagle's algorithm a kept connection waits 40 ms between them.
        disable_nagle_algorithm = True
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """Silence: /_peer/calls tells more."""

    peer = Peer(region=region, seed=seed)
    peer.cluster.kubeconfig = kubeconfig
    install(peer)
    iam.install(peer)
    plant(peer)
    server = make_server(
        "127.0.0.1", port, Front(peer, DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Handler
    )
    server.daemon_threads = True
    simulator = Simulator(peer)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    simulator.start()
    if exit_with_stdin:
        threading.Thread(target=_wait_for_end_of_stdin, args=(stop,), daemon=True).start()
    _warm()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"ready": True, "endpoint": endpoint, "region": region, "pid": os.getpid()}), flush=True)
    stop.wait()
    peer.faults.clear()
    simulator.stop()
    server.shutdown()
    return 0


def _wait_for_end_of_stdin(stop: threading.Event) -> None:
    try:
        while sys.stdin.buffer.read(4096):
            pass
    except (OSError, ValueError):
        pass
    stop.set()


def _warm() -> None:
    """The first DescribeInstanceTypes should be as quick as the second."""
    from .ec2.catalogue import _written

    _written()
