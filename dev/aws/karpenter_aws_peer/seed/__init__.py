"""What is there when the peer starts."""

from __future__ import annotations

from ..peer import Peer


def plant(peer: Peer) -> None:
    from . import cluster, images, network

    if peer.seed == "none":
        return
    with peer.lock:
        network.plant(peer)
        images.plant(peer)
        cluster.plant(peer)
