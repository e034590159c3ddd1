"""What is wrong with a lab's file, each with its field path. Pure.

What only the carved topology can tell is in `lab.routing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from lab.spec import MANAGEMENT, TRANSFER, Address, Interface, Lab, Network, Prefix, Protocol, Rack
from services.common.errors import Violation

RESERVED_NAMES = frozenset({"fabric", "router", "control"})
MAX_RACK_NAME = 15
"""Characters: the core router's interface has that name (linux/if.h: IFNAMSIZ)."""
MIN_SUBNET = 4
"""Addresses: its first and its last, the router, a node."""

_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_VLAN = 4094
_MAX_PORT = 65535


def checked(lab: Lab) -> Iterator[Violation]:
    if not _LAB_NAME.fullmatch(lab.name):
        yield Violation("name", "is not 1 to 31 of a-z, 0-9 and '-', starting with a-z or 0-9")
    yield from _check_networks(lab)
    yield from _check_racks(lab)
    yield from _check_names(lab)
    yield from _check_access(lab)
    nodes = {node.name: node for node in lab.nodes}
    for number, endpoint in enumerate(lab.endpoints):
        at = f"endpoints[{number}]"
        if endpoint.node not in nodes:
            yield Violation(f"{at}.node", f"no node {endpoint.node!r}")
        elif endpoint.network and endpoint.network not in nodes[endpoint.node].addresses:
            yield Violation(f"{at}.network", f"{endpoint.node} is not on {endpoint.network!r}")
    yield from _check_places(lab)
    yield from _check_taken(lab)


def _check_access(lab: Lab) -> Iterator[Violation]:
    known = {network.name: network for network in lab.networks}
    for number, access in enumerate(lab.router.allow):
        at = f"router.allow[{number}]"
        for field, name in (("from", access.source), ("to", access.destination)):
            if name not in known:
                yield Violation(f"{at}.{field}", f"no network {name!r}")
        if access.ports and access.protocol not in {Protocol.TCP, Protocol.UDP}:
            yield Violation(f"{at}.ports", "only tcp and udp have ports")
        if any(not 0 < port <= _MAX_PORT for port in access.ports):
            yield Violation(f"{at}.ports", "a port is 1 to 65535")


def _check_networks(lab: Lab) -> Iterator[Violation]:
    seen: list[Network] = []
    for number, network in enumerate(lab.networks):
        at = f"networks[{number}]"
        yield from (
            _check_routed(lab, network, at) if network.is_routed else _check_vlan(network, at)
        )
        yield from _check_own(lab, network.cidr, f"{at}.cidr")
        for other in seen:
            if other.name == network.name:
                yield Violation(f"{at}.name", f"{network.name!r} is there twice")
            if network.vlan_id and other.vlan_id == network.vlan_id:
                yield Violation(f"{at}.vlan_id", f"is that of {other.name}")
            if _overlap(other.cidr, network.cidr):
                yield Violation(f"{at}.cidr", f"overlaps {other.name}'s {other.cidr}")
        seen.append(network)


def _check_vlan(network: Network, at: str) -> Iterator[Violation]:
    if not 0 < network.vlan_id <= _MAX_VLAN:
        yield Violation(f"{at}.vlan_id", f"is not 1 to {_MAX_VLAN}")
    if network.gateway not in network.cidr:
        yield Violation(f"{at}.gateway", f"is not in {network.cidr}")


def _check_routed(lab: Lab, network: Network, at: str) -> Iterator[Violation]:
    if not lab.racks:
        yield Violation(
            f"{at}.mode", "a routed network lies behind the nodes of racks, and `racks` has none"
        )
    if network.vlan_id:
        yield Violation(f"{at}.vlan_id", "a routed network is on the racks' cables, not on a VLAN")
    if network.gateway.version != network.cidr.version:
        yield Violation(f"{at}.gateway", f"is not of the family of {network.cidr}")
    for rack in lab.racks:
        if any(network.gateway in subnet for subnet in rack.subnets):
            yield Violation(
                f"{at}.gateway",
                f"is in the subnet of {rack.name}; the routers of all racks have this address, so "
                "it is in none of their subnets",
            )


def _check_own(lab: Lab, prefix: Prefix, at: str) -> Iterator[Violation]:
    """Whether it is clear of what the lab uses itself."""
    if _overlap(prefix, MANAGEMENT):
        yield Violation(at, f"overlaps the management network {MANAGEMENT}")
    if lab.racks and _overlap(prefix, TRANSFER[prefix.version]):
        yield Violation(
            at, f"overlaps {TRANSFER[prefix.version]}, which is between the lab's routers"
        )


def _check_racks(lab: Lab) -> Iterator[Violation]:
    if lab.racks and lab.trunk:
        yield Violation("trunk", "a lab with racks has no trunks")
    if lab.racks and not lab.routed:
        yield Violation("racks", "no network has `mode: routed`: there is nothing behind them")
    if lab.racks and not lab.topologies:
        yield Violation("topologies", "a lab with racks needs one: it says what is behind each")
    others = [(f"network {network.name}'s", network.cidr) for network in lab.networks]
    for number, rack in enumerate(lab.racks):
        at = f"racks[{number}]"
        if len(rack.name) > MAX_RACK_NAME:
            yield Violation(f"{at}.name", f"has more than {MAX_RACK_NAME} characters")
        if not rack.router:
            yield Violation(f"{at}.router", "has no address")
        if len({own.version for own in rack.router}) < len(rack.router):
            yield Violation(f"{at}.router", "has two addresses of one family")
        for place, own in enumerate(rack.router):
            yield from _check_subnet(lab, own, others, f"{at}.router[{place}]")
        others += [(f"{rack.name}'s", subnet) for subnet in rack.subnets]


def _check_subnet(
    lab: Lab, own: Interface, others: Sequence[tuple[str, Prefix]], at: str
) -> Iterator[Violation]:
    """Checks the subnet of a rack by its router's address."""
    subnet = own.network
    if subnet.num_addresses < MIN_SUBNET:
        yield Violation(at, f"{subnet} has no room for nodes: say the length of the subnet")
    elif own.ip in {subnet[0], subnet[-1]}:
        yield Violation(at, f"{own.ip} is the first or last address of {subnet}")
    yield from _check_own(lab, subnet, at)
    for whose, prefix in others:
        if _overlap(prefix, subnet):
            yield Violation(at, f"{subnet} overlaps {whose} {prefix}")


def _check_names(lab: Lab) -> Iterator[Violation]:
    seen: set[str] = set(RESERVED_NAMES)
    named = (
        *(("racks", number, rack.name) for number, rack in enumerate(lab.racks)),
        *(("nodes", number, node.name) for number, node in enumerate(lab.nodes)),
        *(("endpoints", number, each.name) for number, each in enumerate(lab.endpoints)),
        *(("machines", number, each.name) for number, each in enumerate(lab.machines)),
        *(("firewalls", number, each.name) for number, each in enumerate(lab.firewalls)),
    )
    for kind, number, name in named:
        at = f"{kind}[{number}].name"
        if not _HOST_NAME.fullmatch(name):
            yield Violation(at, "is not 1 to 63 of a-z, 0-9 and '-', starting with a-z or 0-9")
        elif name in seen:
            yield Violation(at, f"{name!r} is taken")
        seen.add(name)


def _check_places(lab: Lab) -> Iterator[Violation]:
    """Whether nodes, machines and firewalls are where their addresses say."""
    networks = {network.name: network for network in lab.networks}
    racks = {rack.name: rack for rack in lab.racks}
    for number, node in enumerate(lab.nodes):
        at = f"nodes[{number}]"
        if not node.addresses:
            yield Violation(f"{at}.addresses", "a node is on at least one network")
        if node.rack and node.rack not in racks:
            yield Violation(f"{at}.rack", f"no rack {node.rack!r}")
        elif node.rack and not any(network.name in node.addresses for network in lab.routed):
            yield Violation(f"{at}.rack", "the node is on no routed network")
        for name, address in node.addresses.items():
            here = f"{at}.addresses.{name}"
            network = networks.get(name)
            if network is None:
                yield Violation(here, f"no network {name!r}")
            elif network.is_routed:
                yield from _check_in_rack(network, racks.get(node.rack), address, here)
            else:
                yield from _check_inside(network, address, here)
    yield from _check_machines(lab, networks)
    yield from _check_firewalls(lab, networks)


def _check_machines(lab: Lab, networks: Mapping[str, Network]) -> Iterator[Violation]:
    for number, machine in enumerate(lab.machines):
        at = f"machines[{number}]"
        network = networks.get(machine.network)
        if network is None:
            yield Violation(f"{at}.address", f"no network {machine.network!r}")
        elif network.is_routed:
            yield Violation(f"{at}.network", f"{network.name} is routed: only nodes are behind it")
        else:
            yield from _check_inside(network, machine.address, f"{at}.address")


def _check_firewalls(lab: Lab, networks: Mapping[str, Network]) -> Iterator[Violation]:
    for number, each in enumerate(lab.firewalls):
        at = f"firewalls[{number}]"
        if not each.addresses:
            yield Violation(f"{at}.addresses", "a firewall is on at least one network")
        for name, outside in each.outside.items():
            inside = each.addresses.get(name)
            if inside is None:
                yield Violation(f"{at}.outside.{name}", f"it has no address on {name!r}, no inside")
            elif inside.version != outside.address.version:
                yield Violation(
                    f"{at}.outside.{name}.address", f"is of another family than inside: {inside}"
                )
        for arm in each.arms:
            here = f"{at}.{arm.at}"
            network = networks.get(arm.network)
            if network is None:
                yield Violation(here, f"no network {arm.network!r}")
            elif network.is_routed:
                yield Violation(here, f"{arm.network} is routed: only nodes are behind it")
            else:
                yield from _check_inside(network, arm.address, here)


def _check_inside(network: Network, address: Address, at: str) -> Iterator[Violation]:
    if address not in network.cidr:
        yield Violation(at, f"{address} is not in {network.name}'s {network.cidr}")


def _check_in_rack(
    network: Network, rack: Rack | None, address: Address, at: str
) -> Iterator[Violation]:
    if rack is None:
        yield Violation(at, f"{network.name} is routed: the node has to be in a rack")
    elif address.version != network.cidr.version:
        yield Violation(at, f"{address} is not of the family of {network.cidr}")
    elif not any(address in subnet for subnet in rack.subnets):
        subnets = ", ".join(map(str, rack.subnets))
        yield Violation(at, f"{address} is not in {rack.name}'s {subnets}")


def _check_taken(lab: Lab) -> Iterator[Violation]:
    """Whether two have an address; a node's in its rack may be for several networks."""
    taken = {network.gateway: f"the gateway of {network.name}" for network in lab.networks}
    taken |= {own.ip: f"the router of {rack.name}" for rack in lab.racks for own in rack.router}
    placed = [
        (f"nodes[{number}].addresses.{network}", node.name, address)
        for number, node in enumerate(lab.nodes)
        for network, address in node.addresses.items()
    ] + [
        (f"machines[{number}].address", machine.name, machine.address)
        for number, machine in enumerate(lab.machines)
    ]
    placed += [
        (
            f"firewalls[{number}].{arm.at}",
            f"the outside of {each.name}" if arm.is_outside else each.name,
            arm.address,
        )
        for number, each in enumerate(lab.firewalls)
        for arm in each.arms
    ]
    for at, name, address in placed:
        owner = taken.setdefault(address, name)
        if owner != name:
            yield Violation(at, f"{address} is that of {owner}")


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.version == other.version and one.overlaps(other)
