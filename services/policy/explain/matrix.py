"""Says who reaches whom among endpoints.

Endpoints share rule sets, and what a list of rule sets says of an address is found out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.common.errors import InvalidInput
from services.common.model.judging import judge
from services.common.model.network import Address
from services.common.model.rules import Action, Direction, Packet, Protocol, RuleSet
from services.policy.engine.engine import Engine
from services.policy.explain.explain import packet_of
from services.policy.model import Endpoint

MAX_SIDE: Final = 200
"""Sources, and destinations."""


def matrix(
    engine: Engine,
    sources: Sequence[Endpoint],
    destinations: Sequence[Endpoint],
    protocol: Protocol | None = None,
    port: int = 0,
) -> list[list[Action | None]]:
    """A row per source with an action per destination.

    ALLOW: by one pair of their addresses at least. None: they have no addresses of one family, so
    there is nothing to judge.

    Raises:
        InvalidInput: there are too many.
    """
    for name, items in (("sources", sources), ("destinations", destinations)):
        if len(items) > MAX_SIDE:
            raise InvalidInput.at(name, f"selects {len(items)} endpoints, at most {MAX_SIDE}")
    judging = _Judging(engine, protocol, port)
    return [[judging.pair(one, other) for other in destinations] for one in sources]


class _Judging:
    """What was found out already."""

    def __init__(self, engine: Engine, protocol: Protocol | None, port: int) -> None:
        self._engine = engine
        self._protocol = protocol
        self._port = port
        self._sets: dict[tuple[str, Direction], tuple[int, Sequence[RuleSet]]] = {}
        """Rule sets of an endpoint in one direction, and the number of their list."""
        self._numbers: dict[tuple[str, ...], int] = {}
        self._known: dict[tuple[int, Direction, Address], bool] = {}

    def pair(self, source: Endpoint, destination: Endpoint) -> Action | None:
        """What becomes of connections from one to the other."""
        found = None
        if source.name == destination.name:
            return Action.ALLOW
        for begin in source.addresses:
            for end in destination.addresses:
                if begin.version != end.version:
                    continue
                if self._allows(source, Direction.EGRESS, begin, end) and self._allows(
                    destination, Direction.INGRESS, begin, end
                ):
                    return Action.ALLOW
                found = Action.DENY
        return found

    def _allows(
        self, target: Endpoint, direction: Direction, source: Address, destination: Address
    ) -> bool:
        number, sets = self._asked(target, direction)
        peer = source if direction is Direction.INGRESS else destination
        key = (number, direction, peer)
        if key not in self._known:
            packet: Packet = packet_of(source, destination, self._protocol, self._port)
            judged = judge(sets, packet, self._engine.is_member)
            self._known[key] = judged.action is Action.ALLOW
        return self._known[key]

    def _asked(self, target: Endpoint, direction: Direction) -> tuple[int, Sequence[RuleSet]]:
        key = (target.name, direction)
        if key not in self._sets:
            sets = self._engine.rule_sets(target.name, direction)
            identity = tuple(one.id for one in sets)
            number = self._numbers.setdefault(identity, len(self._numbers))
            self._sets[key] = (number, sets)
        return self._sets[key]
