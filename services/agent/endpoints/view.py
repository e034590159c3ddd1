"""An endpoint as others see it, and who keeps it closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from services.agent.endpoints.spec import Record, Stage
from services.agent.kernel.conntrack import TcpConnection
from services.common.model.names import EndpointName
from services.common.model.network import Address


class EndpointState(StrEnum):
    """Where an endpoint stands."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    DEGRADED = "degraded"
    """Something of it is not as it should be; what can be is put right."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as others see it."""

    record: Record
    state: EndpointState
    problem: str = ""
    """What is wrong, when degraded."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The answer to an attach."""

    view: EndpointView
    existed: bool


class Guard(Protocol):
    """Keeps endpoints closed until their rules are in force."""

    async def close_to(self, name: EndpointName, interface: str, /) -> None:
        """Lets nothing through an interface that is about to be made; raises WrongState."""

    async def opened(self, name: EndpointName, /) -> bool:
        """Waits for an endpoint's rules, for a while at most; says whether they are in force."""

    def gone(self, name: EndpointName, /) -> None:
        """Says that an endpoint's interface is not there any more, or not ours."""

    async def connections_of(self, addresses: Collection[Address], /) -> Sequence[TcpConnection]:
        """What this kernel tracks of endpoints."""

    async def go_on(self, connections: Sequence[TcpConnection], /) -> None:
        """Has this kernel go on with connections that another one tracked, if rules allow them."""

    async def ended(self) -> None:
        """Waits, for a while at most, until connections of those that have gone are ended."""


STATES: Final = {
    Stage.BEGUN: EndpointState.ATTACHING,
    Stage.ATTACHED: EndpointState.ATTACHED,
    Stage.DETACHING: EndpointState.DETACHING,
}
