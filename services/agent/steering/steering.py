"""Has this node lead connections through devices: what is said of them, to where it is done.

    the stream of rules     which devices there are, and which of them are up
    the reconciler          on which interfaces networks are; gets the ways to devices
    probing                 with which MAC addresses devices answer, and whether they do
    enforcement             gets both
    the policy service      is told what is seen

What is known is on disk before it is used, and an agent that starts begins with that: so nothing
that the kernel holds is taken away only because it is not known yet.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
import structlog
from romana.policy.v1 import device_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.agent.model import DeviceWay
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.device_legs import Around
from services.agent.rules.enforce import Enforcement
from services.agent.steering.memory import DeviceMemory, Known
from services.agent.steering.probing import Probing, Target, seen
from services.common.backoff import Backoff, BackoffPolicy
from services.common.model.devices import Arm
from services.common.model.names import NodeName
from services.common.model.network import Address
from services.common.model.node import Attachment

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.1, maximum=5.0)
REPORT_SECONDS: Final = 20.0
"""Between two reports without a reason."""
CALL_SECONDS: Final = 5.0


class Steering:
    """The part of an agent."""

    def __init__(
        self,
        node: NodeName,
        channels: Sequence[grpc.aio.Channel],
        reconciler: Reconciler,
        enforcement: Enforcement,
        memory: DeviceMemory,
    ) -> None:
        """Tells both at once what was known; does nothing else before its tasks run."""
        self._node = node
        self._stubs: list[PolicyServiceAsyncStub] = [
            PolicyServiceStub(channel) for channel in channels
        ]
        self._reconciler = reconciler
        self._enforcement = enforcement
        self._memory = memory
        self._known = memory.load()
        self._look = asyncio.Event()
        self._report = asyncio.Event()
        self.probing = Probing(self._changed)
        self.probing.macs.update(self._known.macs)
        reconciler.set_devices(self._known.ways)
        enforcement.set_around(Around(self._known.interfaces, self._known.macs))
        reconciler.on_change(self._look.set)
        enforcement.on_change(self._look.set)

    async def follow(self) -> None:
        """Hands on what is known, for ever."""
        while True:
            await self._look.wait()
            self._look.clear()
            await self._hand_on()

    async def report(self) -> None:
        """Tells the policy service what is seen, for ever."""
        backoff = Backoff(RETRY, random.random)
        turn = 0
        told = False
        while True:
            self._report.clear()  # whatever follows: a wait for what is set would never yield
            if self.probing.judgements or told:
                request = api.ReportDevicesRequest(
                    node=self._node, observations=list(self._observations())
                )
                stub = self._stubs[turn % len(self._stubs)]
                try:
                    await stub.ReportDevices(request, timeout=CALL_SECONDS)
                except grpc.aio.AioRpcError as error:
                    log.info("devices_not_reported", message=error.details() or error.code().name)
                    turn += 1
                    await asyncio.sleep(backoff.failed())
                    continue
                backoff.succeeded()
                told = bool(request.observations)
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._report.wait()
            except TimeoutError:
                continue

    def _changed(self) -> None:
        self._report.set()
        self._look.set()

    async def _hand_on(self) -> None:
        enforcement, reconciler = self._enforcement, self._reconciler
        places = {one.network: one for one in reconciler.attachments}
        if not (enforcement.known and places):
            return
        groups = enforcement.devices
        arms = [(group, leg, one) for group in groups for leg in group.legs for one in leg.arms]
        asked = {(one.network, one.address) for _, _, one in arms}
        known = Known(
            {name: place.interface for name, place in places.items()} if arms else {},
            {key: mac for key, mac in self.probing.macs.items() if key in asked},
            tuple(
                DeviceWay(
                    one.number,
                    one.network,
                    one.address,
                    leg.network,
                    one.arm is Arm.INSIDE and group.name in enforcement.copied_groups,
                )
                for group, leg, one in arms
            ),
        )
        if known != self._known:
            await asyncio.to_thread(self._memory.save, known)
            self._known = known
            reconciler.set_devices(known.ways)
            enforcement.set_around(Around(known.interfaces, known.macs))
        self.probing.set_targets(
            Target(
                group.name,
                leg.device,
                leg.network,
                one.arm,
                one.network,
                one.address,
                place.interface,
                own,
                group.probe,
            )
            for group, leg, one in arms
            if (place := places.get(one.network)) is not None
            and (own := _own(place, one.address.version)) is not None
        )

    def _observations(self) -> Iterator[device_pb2.DeviceObservation]:
        for target, one in seen(self.probing.judgements).items():
            yield device_pb2.DeviceObservation(
                group=target.group,
                device=target.device,
                network=target.network,
                up=bool(one.is_up),
                reason=one.reason,
                outside=target.arm is Arm.OUTSIDE,
            )


def _own(place: Attachment, version: int) -> Address | None:
    """This node's address there, to be answered at."""
    return place.address if place.address and place.address.version == version else None
