"""What is there when the peer starts."""

from __future__ import annotations

from ..peer import Peer


def plant(peer: Peer) -> None:
    from moto.moto_api._internal import mock_random

    from . import cluster, images, network

    # Ids are made up; with a seed they are the same ones in every run.
    mock_random.seed(peer.seed)
    if peer.seed == "none":
        return
    with peer.lock:
        network.plant(peer)
        images.plant(peer)
        cluster.plant(peer)
