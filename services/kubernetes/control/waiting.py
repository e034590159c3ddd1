"""Has kube-scheduler look again at pods for which there was no address, once there is one.

It looks again by itself when a pod has gone, but an address comes back later than its pod goes, and
rests; else only after a minute. So a pod that lacked nothing but an address is noted, and as soon
as there is one on the nodes it could go to, an annotation of it changes: kube-scheduler takes a pod
that was changed out of those that cannot be scheduled. It costs nothing while no pod waits, and
little more for thousands than for one: those that lack the same on the same nodes are judged once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import structlog
from lightkube.resources.core_v1 import Pod as PodResource
from lightkube.types import PatchType

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError
from services.common.model.names import NodeName, Segment, Tenant
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.control.followed import Followed
from services.kubernetes.objects.metadata import PREFIX
from services.kubernetes.objects.pods import Pod
from services.kubernetes.scheduling.judging import judge
from services.kubernetes.scheduling.places import Places
from services.kubernetes.scheduling.rooms import Rooms
from services.kubernetes.wanted.values import AddressWish, WantedEndpoint, wishes_of

log = structlog.get_logger(__name__)

ANNOTATION: Final = f"{PREFIX}room-since"
LOOK_SECONDS: Final = 1.0
AT_ONCE: Final = 50
"""Pods that are told at one look: the room may be for one."""
RETRY: Final = BackoffPolicy(initial=0.5, maximum=10.0)


@dataclass(frozen=True, slots=True)
class _Waiting:
    uid: str
    endpoint: WantedEndpoint
    nodes: frozenset[NodeName]
    """That lacked an address, and nothing else."""


class Waiting:
    """Pods that wait for an address."""

    def __init__(
        self,
        server: ApiServer,
        followed: Followed,
        ipam: IpamCalls,
        places: Callable[[], Places | None],
    ) -> None:
        """`places`: where nodes are now; None: that is not known yet."""
        self._server = server
        self._followed = followed
        self._ipam = ipam
        self._places = places
        self._pods: dict[str, _Waiting] = {}
        self._nodes: dict[frozenset[NodeName], frozenset[NodeName]] = {}
        """Of these pods, each set once: a set of 5,000 nodes has half a megabyte."""
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pods)

    def note(self, pod: Pod, endpoint: WantedEndpoint, nodes: Iterable[NodeName]) -> None:
        """There was no address for a pod on nodes to which it could go. Returns at once."""
        lacking = frozenset(nodes)
        lacking = self._nodes.setdefault(lacking, lacking)
        self._pods[pod.key] = _Waiting(pod.object_uid, endpoint, lacking)
        self._some.set()

    async def run(self) -> None:
        """Looks for room for ever."""
        backoff = Backoff(RETRY, random.random)
        while True:
            await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except RomanaError as error:
                log.info("room_not_looked_for", message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
            if not self._pods:
                self._some.clear()

    async def _look(self) -> None:
        self._forget()
        known: dict[_Wants, list[Rooms] | None] = {}
        fits: dict[tuple[_Wants, frozenset[NodeName]], bool] = {}
        told = 0
        for key, waiting in list(self._pods.items()):
            endpoint = waiting.endpoint
            wants = (endpoint.tenant, endpoint.segment, endpoint.addresses)
            if wants not in known:
                known[wants] = await self._rooms(endpoint)
            if (wants, waiting.nodes) not in fits:
                await asyncio.sleep(0)
                fits[wants, waiting.nodes] = self._fits(known[wants], waiting.nodes)
            if not fits[wants, waiting.nodes] or told >= AT_ONCE:
                continue
            pod = self._followed.pods.items.get(key)
            if pod is not None and self._pods.get(key) is waiting:
                told += 1
                await self._tell(pod)
                if self._pods.get(key) is waiting:  # else it waits again
                    del self._pods[key]

    def _forget(self) -> None:
        """Pods that are gone or bound."""
        for key, waiting in list(self._pods.items()):
            pod = self._followed.pods.items.get(key)
            if pod is None or pod.object_uid != waiting.uid or pod.node:
                del self._pods[key]
        self._nodes = {one.nodes: one.nodes for one in self._pods.values()}

    def _fits(self, rooms: list[Rooms] | None, nodes: frozenset[NodeName]) -> bool:
        places = self._places()
        return rooms is not None and places is not None and bool(judge(rooms, places, nodes).fit)

    async def _rooms(self, endpoint: WantedEndpoint) -> list[Rooms] | None:
        """None: there is no such network any more."""
        try:
            return [
                await self._ipam.rooms(endpoint.tenant, endpoint.segment, wish)
                for wish in wishes_of(endpoint)
            ]
        except NotFound:
            return None

    async def _tell(self, pod: Pod) -> None:
        patch = {"metadata": {"annotations": {ANNOTATION: datetime.now(UTC).isoformat()}}}
        try:
            await self._server.call(
                lambda client: client.patch(
                    PodResource,
                    pod.name,
                    patch,
                    namespace=pod.namespace,
                    patch_type=PatchType.MERGE,
                )
            )
        except NotFound:
            return
        log.info("room_for_pod", pod=pod.key)


_Wants: TypeAlias = tuple[Tenant, Segment, tuple[AddressWish, ...]]
