"""One run of a verb: whom it talks to, for how long, and how it shows what it found."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import typer
from google.protobuf.message import Message
from grpc.aio import Channel

from services.common.rpc.message_json import plain
from services.common.socket_address import parse_address
from services.common.terminal.table import Column, Screen
from services.common.tls import TlsFiles
from services.ctl.calls import agent_option, service_addresses
from services.ctl.calls.choosing import choose, each
from services.ctl.calls.remote import CallPolicy, Listed, Remote, Stub
from services.ctl.calls.service_addresses import ServiceAddresses
from services.ctl.failures.failure import Failure, about
from services.ctl.views.output import Format, Output

if TYPE_CHECKING:
    # mypy-protobuf declares these in the stub files only.
    from romana.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from romana.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

Resource = TypeVar("Resource", bound=Message)


@dataclass(frozen=True, slots=True)
class CommonOptions:
    addresses: ServiceAddresses
    tls: TlsFiles | None = None
    insecure: bool = False
    timeout: float = 10.0
    """Seconds for each call."""
    form: Format = Format.TABLE
    yes: bool = False
    """Nothing is asked."""
    request_id: str = ""


class Session:
    """What a verb works with. Channels are opened, and stubs imported, when they are first used: a
    command answers at once, and most ask one service."""

    def __init__(self, common: CommonOptions) -> None:
        self.common = common
        self._addresses = common.addresses
        self.screen = Screen()
        self.out = Output(common.form, self.screen)
        self.request_id = common.request_id or f"ctl-{uuid.uuid4().hex[:12]}"
        self._channels = AsyncExitStack()
        self._call_policy = CallPolicy(common.timeout, self.request_id, self.note, tls=common.tls)

    async def __aenter__(self) -> Self:
        self._addresses = await choose(self.common.addresses)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channels.aclose()

    @cached_property
    def topology(self) -> Remote[TopologyServiceAsyncStub]:
        from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub  # noqa: PLC0415

        return self._remote("topology", self._addresses.topology, TopologyServiceStub)

    @cached_property
    def audit(self) -> Remote[AuditServiceAsyncStub]:
        """Who changed what: topology answers for all services."""
        from romana.audit.v1.audit_service_pb2_grpc import AuditServiceStub  # noqa: PLC0415

        return self._remote("topology", self._addresses.topology, AuditServiceStub)

    @cached_property
    def ipam(self) -> Remote[IpamServiceAsyncStub]:
        from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub  # noqa: PLC0415

        return self._remote("ipam", self._addresses.ipam, IpamServiceStub)

    @cached_property
    def policy(self) -> Remote[PolicyServiceAsyncStub]:
        from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub  # noqa: PLC0415

        return self._remote("policy", self._addresses.policy, PolicyServiceStub)

    def replicas(self, remote: Remote[Stub]) -> list[Remote[Stub]]:
        """All replicas of a service that were named, of which `remote` is the one that is used."""
        named = each(str(getattr(self.common.addresses, remote.name)))
        kind = type(remote.stub)
        return [
            remote if one == remote.address else self._remote(remote.name, one, kind)
            for one in named
        ]

    def agent(self, option: str) -> Remote[AgentServiceAsyncStub]:
        """The agent of this node; `option`: where, when it was said."""
        from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub  # noqa: PLC0415

        address = agent_option.address(option)
        channel = self._open("agent", address, None)  # its sockets are this machine's, without TLS
        return Remote("agent", address, channel, AgentServiceStub(channel), self._call_policy)

    def note(self, text: str) -> None:
        """Tells a person something, on stderr."""
        self.screen.note(text)

    def listing(
        self,
        listed: Listed[Resource],
        columns: Sequence[Column[Resource]],
        *,
        name: Callable[[Resource], str],
        empty: str,
    ) -> None:
        """Writes resources that a service listed; says on stderr if there are more."""
        self.out.listing(listed.items, columns, document=plain, name=name, empty=empty)
        if listed.more:
            self.note(f"there are more than {len(listed.items)}")

    @property
    def asks(self) -> bool:
        """A person is asked before something is lost."""
        return not self.common.yes and self.screen.interactive

    def confirm(self, question: str) -> None:
        """Asks a person before something is lost; aborts on no.

        Without a terminal nobody can be asked, and the option that made it dangerous was explicit.
        """
        if self.asks:
            typer.confirm(question, abort=True, err=True)

    def require(self, question: str) -> None:
        """Asks a person before something is lost that nobody named; without a terminal --yes has to
        have said so.

        Raises:
            Failure: Nobody can be asked.
        """
        if self.common.yes:
            return
        if not self.screen.interactive:
            raise Failure(
                f"{question} There is no terminal to ask on, so nothing was done",
                status="FAILED_PRECONDITION",
                reason="NOT_CONFIRMED",
                hint="--yes says that it is meant",
            )
        typer.confirm(question, abort=True, err=True)

    def _remote(self, name: str, address: str, stub: Callable[[Channel], Stub]) -> Remote[Stub]:
        if not address:
            raise service_addresses.not_found(os.environ)
        channel = self._open(name, address, self.common.tls)
        return Remote(name, address, channel, stub(channel), self._call_policy)

    def _open(self, name: str, address: str, tls: TlsFiles | None) -> Channel:
        from services.common.rpc.channel import open_channel  # noqa: PLC0415

        with about(f"address of {name}"):
            parse_address(address)
        channel = open_channel(
            address, tls=tls, insecure=self.common.insecure, program="romana-command"
        )
        self._channels.push_async_callback(channel.close, None)
        return channel
