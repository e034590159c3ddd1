"""Keeps what holds of devices equal to what nodes see: every replica decides, one is first.

All replicas see the same and decide the same; each writes what is different, in a transaction that
compares what it was decided on. Who was slower sees it done.
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
from services.policy.store.store import PolicyStore

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""Between looks at what was said too long ago."""


class DeviceHealth:
    """Decides."""

    def __init__(self, store: PolicyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._feed = store.feed.devices
        self._clock = clock

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            changed = asyncio.ensure_future(self._store.changed())
            try:
                wait = LOOK_SECONDS
                if self._store.in_sync:
                    wait = await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await changed
            finally:
                changed.cancel()

    async def _look(self) -> float:
        """Writes what is different; returns when to look again, in seconds from now."""
        wait = LOOK_SECONDS
        for name in list(self._feed.groups):
            try:
                await self._decide(name)
            except RomanaError as error:
                log.warning("device_state_not_written", group=name, error=error.message)
            now = self._clock()
            held = due(self._feed.states_of(name), now)
            if held is not None:
                wait = min(wait, max(held - now, 0.0) + 0.01)
        return wait

    async def _decide(self, name: DeviceGroupName) -> None:
        feed, keys = self._feed, self._store.keys
        group = feed.groups[name].value.group
        before = feed.states_of(name)
        states = decide(group, feed.observed, before, self._clock())
        if states == before:
            return
        key = keys.device_state(name)
        still = (
            Compare(key, Field.MOD, Relation.EQUAL, feed.state_revision(name)),
            Compare(keys.device_group(name), Field.MOD, Relation.EQUAL, feed.groups[name].revision),
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
