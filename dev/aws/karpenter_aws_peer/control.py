"""The peer's own endpoints under /_peer/: how a test scripts AWS and looks behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any
from urllib.parse import parse_qs

from . import zonalshift
from .ec2.reservations import Reservation, make_reservation
from .faults import Fault
from .instances import Instance
from .nodes.script import Script
from .peer import ACCOUNT, Peer
from .pools import Rule

Given = dict[str, Any]
Answer = tuple[int, Any]


def handle(peer: Peer, method: str, path: str, environ: dict[str, Any], body: bytes) -> Answer:
    name = path.removeprefix("/_peer").strip("/")
    try:
        if method == "GET":
            query = {key: values[-1] for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
            return _pick(GETS, name)(peer, query)
        given = json.loads(body) if body else {}
        if not isinstance(given, dict):
            raise ValueError(f"expected a JSON object, found {type(given).__name__}")
        return _pick(POSTS, name)(peer, given)
    except KeyError as missing:
        return 400, {"error": f"missing: {missing}"}
    except (ValueError, TypeError) as wrong:
        return 400, {"error": str(wrong)}


def _pick(table: dict[str, Callable[[Peer, Given], Answer]], name: str) -> Callable[[Peer, Given], Answer]:
    if name not in table:
        raise ValueError(f"no /_peer/{name}; there is {', '.join(sorted(table))}")
    return table[name]


def _rules(given: Given) -> list[Rule]:
    rules = []
    for each in given["pools"]:
        unknown = set(each) - {field.name for field in fields(Rule)}
        if unknown:
            raise ValueError(f"unknown fields in a pool: {', '.join(sorted(unknown))}")
        rules.append(Rule(**{"capacity_type": "*", "instance_type": "*", "zone": "*", **each}))
    return rules


def drain(peer: Peer, given: Given) -> Answer:
    rules = _rules(given)
    with peer.lock:
        peer.pools.rules += rules
    return 200, {"rules": [asdict(rule) for rule in peer.pools.rules]}


def refill(peer: Peer, given: Given) -> Answer:
    with peer.lock:
        gone = peer.pools.refill(_rules(given) if given.get("pools") else None)
    return 200, {"removed": gone, "rules": [asdict(rule) for rule in peer.pools.rules]}


def fault(peer: Peer, given: Given) -> Answer:
    if given.get("clear"):
        peer.faults.clear()
    else:
        peer.faults.add(Fault.parse(given))
    return 200, {"faults": peer.faults.list()}


def calls(peer: Peer, query: Given) -> Answer:
    return 200, peer.calls.summary(query.get("action"), int(query.get("limit", 50)))


def state(peer: Peer, query: Given) -> Answer:
    with peer.lock:
        instances = [_told(peer, each) for each in peer.instances.all()]
        return 200, {
            "region": peer.region,
            "account": ACCOUNT,
            "cluster": asdict(peer.cluster),
            "timings": asdict(peer.timings),
            "instances": instances,
            "usd_per_hour": round(sum(i["price"] or 0 for i in instances if i["state"] in ("pending", "running")), 6),
            "pools": [asdict(rule) for rule in peer.pools.rules],
            "faults": peer.faults.list(),
            "reservations": [_reservation(each) for each in peer.reservations.values()],
            "subnets": {s.id: s.available_ip_address_count for s in peer.ec2.describe_subnets()},
            "nodes": dict(peer.node_reports),
        }


def _told(peer: Peer, each: Instance) -> dict[str, Any]:
    return {
        "id": each.id,
        "instance_type": each.instance_type,
        "zone": each.zone,
        "capacity_type": each.capacity_type,
        "state": peer.instances.state_of(each),
        "price": each.price,
        "image_id": each.image_id,
        "subnet_id": each.subnet.id,
        "private_dns_name": each.private_dns_name,
        "launched_at": each.launched_at,
        "terminated_at": each.terminated_at,
        "fleet_id": each.fleet_id,
        "client_token": each.client_token,
        "template": each.template,
        "capacity_reservation_id": each.reservation.id if each.reservation else None,
        "partition": each.partition,
        "tags": dict(peer.tags_of(each.id)),
    }


def _reservation(each: Reservation) -> dict[str, Any]:
    return {**{k: v for k, v in vars(each).items() if k != "users"}, "available": each.available, "users": sorted(each.users)}


def reset(peer: Peer, given: Given) -> Answer:
    peer.reset()
    return 200, {"reset": True}


def cluster(peer: Peer, given: Given) -> Answer:
    """Where the control plane is; it may start after the peer."""
    from .seed.cluster import tell_eks

    known = {field.name for field in fields(peer.cluster)}
    unknown = set(given) - known
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}; there is {', '.join(sorted(known))}")
    with peer.lock:
        for key, value in given.items():
            setattr(peer.cluster, key, value)
        tell_eks(peer)
    return 200, asdict(peer.cluster)


def timings(peer: Peer, given: Given) -> Answer:
    for key, value in given.items():
        if not hasattr(peer.timings, key):
            raise ValueError(f"no timing {key!r}; there is {', '.join(vars(peer.timings))}")
        setattr(peer.timings, key, float(value))
    return 200, asdict(peer.timings)


def prices(peer: Peer, given: Given) -> Answer:
    with peer.lock:
        for each in given.get("on_demand", []):
            peer.prices.set_on_demand(each["instance_type"], float(each["usd"]))
        for each in given.get("spot", []):
            peer.prices.set_spot(each["instance_type"], each["zone"], float(each["usd"]))
    return 200, {"set": True}


def nodes(peer: Peer, given: Given) -> Answer:
    """Adds one script for joining nodes, or replaces them all with {"scripts": […]}."""
    if "scripts" in given:
        peer.node_scripts[:] = [Script.parse(each) for each in given["scripts"]]
    else:
        peer.node_scripts.append(Script.parse(given))
    return 200, {"scripts": [asdict(each) for each in peer.node_scripts]}


def instances(peer: Peer, given: Given) -> Answer:
    """What happens to instances without anybody's call: {"ids": […] | "tag": {…}, "event": …}."""
    event = given["event"]
    with peer.lock:
        ids, tags = given.get("ids"), given.get("tag", {})
        chosen = [
            each
            for each in peer.instances.live()
            if (ids is None or each.id in ids) and tags.items() <= peer.tags_of(each.id).items()
        ]
        for each in chosen:
            match event:
                case "terminate":
                    peer.instances.terminate(each, "Server.InternalError", "Internal error on launch")
                case "reclaim":
                    peer.instances.terminate(each, "Server.SpotInstanceTermination", "Spot instance termination")
                case "stop":
                    each.stopped_at = time.time()
                case "impair":
                    since = time.time() - float(given.get("seconds_ago", 0))
                    each.status[given.get("part", "instance")] = {"status": "impaired", "since": since}
                case "heal":
                    each.status.clear()
                case "age":
                    each.launched_at -= float(given["seconds"])
                case "schedule":
                    each.events.append(
                        {"Code": given.get("code", "instance-reboot"), "Description": "scheduled", "NotBefore": time.time() + 3600}
                    )
                case _:
                    raise ValueError(f"no event {event!r}; there is terminate, reclaim, stop, impair, heal, age, schedule")
    return 200, {"instances": [each.id for each in chosen]}


def reservations(peer: Peer, given: Given) -> Answer:
    """Reservations of the kinds the API sells rather than creates: capacity blocks, interruptible ones, others' own."""
    tags = given.pop("tags", {})
    seconds = given.pop("ends_in_seconds", None)
    given.setdefault("match", "targeted")
    if seconds is not None:
        given["end"] = time.time() + float(seconds)
    with peer.lock:
        made = make_reservation(peer, **given)
        if tags:
            peer.ec2.create_tags([made.id], tags)
    return 200, _reservation(made)


def shift(peer: Peer, given: Given) -> Answer:
    if given.get("clear"):
        peer.shifts.clear()
        return 200, {"shifts": []}
    made = zonalshift.shift(peer, given["zone_id"], float(given.get("seconds", 3600)), given.get("status", "ACTIVE"))
    return 200, made


def pages(peer: Peer, given: Given) -> Answer:
    """{"empty": true}: every list begins with an empty page that has a token."""
    peer.empty_pages = bool(given["empty"])
    return 200, {"empty": peer.empty_pages}


def health(peer: Peer, query: Given) -> Answer:
    return 200, {"ok": True, "region": peer.region}


GETS: dict[str, Callable[[Peer, Given], Answer]] = {"calls": calls, "state": state, "health": health}
POSTS: dict[str, Callable[[Peer, Given], Answer]] = {
    "drain": drain,
    "refill": refill,
    "fault": fault,
    "reset": reset,
    "cluster": cluster,
    "timings": timings,
    "prices": prices,
    "nodes": nodes,
    "instances": instances,
    "reservations": reservations,
    "shift": shift,
    "pages": pages,
}
