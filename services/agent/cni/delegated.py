"""`romana-ipam`: addresses for interfaces that other plug-ins make, such as `macvlan` and `bridge`.

Such an interface is a machine on the VLAN: it gets the length of the network's subnet and its
gateway, and the node has nothing to do with its packets. So only `onlink` networks have addresses
for it, policy is not enforced at it, and ipam alone knows of it: there is no journal. A delegated
plug-in's own part of the configuration is `ipam`, with the fields of `asked` that are about
addresses and routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Final, Protocol

import structlog

from services.agent.cni import asked, protocol, told
from services.agent.cni.protocol import CniError, Command, Json, Request
from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.spec import EndpointSpec, unknown, unreachable_routes
from services.agent.kernel.veth import EndpointLinks
from services.agent.kernel.wiring import DefaultRoute
from services.agent.model import EndpointAddress, Remote
from services.common.errors import InvalidInput, Unavailable, WrongState
from services.common.model.names import EndpointName, NetworkName
from services.common.model.network import Mode, Network

log = structlog.get_logger(__name__)

PLUGIN: Final = "romana-ipam"
SECONDS: Final = 20.0
"""For ipam to answer."""
PROBE_SECONDS: Final = 3.0
_SHARED: Final = ("args", "runtimeConfig")


class Node(Protocol):
    """What has to be known of the node."""

    @property
    def remote(self) -> Remote:
        """Its networks."""

    @property
    def in_sync(self) -> bool:
        """Whether these are known."""


class Delegated:
    """Answers a plug-in that asks for addresses for its interface."""

    def __init__(self, addressing: Addressing, links: EndpointLinks, node: Node) -> None:
        self._addressing = addressing
        self._ipam = addressing.ipam
        self._links = links
        self._node = node

    async def perform(self, request: Request) -> dict[str, object] | None:
        """Does what is asked; raises CniError and RomanaErrors."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        match request.command:
            case Command.ADD:
                return await self._add(request, deadline)
            case Command.DEL:
                await self._release(address_name(request), deadline)
            case Command.CHECK:
                await self._check(request, deadline)
            case Command.GC:
                await self._collect(request, deadline)
            case Command.STATUS:
                await self._probe(request)
            case Command.VERSION:
                return protocol.version_answer(b"{}")
        return None

    async def _add(self, request: Request, deadline: float) -> dict[str, object]:
        spec = spec_of(request)
        if not self._node.in_sync:
            raise CniError(protocol.TRY_AGAIN, "this node's networks are not known yet")
        for want in spec.addresses:
            if want.network is not None and want.network in self._node.remote.networks:
                self._network(want.network)
        found = await self._ipam.find(spec.name, deadline)
        if found is not None:
            return await self._told(request, spec, found.addresses)
        addresses = (await self._addressing.give(spec, deadline, may_arrive=False)).addresses
        try:
            made = await self._told(request, spec, addresses)
        except BaseException:
            await asyncio.shield(self._release(spec.name, deadline))
            raise
        log.info("addresses_given", name=spec.name, addresses=[str(i.address) for i in addresses])
        return made

    async def _told(
        self, request: Request, spec: EndpointSpec, addresses: Sequence[EndpointAddress]
    ) -> dict[str, object]:
        given = [(item, self._network(item.network)) for item in addresses]
        wrong = list(unreachable_routes(spec, addresses))
        if wrong:
            raise InvalidInput.of(wrong)
        return result(request, spec, given, await self._routed(spec, request))

    async def _routed(self, spec: EndpointSpec, request: Request) -> frozenset[int]:
        """The families that have, or are not to have, a default route without us."""
        if spec.default_route is DefaultRoute.NEVER:
            return frozenset({4, 6})
        if spec.default_route is DefaultRoute.ALWAYS:
            return frozenset()
        return await self._links.routed(request.namespace)

    def _network(self, name: NetworkName) -> Network:
        """One that has addresses for such interfaces."""
        network = self._node.remote.networks.get(name)
        if network is None:
            raise CniError(protocol.TRY_AGAIN, f"network {name!r} is not known on this node yet")
        if network.mode is not Mode.ONLINK:
            raise CniError(
                protocol.BAD_CONFIGURATION,
                f"ipam.network: {name!r} is routed: its addresses are reached by way of nodes, and "
                "the interface of another plug-in needs one of the VLAN's own subnet: name an "
                "onlink network",
            )
        return network

    async def _release(self, name: EndpointName, deadline: float) -> None:
        try:
            await self._ipam.release(unknown(name), deadline)
        except WrongState:
            return  # another node's: not ours to release

    async def _check(self, request: Request, deadline: float) -> None:
        name = address_name(request)
        found = await self._ipam.find(name, deadline)
        if found is None:
            raise CniError(protocol.NOT_AS_IT_SHOULD_BE, f"{name!r} has no addresses")
        previous = asked.object_of(request.config, "prevResult")
        if not previous:
            raise CniError(protocol.BAD_CONFIGURATION, "CHECK needs prevResult")
        said = {
            str(item.get("address", "")).partition("/")[0]
            for item in asked.objects_of(previous, "ips")
        }
        lacking = [str(one.address) for one in found.addresses if str(one.address) not in said]
        if lacking:
            raise CniError(protocol.NOT_AS_IT_SHOULD_BE, f"prevResult lacks {', '.join(lacking)}")

    async def _collect(self, request: Request, deadline: float) -> None:
        valid = protocol.valid_attachments(request)
        keep = {of_attachment(key) for key in valid}
        prefix = of_attachment(EndpointName(f"{request.network}/"))
        for name in map(EndpointName, await self._ipam.on_node(deadline)):
            if name.startswith(prefix) and name not in keep:
                log.info("addresses_collected", name=name)
                await self._release(name, deadline)

    async def _probe(self, request: Request) -> None:
        own_section(request)
        if not self._node.in_sync:
            raise CniError(protocol.NOT_AVAILABLE, "this node's networks are not known yet")
        deadline = asyncio.get_running_loop().time() + PROBE_SECONDS
        try:
            await self._ipam.find(of_attachment(EndpointName(f"{request.network}/")), deadline)
        except Unavailable as error:
            raise CniError(protocol.NOT_AVAILABLE, f"ipam is away: {error.message}") from error


def of_attachment(key: EndpointName) -> EndpointName:
    """The name in ipam of an attachment of another plug-in: no configuration's name has a colon, so
    it is none of ours."""
    network, slash, rest = key.partition("/")
    return EndpointName(f"{network}:ipam{slash}{rest}")


def address_name(request: Request) -> EndpointName:
    """The name in ipam of the addresses that are asked about."""
    key = protocol.endpoint_name(request.network, request.container, request.interface)
    return of_attachment(key)


def own_section(request: Request) -> Json:
    """What the configuration says to the delegated plug-in."""
    own = request.config.get("ipam")
    if not isinstance(own, dict):
        raise CniError(protocol.BAD_CONFIGURATION, "ipam: is missing, or no object")
    return own


def spec_of(request: Request) -> EndpointSpec:
    """What is asked of ipam; raises CniError."""
    shared = {key: request.config[key] for key in _SHARED if key in request.config}
    config = {**own_section(request), **shared}
    config.pop("orchestrator", None)
    spec = asked.spec_of(replace(request, config=config))
    return replace(spec, name=address_name(request), namespace="", mac="")


def result(
    request: Request,
    spec: EndpointSpec,
    given: Sequence[tuple[EndpointAddress, Network]],
    routed: frozenset[int],
) -> dict[str, object]:
    """What ADD prints; no default route for the families in `routed`."""
    gateways: dict[int, str] = {}
    ips = []
    for item, network in given:
        version = item.address.version
        entry = {"address": f"{item.address}/{network.cidr.prefixlen}"}
        if network.gateway is not None:
            entry["gateway"] = str(network.gateway)
            gateways.setdefault(version, str(network.gateway))
        if request.version.startswith("0."):
            entry["version"] = str(version)
        ips.append(entry)
    return {
        "cniVersion": request.version,
        "ips": ips,
        "routes": list(_routes(spec, gateways, routed)),
        "dns": own_section(request).get("dns") or told.dns(network for _, network in given),
    }


def _routes(
    spec: EndpointSpec, gateways: Mapping[int, str], routed: frozenset[int]
) -> Iterator[dict[str, str]]:
    for version, gateway in sorted(gateways.items()):
        if version not in routed:
            yield {"dst": told.EVERYTHING[version], "gw": gateway}
    for text in spec.routes:
        version = ip_network(text).version
        if version in gateways:
            yield {"dst": text, "gw": gateways[version]}
        else:
            yield {"dst": text}
