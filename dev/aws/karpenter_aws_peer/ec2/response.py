"""EC2 as moto has it, with our actions over it."""

from __future__ import annotations

from typing import Any

from moto.core.responses import TYPE_RESPONSE
from moto.ec2 import urls
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses import EC2Response

from ..peer import Peer
from .catalogue import CatalogueActions
from .fleets import FleetActions
from .groups import PlacementGroupActions
from .images import ImageActions
from .instances import InstanceActions
from .reservations import ReservationActions
from .spot import SpotPriceActions
from .templates import TemplateActions


class PeerEC2Response(
    CatalogueActions,
    FleetActions,
    PlacementGroupActions,
    ImageActions,
    InstanceActions,
    ReservationActions,
    SpotPriceActions,
    TemplateActions,
    EC2Response,
):
    """Ours come first in the order of resolution; what we do not know moto answers."""

    def _dispatch(self, request: Any, full_url: str | None = None, headers: Any = None) -> TYPE_RESPONSE:
        with self.peer.lock:
            return super()._dispatch(request, full_url, headers)


def _free_addresses(subnet: Subnet) -> int:
    # moto counts network interfaces, which our instances do not register with it.
    return subnet._available_ip_addresses - len(subnet._subnet_ips)


def install(peer: Peer) -> None:
    """Puts our EC2 in moto's place; before the server's first EC2 request."""
    bound = type("BoundEC2Response", (PeerEC2Response,), {"peer": peer})
    urls.url_paths["{0}/"] = bound.dispatch
    Subnet.available_ip_address_count = property(_free_addresses)
