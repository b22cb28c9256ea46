"""Makes Nodes of running instances and removes the Nodes of those that are gone.

A thread of the peer: it looks at the instances directly, every tenth of a second, and does each node's next step in a
small pool of workers, since the API server may be slow and nodes come by the hundred.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from ..instances import Instance
from ..peer import Peer
from .kube import Kube, KubeError
from .node import FAKE, Plan, plan
from .script import Script, combined
from .steps import delete, initialise, register, set_conditions, set_ready, show_devices
from .userdata import Unreadable

TICK = 0.1
RETRY = 1.0
#: How long the cloud controller takes to notice a new Node.
CLOUD_DELAY = 0.2


@dataclass
class Joining:
    """One instance on its way: waiting, registered, initialised, ready, complete; or refused; or gone."""

    instance: Instance
    stage: str = "waiting"
    plan: Plan | None = None
    registered_at: float = 0.0
    ready_at: float = 0.0
    #: What the Node was last told, to see when a script changes its mind.
    ready: bool = False
    conditions: Any = None
    busy: bool = False
    retry_at: float = 0.0


class Simulator:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._joining: dict[str, Joining] = {}
        self._kube: Kube | None = None
        self._kubeconfig: str | None = None
        self._stop = threading.Event()
        self._workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="node")
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            try:
                if self._attached():
                    self._look()
            except Exception as error:  # The thread must outlive whatever a test does to it.
                _say(f"node simulator: {type(error).__name__}: {error}")
                self._stop.wait(RETRY)

    def _attached(self) -> bool:
        wanted = self.peer.cluster.kubeconfig
        if wanted != self._kubeconfig:
            self._kubeconfig, self._kube = wanted, None
            self._joining.clear()
        if wanted and self._kube is None:
            kube = Kube(wanted)
            self._forget_orphans(kube)
            self._kube = kube
        return self._kube is not None

    def _forget_orphans(self, kube: Kube) -> None:
        """Nodes an earlier peer left behind: their instances exist no more, so a cloud controller would delete them."""
        known = {each.id for each in self.peer.instances.all()}
        for node in kube.call("GET", "/api/v1/nodes")["items"]:
            provider_id = node["spec"].get("providerID", "")
            if node["metadata"].get("annotations", {}).get(FAKE) and provider_id.startswith("aws:///"):
                if provider_id.rsplit("/", 1)[-1] not in known:
                    delete(kube, node["metadata"]["name"])

    def _look(self) -> None:
        now = time.time()
        with self.peer.lock:
            seen = {
                each.id: (each, self.peer.instances.state_of(each), dict(self.peer.tags_of(each.id)))
                for each in self.peer.instances.all()
            }
        for instance_id, (instance, state, tags) in seen.items():
            joining = self._joining.get(instance_id)
            if joining is None:
                joining = self._joining[instance_id] = Joining(instance)
            script = combined(self.peer.node_scripts, instance_id, instance.instance_type, tags)
            self._next(joining, state, script, now)
        for gone in self._joining.keys() - seen.keys():
            joining = self._joining[gone]
            self._next(joining, "terminated", Script(), now)
            if joining.stage in ("gone", "waiting", "refused"):
                del self._joining[gone]

    def _next(self, joining: Joining, state: str, script: Script, now: float) -> None:
        """Chooses the next step of one node, at most one at a time."""
        if joining.busy or now < joining.retry_at or joining.stage in ("gone", "refused"):
            return
        timings = self.peer.timings
        step: Any = None
        if state == "terminated":
            step = None if joining.plan is None else self._remove
            if step is None:
                joining.stage = "gone"
        elif joining.stage == "waiting":
            delay = script.registration_seconds
            due = joining.instance.launched_at + timings.pending + (timings.node_registration if delay is None else delay)
            if state == "running" and now >= due and not script.never_joins:
                step = self._register
        elif joining.stage == "registered":
            if now >= joining.registered_at + CLOUD_DELAY and not script.uninitialized:
                step = self._initialise
        elif joining.stage == "initialised" and now >= joining.registered_at + timings.node_ready and not script.not_ready:
            step = self._become_ready
        elif joining.stage == "ready" and now >= joining.ready_at + timings.node_devices and not script.no_devices:
            step = self._show_devices
        elif joining.stage in ("ready", "complete") and joining.ready == bool(script.not_ready):
            step = self._turn
        if step is None and joining.plan is not None and state != "terminated" and script.conditions != (joining.conditions or []):
            step = self._set_conditions
        if step is not None:
            joining.busy = True
            self._workers.submit(self._do, step, joining, script)

    def _do(self, step: Any, joining: Joining, script: Script) -> None:
        try:
            step(joining, script)
            self._report(joining)
        except Unreadable as refusal:
            joining.stage = "refused"
            self._report(joining, str(refusal))
            _say(f"{joining.instance.id} ({joining.instance.private_dns_name}) does not join: {refusal}")
        except (KubeError, requests.RequestException) as error:
            joining.retry_at = time.time() + RETRY
            if isinstance(error, KubeError) and error.status == 404 and joining.plan is not None:
                # Somebody deleted the Node; a kubelet registers once and never again.
                joining.stage = "gone"
            elif isinstance(error, KubeError) and error.status == 409:
                joining.retry_at = 0.0
            else:
                self._report(joining, str(error))
        except Exception as error:
            joining.retry_at = time.time() + RETRY
            self._report(joining, f"{type(error).__name__}: {error}")
            _say(f"{joining.instance.id}: {type(error).__name__}: {error}")
        finally:
            joining.busy = False

    def _report(self, joining: Joining, error: str | None = None) -> None:
        self.peer.node_reports[joining.instance.id] = {
            "node": joining.plan.name if joining.plan else None,
            "stage": joining.stage,
            "ready": joining.ready,
            "error": error,
            "at": time.time(),
        }

    @property
    def kube(self) -> Kube:
        assert self._kube is not None
        return self._kube

    def _register(self, joining: Joining, script: Script) -> None:
        image = self.peer.ec2.amis.get(joining.instance.image_id)
        made = plan(joining.instance, image.name if image else "", self.peer.cluster, self.peer.region, script)
        register(self.kube, made.node)
        joining.plan, joining.stage, joining.registered_at = made, "registered", time.time()

    def _initialise(self, joining: Joining, script: Script) -> None:
        initialise(self.kube, joining.plan)
        joining.stage = "initialised"

    def _become_ready(self, joining: Joining, script: Script) -> None:
        set_ready(self.kube, joining.plan, True)
        joining.ready, joining.ready_at = True, time.time()
        joining.stage = "ready" if joining.plan and joining.plan.devices else "complete"

    def _show_devices(self, joining: Joining, script: Script) -> None:
        show_devices(self.kube, joining.plan)
        joining.stage = "complete"

    def _turn(self, joining: Joining, script: Script) -> None:
        set_ready(self.kube, joining.plan, not script.not_ready)
        joining.ready = not script.not_ready

    def _set_conditions(self, joining: Joining, script: Script) -> None:
        assert joining.plan is not None
        set_conditions(self.kube, joining.plan.name, script.conditions, joining.conditions or [])
        joining.conditions = list(script.conditions)

    def _remove(self, joining: Joining, script: Script) -> None:
        assert joining.plan is not None
        delete(self.kube, joining.plan.name)
        joining.stage = "gone"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
