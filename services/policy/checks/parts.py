"""Checks what policies are made of: selectors, peers, ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Network
from typing import Final

from services.common.errors import Violation
from services.common.model.names import NetworkName, labels, resource_name, subject_name
from services.common.model.network import Prefix
from services.common.model.rules import MAX_PORT, CidrBlock, PortMatch, Protocol, Tier
from services.policy.model import (
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Policy,
    Target,
)

MAX_REQUIREMENTS: Final = 64
MAX_NAMES: Final = 1024
"""Of one kind in one selector, and values of one condition."""
MAX_EXCEPTIONS: Final = 1024
MAX_PORT_NAME: Final = 63
MAX_ICMP: Final = 255

_ICMP_VERSION: Final = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}


def check_target(target: Target, tier: Tier, at: str) -> Iterator[Violation]:
    if isinstance(target, EndpointSelector):
        yield from check_selector(target, f"{at}.endpoints")
        return
    if tier is Tier.TENANT:
        yield Violation(f"{at}.nodes", "nodes are for tiers ADMIN and BASELINE, not TENANT")
    yield from _nodes(target, f"{at}.nodes")


def check_peer(peer: Peer, at: str) -> Iterator[Violation]:
    match peer:
        case EndpointSelector():
            yield from check_selector(peer, f"{at}.endpoints")
        case CidrBlock():
            yield from _block(peer, f"{at}.cidr")
        case NodeSelector():
            yield from _nodes(peer, f"{at}.nodes")
        case NetworkPeer():
            yield from resource_name(peer.network, f"{at}.network")


def check_selector(selector: EndpointSelector, at: str) -> Iterator[Violation]:
    for name, items, check_name in (
        ("tenants", selector.tenants, subject_name),
        ("segments", selector.segments, subject_name),
        ("networks", selector.networks, resource_name),
    ):
        if len(items) > MAX_NAMES:
            yield Violation(f"{at}.{name}", f"has more than {MAX_NAMES} names")
            continue
        for number, item in enumerate(items):
            yield from check_name(item, f"{at}.{name}[{number}]")
    yield from _label_selector(selector.labels, f"{at}.labels")
    yield from _label_selector(selector.tenant_labels, f"{at}.tenant_labels")


def check_port(port: PortMatch, peers: Sequence[Peer], at: str) -> Iterator[Violation]:
    numbered = bool(port.first or port.last)
    icmp = port.icmp_type is not None or port.icmp_code is not None
    if port.protocol is None and (numbered or port.name or icmp):
        yield Violation(f"{at}.protocol", "is missing: without it nothing else can be said")
        return
    if port.protocol is None:
        return
    if port.protocol.has_ports:
        if icmp:
            yield Violation(f"{at}.icmp_type", f"{port.protocol} has none: ICMP and ICMPv6 only")
        yield from _numbers(port, at)
        return
    if numbered or port.name:
        yield Violation(
            f"{at}.{'port' if numbered else 'port_name'}", f"{port.protocol} has no ports"
        )
    for name, value in (("icmp_type", port.icmp_type), ("icmp_code", port.icmp_code)):
        if value is not None and not 0 <= value <= MAX_ICMP:
            yield Violation(f"{at}.{name}", f"{value} is not between 0 and {MAX_ICMP}")
    if port.icmp_code is not None and port.icmp_type is None:
        yield Violation(f"{at}.icmp_code", "means nothing without icmp_type")
    version = _ICMP_VERSION[port.protocol]
    if peers and all(isinstance(p, CidrBlock) and p.cidr.version != version for p in peers):
        yield Violation(f"{at}.protocol", f"{port.protocol} is of IPv{version} and no peer is")


def port_name(text: str, at: str) -> Iterator[Violation]:
    """Checks an endpoint's name for one of its ports."""
    if not text:
        yield Violation(at, "is missing")
    elif len(text) > MAX_PORT_NAME or not text.isprintable():
        yield Violation(at, f"is not 1 to {MAX_PORT_NAME} printable characters")


def networks_of(policy: Policy) -> Iterator[tuple[str, NetworkName]]:
    """The networks that a policy names, each with its field path."""
    for number, target in enumerate(policy.targets):
        if isinstance(target, EndpointSelector):
            yield from _networks(target, f"targets[{number}].endpoints")
    for direction, rules in policy.rules.items():
        for number, rule in enumerate(rules):
            for place, peer in enumerate(rule.peers):
                at = f"{direction}[{number}].peers[{place}]"
                if isinstance(peer, NetworkPeer):
                    yield f"{at}.network", peer.network
                elif isinstance(peer, EndpointSelector):
                    yield from _networks(peer, f"{at}.endpoints")


def _networks(selector: EndpointSelector, at: str) -> Iterator[tuple[str, NetworkName]]:
    for number, name in enumerate(selector.networks):
        yield f"{at}.networks[{number}]", name


def _nodes(selector: NodeSelector, at: str) -> Iterator[Violation]:
    if len(selector.names) > MAX_NAMES:
        yield Violation(f"{at}.names", f"has more than {MAX_NAMES} names")
    else:
        for number, name in enumerate(selector.names):
            yield from subject_name(name, f"{at}.names[{number}]")
    yield from _label_selector(selector.labels, f"{at}.labels")


def _label_selector(selector: LabelSelector, at: str) -> Iterator[Violation]:
    if len(selector.requirements) > MAX_REQUIREMENTS:
        yield Violation(at, f"has more than {MAX_REQUIREMENTS} conditions")
        return
    for part in selector.requirements:
        place = f"{at}[{part.key[:80]!r}]"
        needed = part.operator in {Operator.IN, Operator.NOT_IN}
        if needed and not part.values:
            yield Violation(place, f"{part.operator} needs at least one value")
        elif part.values and not needed:
            yield Violation(place, f"{part.operator} takes no values")
        if len(part.values) > MAX_NAMES:
            yield Violation(place, f"has more than {MAX_NAMES} values")
            continue
        for value in part.values or ("",):
            for wrong in labels({part.key: value}, at):
                yield Violation(place, wrong.message)


def _block(block: CidrBlock, at: str) -> Iterator[Violation]:
    if len(block.exceptions) > MAX_EXCEPTIONS:
        yield Violation(f"{at}.except", f"has more than {MAX_EXCEPTIONS} prefixes")
        return
    for number, exception in enumerate(block.exceptions):
        place = f"{at}.except[{number}]"
        if exception.version != block.cidr.version:
            yield Violation(place, f"{exception} is not of the family of {block.cidr}")
        elif not _inside(exception, block.cidr):
            yield Violation(place, f"{exception} is not inside {block.cidr}")
        elif exception == block.cidr:
            yield Violation(place, f"{exception} is all of it: nothing is left")


def _inside(inner: Prefix, outer: Prefix) -> bool:
    if isinstance(inner, IPv6Network):
        return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
    return not isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _numbers(port: PortMatch, at: str) -> Iterator[Violation]:
    if port.name:
        yield from port_name(port.name, f"{at}.port_name")
        if port.first:
            yield Violation(f"{at}.port_name", "either a number or a name, not both")
        elif port.last:
            yield Violation(f"{at}.end_port", "a range begins with a number, not with a name")
    elif port.last and not port.first:
        yield Violation(f"{at}.end_port", "means nothing without port, where the range begins")
    else:
        for name, number in (("port", port.first), ("end_port", port.last)):
            if not 0 <= number <= MAX_PORT:
                yield Violation(f"{at}.{name}", f"{number} is not a port: 1 to {MAX_PORT}")
        if port.first and port.last < port.first:
            yield Violation(
                f"{at}.end_port", f"{port.last} is less than port, {port.first}: upside down"
            )
