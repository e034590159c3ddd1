"""Which services answer, and what they say of themselves: every replica, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc.aio
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.common.rpc.connecting import in_words
from services.common.rpc.status import error_of
from services.console.follow.live import Live

PAUSE_SECONDS: Final = 1.0
CALL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One replica."""

    service: str
    address: str
    serving: bool = False
    problem: str = "not asked yet"
    version: str = ""
    role: str = ""
    """Of ipam: active or standby."""
    revision: int = 0
    unreadable: int = 0
    """Records of the store that it cannot read."""


class ServicesFollower:
    """Asks all of them."""

    def __init__(
        self,
        stubs: Sequence[tuple[str, str, Any]],
        live: Live,
    ) -> None:
        """`stubs`: name of the service, address and stub, of every replica."""
        self._stubs = stubs
        self._live = live
        self._watches: dict[str, str] = {}
        self.states = [ServiceState(name, address) for name, address, _ in stubs]

    @property
    def lost(self) -> dict[str, str]:
        """Watches that are not up, with the reason: what is shown of theirs is of before."""
        return {name: why for name, why in self._watches.items() if why}

    def following(self, watch: str) -> Callable[[str], None]:
        """What a watch says of itself."""

        def say(said: str) -> None:
            reason = in_words(said)
            if self._watches.get(watch) != reason:
                self._watches[watch] = reason
                self._live.tell("services")

        return say

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            states = await asyncio.gather(*(_ask(*each) for each in self._stubs))
            if [replace(one, revision=0) for one in states] != [
                replace(one, revision=0) for one in self.states
            ]:
                self._live.tell("services")
            self.states = states
            await asyncio.sleep(PAUSE_SECONDS)


async def _ask(name: str, address: str, stub: Any) -> ServiceState:
    requests = {
        "topology": topology_api.GetStatusRequest(),
        "ipam": ipam_api.GetStatusRequest(),
        "policy": policy_api.GetStatusRequest(),
    }
    state = ServiceState(name, address)
    call: Awaitable[Any] = stub.GetStatus(requests[name], timeout=CALL_SECONDS)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return replace(state, problem=in_words(error_of(error).message))
    role = ""
    if name == "ipam":
        role = "active" if answer.active else "standby"
        ready = bool(answer.revision)
    else:
        ready = answer.in_sync
    return replace(
        state,
        serving=ready,
        problem="" if ready else "it has not read the store yet",
        version=answer.version,
        role=role,
        revision=answer.revision,
        unreadable=len(answer.unreadable),
    )
