"""Keeps what holds of devices equal to what nodes see: every replica decides, one is first.

All replicas see the same and decide the same; each writes what is different, in a transaction that
compares what it was decided on. Who was slower sees it done.

To decide costs as much as there are nodes that see something, and they all say the same again and
again: so it is done when one says something else, and else now and then; and when all do at once,
as when a device goes down, no more often than takes a tenth of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.common.errors import RomanaError
from services.common.etcd.types import Compare, Field, Relation
from services.common.model.devices import DeviceGroupName
from services.policy.devices.health import decide, due
from services.policy.store import codec_devices
from services.policy.store.codec_devices import StoredGroup
from services.policy.store.entry import Entry
from services.policy.store.store import PolicyStore

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""Between looks at what was said too long ago."""
_SHARE: Final = 0.1
"""Of the time, at most, for decisions."""


class DeviceHealth:
    """Decides."""

    def __init__(self, store: PolicyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._feed = store.feed.devices
        self._clock = clock
        self._busy = 0.0
        """Seconds of the processor that the decisions of a look took."""

    async def run(self) -> None:
        """Until it is cancelled."""
        time_now = asyncio.get_running_loop().time
        while True:
            await self._in_sync()
            moves, self._busy = self._feed.moves, 0.0
            wait = await self._look()
            due = time_now() + wait
            await asyncio.sleep(self._busy * (1 / _SHARE - 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    while self._feed.moves == moves:
                        await self._store.changed()

    async def _in_sync(self) -> None:
        while not self._store.in_sync:
            await self._store.changed()

    async def _look(self) -> float:
        """Writes what is different; returns when to look again, in seconds from now."""
        wait = LOOK_SECONDS
        for name, entry in list(self._feed.groups.items()):
            try:
                await self._decide(name, entry)
            except RomanaError as error:
                log.warning("device_state_not_written", group=name, error=error.message)
            now = self._clock()
            held = due(self._feed.states_of(name), now)
            if held is not None:
                wait = min(wait, max(held - now, 0.0) + 0.01)
        return wait

    async def _decide(self, name: DeviceGroupName, entry: Entry[StoredGroup]) -> None:
        """Of a group that may be gone by now, or another."""
        feed, keys = self._feed, self._store.keys
        before = feed.states_of(name)
        begun = time.thread_time()
        states = decide(entry.value.group, feed.observed, before, self._clock())
        self._busy += time.thread_time() - begun
        if states == before:
            return
        key = keys.device_state(name)
        still = (
            Compare(key, Field.MOD, Relation.EQUAL, feed.state_revision(name)),
            Compare(keys.device_group(name), Field.MOD, Relation.EQUAL, entry.revision),
        )
        if await self._store.write({key: codec_devices.encode_states(states)}, *still):
            for (device, network, arm), state in states.items():
                had = before.get((device, network, arm))
                if had is not None and had.is_up != state.is_up:
                    log.warning(
                        "device_up" if state.is_up else "device_down",
                        group=name,
                        device=device,
                        network=network,
                        arm=arm,
                    )
