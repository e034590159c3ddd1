"""Elects one of several replicas by a Lease of the API server, as client-go does.

https://pkg.go.dev/k8s.io/client-go/tools/leaderelection: who holds it writes its name and the time
now and then. The others take it when they have not seen it change for its whole duration, by their
own clocks: no two clocks are compared. Every write names the version that was read, so that of two
who try at once one succeeds. The holder stops once it could not renew for less than that duration,
and at once when it sees somebody else's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from lightkube import AsyncClient
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from services.common.errors import NotFound, RomanaError
from services.kubernetes.cluster.api_server import ApiServer

log = structlog.get_logger(__name__)

_DEADLINE: Final = 2 / 3
"""Of the duration: without a renewal for so long the holder stops."""
_RENEWALS: Final = 7
"""In a duration."""


def _clock() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was read last, and when it was first seen to be so."""

    record: tuple[str, str]
    """Holder and version."""
    since: float


class LeaseElection:
    """One candidate."""

    def __init__(
        self,
        server: ApiServer,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: int,
        clock: Callable[[], float] = _clock,
    ) -> None:
        """`identity` is this replica's alone; `duration`: seconds after which it is replaced."""
        self._server = server
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._clock = clock
        self._seen: _Seen | None = None
        self._until = 0.0
        """It leads until then, if nothing else happens."""
        self._leads = False
        self._moved = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether it leads now, as far as it can know."""
        return self._leads and self._clock() < self._until

    async def until(self, *, leading: bool) -> None:
        """Returns when `is_leader` is as asked."""
        while self.is_leader is not leading:
            left = self._until - self._clock() if self._leads else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()

    async def run(self) -> None:
        """Stands for ever; call `resign` after it was cancelled."""
        pause = self._duration / _RENEWALS
        try:
            while True:
                try:
                    await self._turn()
                except RomanaError as error:
                    log.warning("lease_not_renewed", lease=self._name, message=error.message)
                self._judge()
                await asyncio.sleep(pause * (0.8 + 0.4 * random.random()))  # noqa: S311
        finally:
            self._until = 0.0
            self._judge()

    async def resign(self) -> None:
        """Lets another lead at once."""
        self._until = 0.0
        self._judge()
        try:
            lease = await self._read()
            if lease is not None and self._holder(lease) == self._identity:
                assert lease.spec is not None
                lease.spec.holderIdentity = ""
                await self._write(lease)
        except RomanaError as error:
            log.warning("lease_not_resigned", lease=self._name, message=error.message)

    async def _turn(self) -> None:
        """Takes or renews the lease, if it may."""
        sent = self._clock()
        lease = await self._read()
        if lease is None:
            await self._create()
        else:
            holder = self._holder(lease)
            version = (lease.metadata.resourceVersion or "") if lease.metadata is not None else ""
            if self._seen is None or self._seen.record != (holder, version):
                self._seen = _Seen((holder, version), sent)
            if holder not in {"", self._identity}:
                self._until = 0.0
                if sent < self._seen.since + self._duration:
                    return
            assert lease.spec is not None
            if holder != self._identity:
                lease.spec.acquireTime = datetime.now(UTC)
                lease.spec.leaseTransitions = (lease.spec.leaseTransitions or 0) + 1
            lease.spec.holderIdentity = self._identity
            lease.spec.leaseDurationSeconds = self._duration
            lease.spec.renewTime = datetime.now(UTC)
            await self._write(lease)
        self._until = sent + self._duration * _DEADLINE

    async def _read(self) -> Lease | None:
        def get(client: AsyncClient) -> object:
            return client.get(Lease, self._name, namespace=self._namespace)

        try:
            return await self._server.call(get)  # type: ignore[arg-type]  # lightkube's are generic
        except NotFound:
            return None

    async def _create(self) -> None:
        now = datetime.now(UTC)
        lease = Lease(
            metadata=ObjectMeta(name=self._name, namespace=self._namespace),
            spec=LeaseSpec(
                holderIdentity=self._identity,
                leaseDurationSeconds=self._duration,
                acquireTime=now,
                renewTime=now,
                leaseTransitions=0,
            ),
        )
        await self._server.call(lambda client: client.create(lease))

    async def _write(self, lease: Lease) -> None:
        await self._server.call(lambda client: client.replace(lease))

    @staticmethod
    def _holder(lease: Lease) -> str:
        return (lease.spec.holderIdentity or "") if lease.spec is not None else ""

    def _judge(self) -> None:
        leads = self._clock() < self._until
        if leads is not self._leads:
            self._leads = leads
            log.info("leadership", lease=self._name, leads=leads)
            self._moved.set()
            self._moved = asyncio.Event()
