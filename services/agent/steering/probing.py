"""Probes devices from this node: each of their arms by itself, as its group says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from services.agent.kernel.neighbour_asker import NeighbourAsker
from services.agent.steering.judgement import Judgement, judged
from services.agent.steering.questions import ask
from services.common.model.devices import Arm, DeviceGroupName, DeviceName, Probe, ProbeKind
from services.common.model.names import NetworkName
from services.common.model.network import Address

log = structlog.get_logger(__name__)

ANSWER_MOST: Final = 2.0
"""Seconds for which an answer is waited for, and no longer than the interval."""


@dataclass(frozen=True, slots=True)
class Target:
    """An arm of a device that is probed."""

    group: DeviceGroupName
    device: DeviceName
    network: NetworkName
    """For whose endpoints it is."""
    arm: Arm
    link: NetworkName
    """On whose link it is."""
    address: Address
    interface: str
    own: Address
    """This node's address on that link."""
    probe: Probe


class Probing:
    """All of them."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when something is judged otherwise, or has another MAC address."""
        self._changed = changed
        self._targets: frozenset[Target] = frozenset()
        self._askers: dict[str, NeighbourAsker] = {}
        self.judgements: dict[Target, Judgement] = {}
        self.macs: dict[tuple[NetworkName, Address], str] = {}
        self._kick = asyncio.Event()

    def set_targets(self, targets: Iterable[Target]) -> None:
        """Replaces what is probed. Returns at once."""
        wanted = frozenset(targets)
        if wanted != self._targets:
            self._targets = wanted
            self._kick.set()

    async def run(self) -> None:
        """Probes for ever."""
        running: dict[Target, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._kick.clear()
                    for target in running.keys() - self._targets:
                        running.pop(target).cancel()
                        self.judgements.pop(target, None)
                    for target in self._targets - running.keys():
                        running[target] = group.create_task(self._probe(target))
                    await self._kick.wait()
        finally:
            for asker in self._askers.values():
                asker.close()
            self._askers.clear()

    async def _probe(self, target: Target) -> None:
        loop, interval = asyncio.get_running_loop(), target.probe.interval
        due = loop.time() + interval * random.random()  # noqa: S311 - not all nodes at once
        while True:
            problem = await self._ask(target)
            before = self.judgements.get(target, Judgement())
            now = judged(before, problem, target.probe.threshold)
            self.judgements[target] = now
            if now.is_up is not before.is_up:
                log.info(
                    "device_seen" if now.is_up else "device_not_seen",
                    group=target.group,
                    device=target.device,
                    network=target.network,
                    arm=target.arm,
                    reason=now.reason,
                )
                self._changed()
            due = max(due + interval, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _ask(self, target: Target) -> str:
        """Why it does not answer; empty: it does."""
        seconds = min(target.probe.interval, ANSWER_MOST)
        try:
            asker = self._askers.get(target.interface)
            if asker is None:
                asker = self._askers[target.interface] = NeighbourAsker(target.interface)
            mac = await asker.ask(target.address, target.own, seconds)
        except OSError as error:
            broken = self._askers.pop(target.interface, None)
            if broken is not None:
                broken.close()
            return f"{target.interface}: {error.strerror}"
        if mac is None:
            return f"no answer on {target.interface} within {seconds:g} s"
        if self.macs.get((target.link, target.address)) != mac:
            self.macs[target.link, target.address] = mac
            self._changed()
        if target.probe.kind is ProbeKind.NEIGHBOUR:
            return ""
        return await ask(target.probe, target.address, target.interface, seconds)


def seen(judgements: Mapping[Target, Judgement]) -> Mapping[Target, Judgement]:
    """Those that something is known of."""
    return {target: one for target, one in judgements.items() if one.is_up is not None}
