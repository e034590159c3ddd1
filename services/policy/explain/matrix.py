"""Says who reaches whom among endpoints.

Endpoints share rule sets, and what a list of rule sets says of an address is found out once. Two
hundred endpoints with policies of their own take seconds: so what is known of them is taken at
once, and judged in whatever thread.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from enum import Enum
from typing import Final

from services.common.errors import InvalidInput
from services.common.model.judging import Judgment, judge
from services.common.model.network import Address
from services.common.model.rules import Action, Direction, Packet, Protocol, RuleSet
from services.policy.engine.engine import Engine
from services.policy.explain.explain import packet_of
from services.policy.explain.path import network_of
from services.policy.explain.steering import Outcome, taking
from services.policy.model import Endpoint

MAX_SIDE: Final = 200
"""Sources, and destinations."""


class Reach(Enum):
    """What becomes of connections from one to another."""

    DENIED = enum.auto()
    DIRECT = enum.auto()
    STEERED = enum.auto()
    """A rule leads them through devices."""


_REACHES: Final = {
    Outcome.STEERED: Reach.STEERED,
    Outcome.OPEN: Reach.DIRECT,
    Outcome.CLOSED: Reach.DENIED,
}


class Matrix:
    """Endpoints, and the rules by which they are judged now."""

    def __init__(
        self,
        engine: Engine,
        sources: Sequence[Endpoint],
        destinations: Sequence[Endpoint],
        protocol: Protocol | None = None,
        port: int = 0,
    ) -> None:
        """Takes what is known.

        Raises:
            InvalidInput: there are too many.
        """
        for name, items in (("sources", sources), ("destinations", destinations)):
            if len(items) > MAX_SIDE:
                raise InvalidInput.at(name, f"selects {len(items)} endpoints, at most {MAX_SIDE}")
        self._sources = sources
        self._destinations = destinations
        self._protocol = protocol
        self._port = port
        self._networks, self._devices = engine.networks, engine.devices
        self._numbers: dict[tuple[str, ...], int] = {}
        self._sets = {
            (one.name, direction): self._numbered(engine.rule_sets(one.name, direction))
            for direction, items in (
                (Direction.EGRESS, sources),
                (Direction.INGRESS, destinations),
            )
            for one in items
        }
        """Rule sets of an endpoint in one direction, and the number of their list."""
        self._is_member = engine.members_of(one for _, sets in self._sets.values() for one in sets)
        self._known: dict[tuple[int, Direction, Address], Judgment] = {}
        """What was found out already."""

    def rows(self) -> list[list[Reach | None]]:
        """A row per source with what becomes of it per destination.

        Not DENIED: by one pair of their addresses at least. None: they have no addresses of one
        family, so there is nothing to judge.
        """
        return [[self._pair(one, other) for other in self._destinations] for one in self._sources]

    def _pair(self, source: Endpoint, destination: Endpoint) -> Reach | None:
        """What becomes of connections from one to the other."""
        found = None
        if source.name == destination.name:
            return Reach.DIRECT
        for begin in source.addresses:
            for end in destination.addresses:
                if begin.version != end.version:
                    continue
                found = self._reach(source, destination, begin, end)
                if found is not Reach.DENIED:
                    return found
        return found

    def _reach(
        self, source: Endpoint, destination: Endpoint, begin: Address, end: Address
    ) -> Reach:
        egress = self._judged(source, Direction.EGRESS, begin, end)
        ingress = self._judged(destination, Direction.INGRESS, begin, end)
        if Action.DENY in {egress.action, ingress.action}:
            return Reach.DENIED
        own, via = (begin, egress.via) if egress.via is not None else (end, ingress.via)
        if via is None:
            return Reach.DIRECT
        network = network_of(own, self._networks)
        _, _, outcome = taking(via, network, self._devices)
        return _REACHES[outcome]

    def _judged(
        self, target: Endpoint, direction: Direction, source: Address, destination: Address
    ) -> Judgment:
        number, sets = self._sets[target.name, direction]
        peer = source if direction is Direction.INGRESS else destination
        key = (number, direction, peer)
        if key not in self._known:
            packet: Packet = packet_of(source, destination, self._protocol, self._port)
            self._known[key] = judge(sets, packet, self._is_member)
        return self._known[key]

    def _numbered(self, sets: Sequence[RuleSet]) -> tuple[int, Sequence[RuleSet]]:
        identity = tuple(one.id for one in sets)
        return self._numbers.setdefault(identity, len(self._numbers)), sets
