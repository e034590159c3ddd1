"""Tells topology of this node: name, address, labels, attachments.

A node that somebody removed is not registered again by its own agent: it says so, and tries, until
an operator registers it.

What settings do not say is left as topology has it, since an operator may have declared it there.
Only an address that the agent found itself it replaces, when no interface has it any more: DHCP
gives another one, and the other nodes send to the one that topology has.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as pb

from services.agent.kernel.state import Interface
from services.agent.streams.parsing import read_message
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Forbidden, InvalidInput, NotFound, RomanaError
from services.common.model.names import NodeName
from services.common.model.network import Address
from services.common.model.node import Attachment
from services.common.rpc.models import to_message
from services.common.rpc.replicas import Replicas
from services.common.socket_address import TcpAddress, parse_address

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.5, maximum=10.0)
AGAIN_SECONDS: Final = 60.0
"""How often it is looked whether topology still says so."""
CALL_SECONDS: Final = 5.0
REMOVED: Final = "NODE_REMOVED"
"""Topology's reason: somebody has removed this node."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What settings say of this node; what is empty is left to topology."""

    name: NodeName
    address: Address | None
    labels: Mapping[str, str]
    attachments: tuple[Attachment, ...]


class Registering:
    """The loop."""

    def __init__(
        self,
        topology: Replicas[TopologyServiceAsyncStub],
        targets: Sequence[str],
        identity: Identity,
        interfaces: Callable[[], Awaitable[Sequence[Interface]]],
        found: Callable[[Sequence[Attachment]], Awaitable[None]],
        *,
        own: Address | None = None,
        keep: Callable[[Address], Awaitable[None]] | None = None,
        removed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Does nothing before `run`.

        Args:
            topology: Any replica will do.
            targets: Where they are.
            identity: What settings say.
            interfaces: Those of the kernel now.
            found: Is told the attachments that topology has.
            own: The main address that this agent found, as far as it remembers.
            keep: Is told another one that it found.
            removed: Is told whether somebody has removed this node from topology.
        """
        self._topology = topology
        self._targets = targets
        self._identity = identity
        self._interfaces = interfaces
        self._found = found
        self._own = own
        self._keep = keep
        self._tell_removed = removed
        self._again = asyncio.Event()
        self.warning = ""
        """What is wrong with what an operator declared, for people; empty: nothing is known."""
        self._told: Sequence[Attachment] | None = None
        self.registered = False
        """Topology knows this node as it is."""
        self.removed = ""
        """Somebody has removed this node: what topology says of it, for people; else empty."""

    async def run(self) -> None:
        """Registers, and looks again now and then, until it is cancelled."""
        backoff = Backoff(RETRY, random.random)
        said = ""
        while True:
            try:
                node = await self._register()
            except RomanaError as error:
                failure = error
            else:
                backoff.succeeded()
                self.registered, said = True, ""
                self._note_removed("")
                await self._tell(_attachments(node))
                await self._wait(AGAIN_SECONDS)
                continue
            if failure.message != said:
                said = failure.message
                log.warning("not_registered", message=failure.message, reason=failure.reason)
            if failure.reason == REMOVED:
                self.registered = False
                self._note_removed(failure.message)
            await asyncio.sleep(backoff.failed())

    def _note_removed(self, message: str) -> None:
        if bool(message) != bool(self.removed):
            self._tell_removed(bool(message))
        self.removed = message

    def look_again(self) -> None:
        """An address of this node may have changed. Returns at once."""
        self._again.set()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()
        self._again.clear()

    async def _tell(self, attachments: Sequence[Attachment]) -> None:
        if attachments != self._told:
            await self._found(attachments)
            self._told = attachments

    async def _register(self) -> node_pb2.Node:
        """Makes topology's node as it shall be; returns it."""
        try:
            answer = await self._topology.call(
                lambda stub: stub.GetNode,
                pb.GetNodeRequest(name=self._identity.name),
                CALL_SECONDS,
            )
        except NotFound:
            return await self._create()
        there = answer.node
        wanted = node_pb2.Node()
        wanted.CopyFrom(there)
        await self._fill(wanted)
        if wanted == there:
            return there
        try:
            updated = await self._topology.call(
                lambda stub: stub.UpdateNode,
                pb.UpdateNodeRequest(node=wanted, request_id="agent"),
                CALL_SECONDS,
            )
        except (Forbidden, InvalidInput):
            # what topology has counts, such as another VLAN than settings say
            await self._tell(_attachments(there))
            raise
        log.info("node_updated", node=self._identity.name)
        return updated.node

    async def _create(self) -> node_pb2.Node:
        wanted = node_pb2.Node(name=self._identity.name)
        await self._fill(wanted)
        answer = await self._topology.call(
            lambda stub: stub.RegisterNode,
            pb.RegisterNodeRequest(node=wanted, request_id="agent", unless_removed=True),
            CALL_SECONDS,
        )
        log.info("node_registered", node=self._identity.name)
        return answer.node

    async def _fill(self, node: node_pb2.Node) -> None:
        """Puts in what settings and the kernel say."""
        identity = self._identity
        if identity.labels:
            node.labels.clear()
            node.labels.update(identity.labels)
        if identity.attachments:
            known = {item.network: item.address for item in node.attachments}
            attachments = [
                await self._completed(item, known.get(item.network, ""))
                for item in identity.attachments
            ]
            del node.attachments[:]
            node.attachments.extend(to_message(node_pb2.Attachment, item) for item in attachments)
        if identity.address is not None:
            node.address = str(identity.address)
        elif (
            await self._has_moved(node)
            if node.address
            else not (node.attachments and all(item.address for item in node.attachments))
        ):
            address = await self._main_address()
            if self._keep is not None and address != self._own:
                await self._keep(address)
            self._own = address
            node.address = str(address)

    async def _has_moved(self, node: node_pb2.Node) -> bool:
        """Whether the main address that topology has was found by the agent, and is gone."""
        address = ipaddress.ip_address(node.address)
        if any(interface.has(address) for interface in await self._interfaces()):
            self.warning = ""
            return False
        if address == self._own or "address" in node.self_reported:
            log.warning("node_address_gone", address=node.address)
            return True
        warning = (
            f"an operator declared the address {node.address} for this node, and no interface has "
            f"it: declare another one by `romana node update {node.name} --address`"
        )
        if self.warning != warning:
            log.warning("node_address_elsewhere", message=warning)
        self.warning = warning
        return False

    async def _completed(self, attachment: Attachment, known: str) -> Attachment:
        """With the address that its interface has, of the network's family; `known` if that has."""
        if attachment.address is not None:
            return attachment
        answer = await self._topology.call(
            lambda stub: stub.GetNetwork,
            pb.GetNetworkRequest(name=attachment.network),
            CALL_SECONDS,
        )
        version = ipaddress.ip_network(answer.network.cidr).version
        for interface in await self._interfaces():
            if interface.name == attachment.interface:
                fitting = [
                    own.ip
                    for own in interface.addresses
                    if own.version == version and not own.ip.is_link_local
                ]
                fitting.sort(key=lambda address: str(address) != known)
                if fitting:
                    return replace(attachment, address=fitting[0])
        raise NotFound(
            f"interface {attachment.interface} has no IPv{version} address for network "
            f"{attachment.network}",
            "NO_ADDRESS",
        )

    async def _main_address(self) -> Address:
        """The one that topology is reached from, else any that is not this machine's alone."""
        candidates = [_source(target) for target in self._targets]
        candidates += [
            own.ip
            for interface in sorted(await self._interfaces(), key=lambda item: item.index)
            if interface.up
            for own in interface.addresses
        ]
        for address in candidates:
            if address is not None and not (address.is_loopback or address.is_link_local):
                return address
        raise NotFound("this node has no address: set one", "NO_ADDRESS")


def _source(target: str) -> Address | None:
    """The address that the kernel would speak from; nothing is sent."""
    parsed = parse_address(target)
    if not isinstance(parsed, TcpAddress):
        return None
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            parsed.host, parsed.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return ipaddress.ip_address(probe.getsockname()[0])
    except OSError:
        return None


def _attachments(node: node_pb2.Node) -> list[Attachment]:
    return [
        read_message(Attachment, item, f"node.attachments[{number}]")
        for number, item in enumerate(node.attachments)
    ]
