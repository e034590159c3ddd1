"""Shows networks to those who use kubectl: what they are, and how full."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import InvalidInput, NotFound, RomanaError
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import NETWORKS
from services.kubernetes.objects.networks import NetworkResource, NetworkSpec, NetworkUse

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0
RETRY: Final = BackoffPolicy(initial=1.0, maximum=30.0)


class NetworkShowing:
    """The loop."""

    def __init__(
        self,
        resources: Informer[NetworkResource],
        topology: TopologyCalls,
        ipam: IpamCalls,
        server: ApiServer,
    ) -> None:
        self._resources = resources
        self._topology = topology
        self._ipam = ipam
        self._server = server
        self._refused: set[str] = set()
        """Networks that the API server takes no object of, such as those with capitals."""

    async def run(self) -> None:
        """Shows for ever, where the cluster knows such objects."""
        await self._resources.in_sync()
        backoff = Backoff(RETRY, random.random)
        while True:
            try:
                await self.look()
            except RomanaError as error:
                log.info("networks_not_shown", message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Makes the objects as they have to be; raises RomanaErrors."""
        networks = await self._topology.networks()
        uses = await self._ipam.utilization()
        self._refused &= networks.keys()
        for name, spec in networks.items():
            try:
                await self._show(name, spec, uses.get(name, NetworkUse()))
            except InvalidInput as error:
                if name not in self._refused:
                    self._refused.add(name)
                    log.warning("network_not_shown", network=name, message=error.message)
        for name in self._resources.items.keys() - networks.keys():
            try:
                await self._server.delete(f"{NETWORKS.path}/{name}")
            except NotFound:
                continue

    async def _show(self, name: str, spec: NetworkSpec, use: NetworkUse) -> None:
        known = self._resources.items.get(name)
        if known is None or known.spec != spec:
            await self._server.apply(f"{NETWORKS.path}/{name}", _object(name, spec=spec))
        if known is None or known.use != use:
            path = f"{NETWORKS.path}/{name}/status"
            await self._server.apply(path, _object(name, status=use))


def _object(name: str, **parts: NetworkSpec | NetworkUse) -> dict[str, object]:
    return {
        "apiVersion": "romana.io/v1alpha1",
        "kind": "RomanaNetwork",
        "metadata": {"name": name},
        **parts,
    }
