"""An endpoint's addresses: asked of ipam, tried on the link, and announced there.

On an `onlink` network somebody outside may use an address of the subnet. So it is probed before it
is taken into use; one that answers is set aside in ipam, by a reservation that an operator can see
and delete, and another is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from services.agent.endpoints.ipam_client import Given, IpamClient
from services.agent.endpoints.spec import EndpointSpec
from services.agent.kernel.announce import Announcer
from services.agent.kernel.veth import EndpointLinks
from services.agent.kernel.wiring import gateway_of
from services.agent.model import EndpointAddress, Remote
from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.model.names import NetworkName
from services.common.model.network import Address, Mode
from services.common.model.node import Attachment

log = structlog.get_logger(__name__)

CONFLICTS_MOST: Final = 5
"""Addresses in a row that somebody else on the link has: beyond that it is not bad luck."""
DEFAULT_MTU: Final = 1500


class Addressing:
    """The addresses of endpoints on this node."""

    def __init__(
        self,
        ipam: IpamClient,
        announcer: Announcer,
        links: EndpointLinks,
        remote: Callable[[], Remote],
        attachments: Callable[[], Sequence[Attachment]],
        conflicted: Callable[[], None] = lambda: None,
    ) -> None:
        """`conflicted` is told of each address that somebody else turned out to have."""
        self.ipam = ipam
        self._conflicted = conflicted
        self._announcer = announcer
        self._links = links
        self._remote = remote
        self._attachments = attachments

    @property
    def interfaces(self) -> frozenset[str]:
        """By which this node is on networks."""
        return frozenset(item.interface for item in self._attachments())

    async def give(self, spec: EndpointSpec, deadline: float, *, may_arrive: bool = True) -> Given:
        """Addresses that nobody else answers for, but the node that they move from.

        Raises WrongState when the address that was asked for, or too many in a row, are taken.
        """
        for _ in range(CONFLICTS_MOST):
            given = await self.ipam.allocate(spec, deadline, may_arrive=may_arrive)
            claimed = [] if given.arriving else await self._claimed(given.addresses)
            if not claimed:
                return given
            for item, mac in claimed:
                self._conflicted()
                log.warning(
                    "address_conflict", address=str(item.address), network=item.network, mac=mac
                )
                await self.ipam.set_aside(
                    reservation_name(item.address),
                    item.network,
                    item.address,
                    f"somebody else has it: {mac}",
                    deadline,
                )
            asked = {want.address for want in spec.addresses}
            fixed = [item for item, _ in claimed if str(item.address) in asked]
            await self.ipam.release(spec, deadline)
            if fixed:
                break
        taken = ", ".join(f"{item.address} ({mac})" for item, mac in claimed)
        raise WrongState(
            f"somebody else on the network has {taken}; it is reserved now and can be released by "
            "deleting the reservation",
            "DUPLICATE_ADDRESS",
            {"address": str(claimed[0][0].address), "mac": claimed[0][1]},
        )

    async def announce(self, addresses: Sequence[EndpointAddress]) -> None:
        """Tells the links of `onlink` networks; a failure is only logged: they would ask."""
        for item in addresses:
            interface = self._onlink_interface(item.network)
            if interface:
                try:
                    await self._announcer.announce(interface, [item.address])
                except RomanaError as error:
                    log.warning("not_announced", address=str(item.address), message=error.message)

    async def announce_gateways(self, interface: str, addresses: Sequence[EndpointAddress]) -> None:
        """Tells a VM that its gateways have this interface's MAC address now.

        Those are what we tell guests, and the networks' own, for those who were told by somebody
        else.
        """
        networks = self._remote().networks
        own = [networks[item.network].gateway for item in addresses if item.network in networks]
        told = [gateway_of(item.address) for item in addresses]
        gateways = [each for each in dict.fromkeys([*told, *own]) if each is not None]
        try:
            await self._announcer.announce(interface, gateways)
        except RomanaError as error:
            log.warning("gateways_not_announced", interface=interface, message=error.message)

    def networks(self, spec: EndpointSpec) -> frozenset[NetworkName]:
        """The networks that the addresses will be of; none: only ipam can say."""
        named = [want.network for want in spec.addresses if want.network]
        if named and len(named) == len(spec.addresses):
            return frozenset(named)
        known = frozenset(self._remote().networks)
        return known if len(known) == 1 else frozenset()

    async def mtu(self, wanted: int, networks: Iterable[NetworkName]) -> int:
        """The MTU of an endpoint on these networks; InvalidInput if `wanted` is too much."""
        defaults: list[int] = []
        limits: list[tuple[int, str]] = []
        for name in networks:
            network = self._remote().networks.get(name)
            own = network.mtu if network is not None else 0
            attachment = self._attachment(name)
            link = None
            if attachment is not None and attachment.interface:
                link = await self._links.find(attachment.interface)
            if link is not None:
                limits.append((link.mtu, f"that of {link.name}, by which it is on {name!r}"))
            elif own:
                limits.append((own, f"that of network {name!r}"))
            if own or link is not None:
                defaults.append(own or (link.mtu if link is not None else 0))
        for limit, why in limits:
            if wanted > limit:
                raise InvalidInput.at("spec.mtu", f"{wanted} is more than {limit}, {why}")
        return wanted or min([*defaults, *(limit for limit, _ in limits)], default=DEFAULT_MTU)

    async def _claimed(
        self, addresses: Sequence[EndpointAddress]
    ) -> list[tuple[EndpointAddress, str]]:
        async def ask(item: EndpointAddress) -> tuple[EndpointAddress, str | None]:
            interface = self._onlink_interface(item.network)
            if not interface:
                return item, None
            return item, await self._announcer.conflict(interface, item.address)

        answers = await asyncio.gather(*(ask(item) for item in addresses))
        return [(item, mac) for item, mac in answers if mac is not None]

    def _onlink_interface(self, name: NetworkName) -> str:
        network = self._remote().networks.get(name)
        if network is None or network.mode is not Mode.ONLINK:
            return ""
        attachment = self._attachment(name)
        return attachment.interface if attachment is not None else ""

    def _attachment(self, name: NetworkName) -> Attachment | None:
        return next((item for item in self._attachments() if item.network == name), None)


def reservation_name(address: Address) -> str:
    """Such as "conflict-10.1.0.7" or "conflict-fd00--7"."""
    return f"conflict-{address}".replace(":", "-")
