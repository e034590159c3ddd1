"""What is only asked now and then: reservations, and how full groups are, for the forecast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import ipam_service_pb2_grpc

from services.common.errors import RomanaError
from services.common.rpc.replicas import Replicas
from services.console.follow.blocks import KnownBlocks
from services.console.follow.topology import KnownTopology
from services.console.picture.forecast import Forecast, Trend

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 5.0
SAMPLE_SECONDS: Final = 60.0
PAGE: Final = 1000


class UsageFollower:
    """Asks ipam, and samples what the watch has brought."""

    def __init__(
        self,
        ipam: Replicas[ipam_service_pb2_grpc.IpamServiceAsyncStub],
        topology: KnownTopology,
        blocks: KnownBlocks,
        clock: Callable[[], float],
    ) -> None:
        self._ipam = ipam
        self._topology = topology
        self._blocks = blocks
        self._clock = clock
        self._trends: dict[tuple[str, str], Trend] = {}
        self._sampled = 0.0

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            try:
                self._blocks.reserve(await self._reservations())
            except RomanaError as error:
                log.debug("reservations_not_asked", message=error.message)
            if self._blocks.known and self._clock() - self._sampled >= SAMPLE_SECONDS:
                self._sample()
            await asyncio.sleep(PAUSE_SECONDS)

    def forecast(self, network: str, path: str, free: int) -> Forecast | None:
        """When a group will be full; None: too little was seen of it."""
        trend = self._trends.get((network, path))
        return trend.forecast(free) if trend is not None else None

    def _sample(self) -> None:
        self._sampled = self._clock()
        seen = {}
        for network in self._topology.spec.networks:
            blocks = self._blocks.of(network.name)
            for group in self._topology.groups(network.name):
                key = (network.name, group.path)
                seen[key] = self._trends.get(key) or Trend()
                seen[key].add(self._sampled, blocks.usage(group.where).used)
        self._trends = seen

    async def _reservations(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        request = api.ListReservationsRequest(page_size=PAGE)
        while True:
            answer = await self._ipam.call(lambda stub: stub.ListReservations, request)
            for each in answer.reservations:
                found.setdefault(each.network, []).extend(each.ranges)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token
