"""Rules of policy routing: which packets go by a network's table, and which are left alone. Pure.

In this order; `own` is this node's address on n, `cidr` that of n, `att` the interface to it:

    from own           lookup main suppress_prefixlength 0   the node itself reaches its endpoints
    to cidr            goto INCOMING                         what is for a network, from anywhere
    iif att            goto PASSED                           from the VLAN, for none: not ours
    INCOMING: iif att  lookup T(n)                           from the VLAN of n, for a network
              iif att  unreachable                           and T(n) does not know
    from cidr          lookup T(n)                           what local endpoints send
    PASSED:   nop                                            the node's own rules follow

What comes in from a VLAN is ours only where it is for a network: all else that this node forwards,
such as replies to what a bridge or a VPN sent through it, goes as if there were no agent. What is
for a network goes by the table of the VLAN that it came from, so that nobody on VLAN A reaches an
endpoint on VLAN B through this node but by the gateway. INCOMING stands before `from cidr` because
a packet that returns from the gateway on VLAN B bears a source of VLAN A and would go to A's
gateway again.

Reverse-path checks ask for the way back: with `iif lo` for what is for the node itself (so `own` is
not told by that), with the interface it leaves by for what is forwarded. So each of these rules is
the way back of another: `from cidr` by an endpoint's interface of INCOMING, and the other way
round, and `goto PASSED` of what main says without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from services.agent.kernel import route_bytes
from services.agent.kernel.numbers import (
    ASTRAY_PRIORITY,
    FOR_NETWORK_PRIORITY,
    FOR_OTHERS_PRIORITY,
    INCOMING_PRIORITY,
    NOWHERE_PRIORITY,
    OUTGOING_PRIORITY,
    OWN_ADDRESS_PRIORITY,
    PASSED_PRIORITY,
)
from services.agent.kernel.state import Action, Rule
from services.agent.routing.node_networks import Place, gateway_table
from services.common.model.names import NetworkName
from services.common.model.network import Address, Prefix


def steering_rules(
    places: Mapping[NetworkName, Place],
) -> Iterator[tuple[NetworkName, Rule]]:
    """All rules, with the network that they are for; what several share is with each of them."""
    return ((name, rule) for name, place in places.items() for rule in _rules(place, places))


def _rules(place: Place, places: Mapping[NetworkName, Place]) -> Iterator[Rule]:
    network, table, interface = place.network, place.table, place.interface.name
    version = network.cidr.version
    if place.address is not None:
        yield Rule(
            version,
            OWN_ADDRESS_PRIORITY,
            route_bytes.MAIN_TABLE,
            source=_host_prefix(place.address),
            suppressed=0,
        )
    yield Rule(
        version,
        FOR_NETWORK_PRIORITY,
        destination=network.cidr,
        action=Action.GOTO,
        target=INCOMING_PRIORITY,
    )
    yield Rule(
        version,
        FOR_OTHERS_PRIORITY,
        interface=interface,
        action=Action.GOTO,
        target=PASSED_PRIORITY,
    )
    yield Rule(
        version,
        INCOMING_PRIORITY,
        table,
        destination=network.cidr if place.shared else None,
        interface=interface,
    )
    if place.shared:
        # for a network of another interface: by one of the gateways of this one
        yield Rule(version, ASTRAY_PRIORITY, gateway_table(place, places), interface=interface)
    yield Rule(version, NOWHERE_PRIORITY, interface=interface, action=Action.UNREACHABLE)
    yield Rule(version, OUTGOING_PRIORITY, table, source=network.cidr)
    yield Rule(version, PASSED_PRIORITY, action=Action.NOP)


def _host_prefix(address: Address) -> Prefix:
    if isinstance(address, IPv4Address):
        return IPv4Network(address)
    return IPv6Network(address)
