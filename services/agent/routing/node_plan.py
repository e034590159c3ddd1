"""What the kernel shall hold for this node itself: all but prefixes of nodes, and endpoints. Pure.

Each network n has a table T(n); `services.agent.routing.steering` makes the rules that lead to it.
It grows with the nodes of the cluster, and changes only with them, networks, and interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from itertools import chain

from services.agent.kernel import route_bytes
from services.agent.kernel.marking import TABLE
from services.agent.kernel.nftables.contents import Contents
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import (
    Interface,
    InterfaceAddress,
    Key,
    Kind,
    Nexthop,
    Rule,
    VlanLink,
)
from services.agent.model import DeviceWay, Myself
from services.agent.routing.copy_plan import copy_tables
from services.agent.routing.device_plan import device_name, device_rules, device_way
from services.agent.routing.node_networks import LINK_GATEWAY, Place, find_places
from services.agent.routing.prefixes import Ways
from services.agent.routing.steering import steering_rules
from services.agent.routing.ways import VALID_MARK, way_rules, way_table
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Mode, Network
from services.common.model.node import Attachment

_IPV4 = 4


@dataclass(frozen=True, slots=True)
class NodeWanted:
    """Everything that it follows from."""

    myself: Myself
    networks: Mapping[NetworkName, Network]
    peers: Mapping[tuple[NetworkName, NodeName], Address]
    interfaces: Mapping[str, Interface]
    """Those of the kernel, by name, but for endpoints' pairs."""
    numbers: Numbers
    made_addresses: Mapping[str, frozenset[InterfaceAddress]]
    devices: tuple[DeviceWay, ...] = ()

    def is_same(self, other: NodeWanted) -> bool:
        """The same as comparing, which it makes cheap if nothing has changed."""
        return all(
            ours is theirs or ours == theirs
            for ours, theirs in (
                (self.myself, other.myself),
                (self.networks, other.networks),
                (self.peers, other.peers),
                (self.interfaces, other.interfaces),
                (self.numbers, other.numbers),
                (self.made_addresses, other.made_addresses),
                (self.devices, other.devices),
            )
        )


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What shall be for it, and who wants it."""

    places: Mapping[NetworkName, Place]
    links: Mapping[str, VlanLink] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    nexthops: Mapping[int, Nexthop] = field(default_factory=dict)
    routes: Mapping[bytes, bytes] = field(default_factory=dict)
    rules: Mapping[Rule, None] = field(default_factory=dict)
    marking: Mapping[str, Contents] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=Numbers.none)
    """Those that were asked with, and of ways."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What cannot be planned: messages by resource id."""
    owners: Mapping[tuple[Kind, Key], str] = field(default_factory=dict)
    """Ids of the resources that objects are for."""
    ways: Ways = field(default_factory=dict)


def peer_name(network: NetworkName, node: NodeName) -> str:
    """What a nexthop id stands for."""
    return f"{network}/{node}"


def plan_node(wanted: NodeWanted) -> NodePlan:
    return _Planner(wanted).plan()


class _Planner:
    """Collects objects with their owners."""

    def __init__(self, wanted: NodeWanted) -> None:
        self._wanted = wanted
        self._links: dict[str, VlanLink] = {}
        self._sysctls: dict[str, str] = {}
        self._nexthops: dict[int, Nexthop] = {}
        self._routes: dict[bytes, bytes] = {}
        self._rules: dict[Rule, None] = {}
        self._problems: dict[str, str] = {}
        self._owners: dict[tuple[Kind, Key], str] = {}
        found = find_places(
            wanted.myself,
            wanted.networks,
            wanted.peers,
            wanted.interfaces,
            wanted.numbers.tables,
        )
        self._places = found.by_network
        # a link that is still to be made keeps its number
        attached = (each.interface for each in wanted.myself.attachments if each.interface)
        places = (place.interface.name for place in found.by_network.values())
        self._numbers = wanted.numbers.with_ways((*attached, *places))
        self._problems.update(
            (f"network/{name}", problem) for name, problem in found.problems.items()
        )

    def plan(self) -> NodePlan:
        self._plan_links()
        ways = self._plan_peers()
        for place in self._places.values():
            self._plan_network(place)
        self._plan_rules()
        self._plan_devices()
        return NodePlan(
            self._places,
            self._links,
            self._sysctls,
            self._nexthops,
            self._routes,
            self._rules,
            self._marking(),
            self._numbers,
            self._problems,
            self._owners,
            ways,
        )

    def _plan_links(self) -> None:
        """802.1Q links that settings ask for; one that somebody else made is used as it is."""
        wanted = self._wanted
        for attachment in wanted.myself.attachments:
            if not attachment.parent_interface:
                continue
            name, owner = attachment.interface, f"network/{attachment.network}"
            parent = wanted.interfaces.get(attachment.parent_interface)
            there = wanted.interfaces.get(name)
            if parent is None:
                self._problems[owner] = f"interface {attachment.parent_interface} is not there"
            elif there is None or there.is_ours:
                self._plan_link(attachment, parent)
            elif (there.kind, there.parent, there.vlan_id) != (
                "vlan",
                parent.index,
                attachment.vlan_id,
            ):
                self._problems[owner] = (
                    f"interface {name} is somebody else's and not VLAN {attachment.vlan_id} "
                    f"of {attachment.parent_interface}"
                )

    def _plan_link(self, attachment: Attachment, parent: Interface) -> None:
        """One that we make; an IPv4 and an IPv6 network may share it."""
        name, owner = attachment.interface, f"network/{attachment.network}"
        network = self._wanted.networks.get(attachment.network)
        addresses = self._wanted.made_addresses.get(name, frozenset())
        if network is not None and all(each.ip != attachment.address for each in addresses):
            own = _on_link(network, attachment.address)
            if own is not None:
                addresses |= {own}
            elif attachment.address is not None:
                self._problems[owner] = (
                    f"the address {attachment.address} of {name} has no length: "
                    "this node's settings have to say it"
                )
        if name in self._links:
            addresses |= self._links[name].addresses
        mtu = max(
            self._wanted.networks[each.network].mtu if each.network in self._wanted.networks else 0
            for each in self._wanted.myself.attachments
            if each.interface == name
        )
        if mtu > parent.mtu:
            self._problems[owner] = (
                f"the MTU of {name} is to be {mtu} bytes, and {parent.name} below it has "
                f"{parent.mtu}"
            )
            mtu = parent.mtu
        there = self._wanted.interfaces.get(name)
        if there is not None and there.accept_ra:
            # what is advertised on a VLAN is for others: this link has the addresses that are said
            self._set(f"net/ipv6/conf/{name}/accept_ra", "0", owner)
        self._links[name] = VlanLink(
            attachment.parent_interface,
            attachment.vlan_id,
            mtu if mtu != parent.mtu else 0,
            addresses,
        )
        self._owners[Kind.LINK, name] = owner

    def _plan_peers(self) -> Ways:
        """One nexthop per other node and network; returns which way leads to a node."""
        wanted = self._wanted
        ways: dict[tuple[NetworkName, NodeName], bytes] = {}
        for (name, node), address in self._wanted.peers.items():
            place = self._places.get(name)
            if place is None or node == wanted.myself.node or not self._is_direct(place, address):
                continue
            number = wanted.numbers.nexthops[peer_name(name, node)]
            self._nexthops[number] = Nexthop(place.interface.index, address)
            self._owners[Kind.NEXTHOP, number] = f"peer/{name}/{node}"
            ways[name, node] = route_bytes.by_nexthop(number)
        for name in self._places:
            ways[name, wanted.myself.node] = route_bytes.unreachable()
        return ways

    def _is_direct(self, place: Place, address: Address) -> bool:
        """Whether a node is on our own link. Others are behind the gateway, which knows the way."""
        network = place.network
        if address.version != network.cidr.version:
            return False
        return (
            network.gateway is None
            or (network.mode is Mode.ONLINK and address in network.cidr)
            or place.interface.reaches(address)
        )

    def _plan_network(self, place: Place) -> None:
        network, interface, table = place.network, place.interface, place.table
        version, owner = network.cidr.version, f"network/{network.name}"
        family = "ipv4" if version == _IPV4 else "ipv6"
        self._plan_forwarding(version, owner)
        direct = route_bytes.on_link(version, interface.index)
        if network.mode is Mode.ONLINK:
            self._put(route_bytes.route_key(table, network.cidr), direct, owner)
            # An aggregated prefix may cover what is not an endpoint: nodes and the gateway.
            for address in self._machines(place):
                self._put(route_bytes.host_key(table, address), direct, owner)
            self._set(f"net/{family}/neigh/{interface.name}/proxy_delay", "0", owner)
            if version != _IPV4:
                self._set(f"net/ipv6/conf/{interface.name}/proxy_ndp", "1", owner)
        gateway = network.gateway
        if gateway is not None:
            everything = network.cidr.supernet(new_prefix=0)
            self._put(
                route_bytes.route_key(table, everything),
                route_bytes.by_gateway(interface.index, gateway),
                owner,
            )
        elif version == _IPV4:
            # Else the kernel would not answer endpoints' ARP for it: it has to know a way to it.
            self._put(route_bytes.host_key(table, LINK_GATEWAY), direct, owner)

    def _plan_forwarding(self, version: int, owner: str) -> None:
        """An interface that forwards IPv6 does not heed router advertisements any more, and the
        node would lose its default route; 2 says that it shall all the same, if it did before. It
        is said first: the kernel drops what was advertised when forwarding begins."""
        if version == _IPV4:
            self._set("net/ipv4/ip_forward", "1", owner)
            self._set(VALID_MARK, "1", owner)
            return
        for interface in self._wanted.interfaces.values():
            if interface.accept_ra and interface.name not in self._links:
                self._set(f"net/ipv6/conf/{interface.name}/accept_ra", "2", owner)
        self._set("net/ipv6/conf/all/forwarding", "1", owner)

    def _machines(self, place: Place) -> Iterable[Address]:
        """Addresses of an onlink network that are on the link, and that we know of."""
        network = place.network
        if network.gateway is not None:
            yield network.gateway
        for (name, node), address in self._wanted.peers.items():
            if (
                name == network.name
                and node != self._wanted.myself.node
                and address in network.cidr
            ):
                yield address

    def _plan_rules(self) -> None:
        for name, rule in chain(
            steering_rules(self._places), way_rules(self._places, self._numbers.ways)
        ):
            self._rules[rule] = None
            self._owners.setdefault((Kind.RULE, rule), f"network/{name}")

    def _marking(self) -> Mapping[str, Contents]:
        if not self._places:
            return {}
        return {
            TABLE: Contents.of(way_table(self._places, self._numbers.ways)),
            **copy_tables(way for way in self._wanted.devices if way.network in self._places),
        }

    def _plan_devices(self) -> None:
        """A table for each arm of a device that this node can send to, and the rules to them."""
        wanted = self._wanted
        tables: dict[int, int] = {}
        for way in wanted.devices:
            place = self._places.get(way.network)
            if place is None or way.address.version != place.network.cidr.version:
                continue
            name = device_name(way)
            owner, number = name.removeprefix("/"), wanted.numbers.nexthops[name]
            tables[way.number] = wanted.numbers.tables[name]
            self._nexthops[number] = Nexthop(place.interface.index, way.address)
            self._owners[Kind.NEXTHOP, number] = owner
            self._put(*device_way(tables[way.number], way, number), owner)
        for rule in device_rules(wanted.devices, tables, self._places):
            self._rules[rule] = None
            self._owners[Kind.RULE, rule] = "devices"

    def _put(self, key: bytes, value: bytes, owner: str) -> None:
        self._routes[key] = value
        self._owners[Kind.ROUTE, key] = owner

    def _set(self, path: str, value: str, owner: str) -> None:
        self._sysctls[path] = value
        self._owners[Kind.SYSCTL, path] = owner


def _on_link(network: Network, address: Address | None) -> InterfaceAddress | None:
    """An address with the length of its subnet, where that is the network's; else it is unknown."""
    if address is None or network.mode is not Mode.ONLINK or address not in network.cidr:
        return None
    return ip_interface(f"{address}/{network.cidr.prefixlen}")
