"""Keeps what owners can get in blocks that they hold, while schedulers ask for it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.process.turns import Turns
from services.ipam.deciding.held_rooms import HeldRooms, Holder
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.store.replica import Replica

OWNERS_MOST: Final = 256
CHANGED_MOST: Final = 20_000
"""Blocks: beyond that everything is looked at anew, when somebody asks."""
_STATE: Final = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Kept:
    id: str
    rooms: HeldRooms


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """Who has what; with an earlier state, what is different, 0 among it."""

    holders: Sequence[tuple[Holder, int]]
    state: str
    is_partial: bool


class HeldRoomsKept:
    """What is kept is thrown away when networks or reservations change, or memory is read anew."""

    def __init__(self, replica: Replica, turns: Turns) -> None:
        """It listens as long as the replica lives."""
        self._replica = replica
        self._turns = turns
        self._kept: OrderedDict[tuple[Tenant, Segment], _Kept] = OrderedDict()
        self._changed: dict[Place, None] = {}
        self._looking = False
        self._void = False
        self._nodes_changed = True
        self._cordoned: frozenset[NodeName] = frozenset()
        self._version = -1
        self._one = asyncio.Lock()
        replica.listen(self._on_change)

    async def ask(
        self, tenant: Tenant, segment: Segment, networks: Sequence[NetworkName], known: str
    ) -> HeldAnswer:
        """What an owner has on some networks; `known`: the state of an earlier answer, or ""."""
        async with self._one:
            kept = await self._current((tenant, segment))
        # nothing is awaited from here on
        asked = f"{kept.id}/{','.join(networks)}/"
        since = known.removeprefix(asked)
        is_partial = known.startswith(asked) and _STATE.fullmatch(since) is not None
        rooms = kept.rooms
        found = rooms.since(int(since)) if is_partial else rooms.all()
        wanted = frozenset(networks)
        holders = [(holder, free) for holder, free in found.items() if holder[0] in wanted]
        return HeldAnswer(holders, f"{asked}{rooms.state}", is_partial)

    async def _current(self, owner: tuple[Tenant, Segment]) -> _Kept:
        while True:
            ledger = await self._replica.committed()
            self._catch_up(ledger)
            kept = self._kept.get(owner)
            if kept is not None:
                self._kept.move_to_end(owner)
                now = self._replica.now()
                for holder in kept.rooms.ripe(now):
                    kept.rooms.look(ledger, holder, now)
                return kept
            await self._look(owner)

    async def _look(self, owner: tuple[Tenant, Segment]) -> None:
        """Looks at everything; what changes meanwhile is looked at again."""
        self._looking = True
        try:
            rooms = await self._look_around(owner)
        finally:
            self._looking = False
        if not self._void and self._replica.ledger.version == self._version:
            self._kept[owner] = _Kept(secrets.token_hex(8), rooms)
        while len(self._kept) > OWNERS_MOST:
            self._kept.popitem(last=False)

    async def _look_around(self, owner: tuple[Tenant, Segment]) -> HeldRooms:
        rooms = HeldRooms(*owner)
        ledger = self._replica.ledger
        areas = [area for net in ledger.networks.values() for area in net.areas.values()]
        left = (holder for area in areas for holder in tuple(rooms.holders(area)))
        holder = next(left, None)
        while holder is not None:
            async with self._turns.piece() as piece:
                ledger, now = await self._replica.committed(), self._replica.now()
                piece.begin()
                while holder is not None and not piece.is_over:
                    rooms.look(ledger, holder, now)
                    holder = next(left, None)
        return rooms

    def _catch_up(self, ledger: Ledger) -> None:
        """Looks again at what has changed."""
        if self._void or ledger.version != self._version:
            self._kept.clear()
            self._void, self._version = False, ledger.version
        places, self._changed = self._changed, {}
        turned: frozenset[NodeName] = frozenset()
        if self._nodes_changed:
            self._nodes_changed = False
            cordoned = frozenset(name for name, node in ledger.nodes.items() if node.cordoned)
            turned, self._cordoned = cordoned ^ self._cordoned, cordoned
        now = self._replica.now()
        for kept in self._kept.values():
            again = dict.fromkeys(kept.rooms.holders_on(ledger, turned))
            for place in places:
                again.update(dict.fromkeys(kept.rooms.holders_of(ledger, place)))
            for holder in again:
                kept.rooms.look(ledger, holder, now)

    def _on_change(self, places: Sequence[Place] | None) -> None:
        if places is None or len(self._changed) > CHANGED_MOST:
            self._void = True
            self._changed.clear()
        elif places:
            if self._kept or self._looking:
                self._changed.update(dict.fromkeys(places))
        else:
            self._nodes_changed = True
