"""Checks networks on their own: every problem is reported, and what is sound is passed on."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

from services.common.document.values import parse_address, parse_prefix
from services.common.errors import Violation
from services.common.model.names import NetworkName, Tenant, resource_name, subject_name
from services.common.model.network import (
    DEFAULT_REUSE_DELAY,
    MAX_BLOCK_BITS,
    Address,
    Mode,
    Network,
    Prefix,
    default_block_length,
    edges,
)
from services.topology.model.draft import NetworkDraft, SpecDraft

MAX_VLAN_ID = 4094
MAX_MTU = 65535
MIN_MTU = {4: 68, 6: 1280}
"""RFC 791 and RFC 8200: what every link of the family carries."""
MAX_REUSE_DELAY = 31 * 86400.0
"""Seconds. An address that rests for longer was meant to be a reservation."""

_UNUSABLE = tuple(
    (ip_network(text), why)
    for text, why in (
        ("0.0.0.0/8", "this-host addresses"),
        ("127.0.0.0/8", "loopback addresses"),
        ("169.254.0.0/16", "link-local addresses"),
        ("224.0.0.0/4", "multicast addresses"),
        ("255.255.255.255/32", "the broadcast address"),
        ("::1/128", "the loopback address"),
        ("fe80::/10", "link-local addresses"),
        ("ff00::/8", "multicast addresses"),
    )
)


def check_networks(spec: SpecDraft, problems: list[Violation]) -> tuple[Network, ...]:
    """The networks that are sound; the problems of all are added to `problems`."""
    if not spec.networks:
        problems.append(Violation(spec.field(spec.at, "networks"), "there is no network"))
    seen: set[str] = set()
    sound: list[tuple[NetworkDraft, Network]] = []
    for draft in spec.networks:
        at = spec.field(draft.at, "name")
        wrong = list(resource_name(draft.name, at))
        if draft.name in seen:
            wrong.append(Violation(at, f"there is another network {draft.name!r}"))
        seen.add(draft.name)
        problems.extend(wrong)
        network = _network(spec, draft, problems)
        if network is not None and not wrong:
            sound.append((draft, network))
    _overlaps(spec, sound, problems)
    return tuple(network for _, network in sound)


def edge(address: Address, cidr: Prefix) -> str:
    """What an address is by its place in a subnet, such that no machine may have it; empty: it may
    have it."""
    if address not in edges(cidr):
        return ""
    if isinstance(cidr, IPv6Network):
        return f"the subnet-router anycast address of {cidr}, which every router answers for"
    return f"the first or last address of {cidr}"


def check_vlan_id(vlan_id: int, at: str, problems: list[Violation]) -> bool:
    """Checks an 802.1Q id; 0 stands for untagged."""
    if 0 <= vlan_id <= MAX_VLAN_ID:
        return True
    problems.append(Violation(at, f"{vlan_id} is not a VLAN id: 1 to {MAX_VLAN_ID}"))
    return False


def _network(spec: SpecDraft, draft: NetworkDraft, problems: list[Violation]) -> Network | None:
    def at(name: str) -> str:
        return spec.field(draft.at, name)

    tenants = _tenants(draft, at("tenants"), problems)
    check_vlan_id(draft.vlan_id, at("vlan_id"), problems)
    delay = DEFAULT_REUSE_DELAY if draft.reuse_delay is None else draft.reuse_delay
    if not 0 <= delay <= MAX_REUSE_DELAY:
        problems.append(
            Violation(at("reuse_delay"), f"{delay:g} s is not between 0 and {MAX_REUSE_DELAY:g} s")
        )
    if not draft.cidr:
        problems.append(Violation(at("cidr"), "is missing"))
        return None
    cidr = parse_prefix(draft.cidr, at("cidr"), problems)
    if cidr is None:
        return None
    for unusable, why in _UNUSABLE:
        if unusable.version == cidr.version and unusable.overlaps(cidr):
            problems.append(Violation(at("cidr"), f"{cidr} has {why} in it"))
            return None
    if draft.mtu and not MIN_MTU[cidr.version] <= draft.mtu <= MAX_MTU:
        problems.append(
            Violation(
                at("mtu"),
                f"{draft.mtu} is not between {MIN_MTU[cidr.version]} and {MAX_MTU} "
                f"(IPv{cidr.version})",
            )
        )
    return Network(
        name=NetworkName(draft.name),
        cidr=cidr,
        block_length=_block_length(draft.block_length, cidr, at("block_length"), problems),
        tenants=tenants,
        vlan_id=draft.vlan_id,
        gateway=_gateway(draft, cidr, at("gateway"), problems),
        mtu=draft.mtu,
        mode=draft.mode,
        placement=draft.placement,
        reuse_delay=delay,
        isolation=draft.isolation,
        masquerade=draft.masquerade,
    )


def _tenants(draft: NetworkDraft, at: str, problems: list[Violation]) -> tuple[Tenant, ...]:
    seen: set[str] = set()
    for number, tenant in enumerate(draft.tenants):
        problems.extend(subject_name(tenant, f"{at}[{number}]"))
        if tenant in seen:
            problems.append(Violation(f"{at}[{number}]", f"{tenant!r} is there already"))
        seen.add(tenant)
    return tuple(Tenant(tenant) for tenant in draft.tenants)


def _block_length(length: int, cidr: Prefix, at: str, problems: list[Violation]) -> int:
    default = default_block_length(cidr)
    if length == 0:
        return default
    if length > cidr.max_prefixlen:
        problems.append(
            Violation(at, f"{length} is longer than an address, which has {cidr.max_prefixlen}")
        )
    elif length < cidr.prefixlen:
        problems.append(
            Violation(at, f"a block of /{length} is larger than the network, which is {cidr}")
        )
    elif cidr.max_prefixlen - length > MAX_BLOCK_BITS:
        problems.append(
            Violation(
                at,
                f"a block of /{length} has more than {1 << MAX_BLOCK_BITS} addresses: at least "
                f"/{cidr.max_prefixlen - MAX_BLOCK_BITS} is needed",
            )
        )
    else:
        return length
    return default


def _gateway(
    draft: NetworkDraft, cidr: Prefix, at: str, problems: list[Violation]
) -> Address | None:
    if not draft.gateway:
        return None
    gateway = parse_address(draft.gateway, at, problems)
    if gateway is None:
        return None
    if gateway.version != cidr.version:
        problems.append(
            Violation(at, f"{gateway} is not of the network's family, IPv{cidr.version}")
        )
    elif gateway.is_multicast or gateway.is_unspecified or gateway.is_loopback:
        problems.append(Violation(at, f"{gateway} is not the address of a gateway"))
    elif draft.mode is Mode.ONLINK and gateway not in cidr:
        problems.append(
            Violation(at, f"{gateway} is outside {cidr}, where an onlink network has its gateway")
        )
    elif draft.mode is Mode.ONLINK and (what := edge(gateway, cidr)):
        problems.append(Violation(at, f"{gateway} is {what}"))
    return gateway


def _overlaps(
    spec: SpecDraft, networks: list[tuple[NetworkDraft, Network]], problems: list[Violation]
) -> None:
    """Prefixes nest or are disjoint, so one pass in address order finds an overlap of each."""
    ordered = sorted(
        range(len(networks)),
        key=lambda i: (
            networks[i][1].cidr.version,
            int(networks[i][1].cidr.network_address),
            networks[i][1].cidr.prefixlen,
        ),
    )
    found: list[tuple[int, int]] = []
    outer: int | None = None
    for number in ordered:
        cidr = networks[number][1].cidr
        if (
            outer is not None
            and networks[outer][1].cidr.version == cidr.version
            and cidr.network_address in networks[outer][1].cidr
        ):
            found.append((max(outer, number), min(outer, number)))
        else:
            outer = number
    for later, earlier in sorted(found):
        draft, network = networks[later]
        other = networks[earlier][1]
        problems.append(
            Violation(
                spec.field(draft.at, "cidr"),
                f"{network.cidr} overlaps {other.cidr} of network {other.name!r}",
            )
        )
