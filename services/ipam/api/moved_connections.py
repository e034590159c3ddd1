"""Connections of endpoints that have just moved, from the node before to the one after.

Connection tracking is each kernel's own. A node that takes an endpoint over has not seen its
connections begin, and rules tell who began. In memory of the active replica, for a minute: what is
lost is judged by its next packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import WrongState
from services.common.model.names import EndpointName, NodeName

KEPT_SECONDS: Final = 60.0
KEPT_MOST: Final = 256
"""Moves; of more in a minute the first ones are forgotten."""
WAIT_SECONDS: Final = 3.0
"""For the node that an endpoint has left."""


@dataclass(slots=True)
class _Move:
    before: NodeName
    to: NodeName
    given: asyncio.Event = field(default_factory=asyncio.Event)
    connections: Sequence[pb.TcpConnection] = ()


class MovedConnections:
    def __init__(self) -> None:
        self._moves: dict[EndpointName, _Move] = {}

    def moved(self, name: EndpointName, before: NodeName, to: NodeName) -> None:
        """Says that the switch was made just now."""
        self._moves.pop(name, None)
        move = self._moves[name] = _Move(before, to)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, name, move)
        while len(self._moves) > KEPT_MOST:
            del self._moves[next(iter(self._moves))]

    def give(
        self, name: EndpointName, node: NodeName, connections: Sequence[pb.TcpConnection]
    ) -> None:
        """Raises WrongState if it has not just left that node."""
        move = self._moves.get(name)
        if move is None or move.before != node:
            raise _not_moving(name, node)
        move.connections = connections
        move.given.set()

    async def take(self, name: EndpointName, node: NodeName) -> Sequence[pb.TcpConnection]:
        """Waits for them, for a while; raises WrongState if it has not just come to that node."""
        move = self._moves.get(name)
        if move is None or move.to != node:
            raise _not_moving(name, node)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await move.given.wait()
        except TimeoutError:
            return ()
        return move.connections

    def _forget(self, name: EndpointName, move: _Move) -> None:
        move.connections = ()
        if self._moves.get(name) is move:
            del self._moves[name]


def _not_moving(name: EndpointName, node: NodeName) -> WrongState:
    return WrongState(
        f"node: {name!r} has not just moved from or to node {node!r}, as far as this replica knows",
        reason="NOT_MOVING",
        metadata={"field": "node", "name": name, "node": node},
    )
