"""Says in words what rules, peers and ports are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from services.common.model.rules import (
    MAX_PRIORITY,
    CidrBlock,
    Direction,
    Packet,
    PolicyName,
    PortMatch,
    Protocol,
    RuleSet,
    Tier,
)
from services.policy.model import (
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
)

SHOWN: Final = 3
"""Items of a list that are named."""

_NAMES: Final = {Protocol.ICMPV6: "ICMPv6"}
_RELATIONS: Final = {Operator.IN: "in", Operator.NOT_IN: "not in"}


def spoken(packet: Packet) -> str:
    """Such as "TCP 80"."""
    if not isinstance(packet.protocol, Protocol):
        return "a protocol without ports"
    name = protocol_name(packet.protocol)
    if packet.protocol.has_ports:
        return f"{name} {packet.port}" if packet.port else f"{name} of no port in particular"
    return f"{name} type {packet.icmp_type}"


def protocol_name(protocol: Protocol) -> str:
    """Such as "TCP"."""
    return _NAMES.get(protocol, protocol.upper())


def ports(items: Sequence[PortMatch]) -> str:
    """Such as "TCP 80, TCP 1000-2000"."""
    return listed(_port(item) for item in items)


def peers(items: Sequence[Peer]) -> str:
    """Such as "endpoints of shop with app=web"."""
    return listed(_peer(item) for item in items)


def place(rules: RuleSet, number: int) -> str:
    """A rule of a policy, such as "shop/web ingress[0]"."""
    return f"{rules.policy} {rules.direction}[{number}]"


def policies(names: Iterable[PolicyName]) -> str:
    """Such as "TENANT policies a/b and a/c" without the tier."""
    found = list(dict.fromkeys(names))
    noun = "policy" if len(found) == 1 else "policies"
    return f"{noun} {listed(found, last=' and ')}"


def tier(rules: RuleSet) -> str:
    """The tier and what orders it, such as "ADMIN (priority 10)"."""
    if rules.tier is Tier.TENANT or rules.priority > MAX_PRIORITY:
        return rules.tier.name
    return f"{rules.tier.name} (priority {rules.priority})"


def side(direction: Direction) -> str:
    """How the peer relates to the target: "from" or "to"."""
    return "from" if direction is Direction.INGRESS else "to"


def listed(items: Iterable[str], *, last: str = ", ") -> str:
    """A list of which only the first few are named."""
    found = list(items)
    if len(found) > SHOWN:
        return f"{', '.join(found[:SHOWN])} and {len(found) - SHOWN} more"
    return last.join([*([", ".join(found[:-1])] if len(found) > 1 else []), *found[-1:]])


def _port(port: PortMatch) -> str:
    if port.protocol is None:
        return "any"
    name = protocol_name(port.protocol)
    if port.name:
        return f"{name} {port.name!r}"
    if port.first:
        return f"{name} {port.first}" + (f"-{port.last}" if port.last != port.first else "")
    if port.icmp_type is not None:
        code = "" if port.icmp_code is None else f" code {port.icmp_code}"
        return f"{name} type {port.icmp_type}{code}"
    return name


def _peer(peer: Peer) -> str:
    match peer:
        case EndpointSelector():
            return _endpoints(peer)
        case CidrBlock():
            without = listed(str(one) for one in peer.exceptions)
            return f"{peer.cidr} without {without}" if without else str(peer.cidr)
        case NodeSelector():
            parts = [listed(peer.names), _labels(peer.labels)]
            return " ".join(("nodes", *filter(None, parts)))
        case NetworkPeer():
            return f"network {peer.network}"
        case _:
            return "any"


def _endpoints(selector: EndpointSelector) -> str:
    parts = ["endpoints"]
    if selector.tenants:
        parts.append(f"of {listed(selector.tenants)}")
    if selector.segments:
        parts.append(f"in segment {listed(selector.segments)}")
    if selector.networks:
        parts.append(f"on {listed(selector.networks)}")
    if selector.labels.requirements:
        parts.append(f"with {_labels(selector.labels)}")
    if selector.tenant_labels.requirements:
        parts.append(f"of tenants with {_labels(selector.tenant_labels)}")
    return " ".join(parts)


def _labels(selector: LabelSelector) -> str:
    found = []
    for one in selector.requirements:
        if one.operator is Operator.IN and len(one.values) == 1:
            found.append(f"{one.key}={one.values[0]}")
        elif one.operator in _RELATIONS:
            found.append(f"{one.key} {_RELATIONS[one.operator]} ({', '.join(one.values)})")
        else:
            found.append(one.key if one.operator is Operator.EXISTS else f"no {one.key}")
    return ", ".join(found)
