"""Networks as objects of the API server."""

from __future__ import annotations

import asyncio
from typing import Any

from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import NETWORKS
from services.kubernetes.control.show_networks import NetworkShowing
from services.kubernetes.objects.networks import NetworkSpec, NetworkUse
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll


class Romana:
    """What topology and ipam say."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    async def networks(self) -> dict[str, NetworkSpec]:
        return {name: NetworkSpec("10.0.0.0/24") for name in self.names}

    async def utilization(self) -> dict[str, NetworkUse]:
        return {name: NetworkUse(used=1) for name in self.names}


async def test_a_network_that_can_be_no_object_keeps_no_other_from_being_shown() -> None:
    """Names of networks may have capitals and underscores, names of objects may not."""
    fake = FakeApiServer()
    romana: Any = Romana("Blue_1", "green")
    async with fake.serve() as server:
        informer = Informer(server, NETWORKS)
        following = asyncio.create_task(informer.run())
        await informer.in_sync()
        showing = NetworkShowing(informer, romana, romana, server)
        await showing.look()
        await poll(lambda: set(informer.items) == {"green"}, 20)
        assert fake.objects[f"{NETWORKS.path}/green"]["status"]["used"] == 1
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
