"""Reads and checks networks: every problem is reported, and what is sound is passed on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Network, ip_network
from typing import Final

from services.common.document.fields import Fields
from services.common.document.models import ignore_output, read
from services.common.model.names import resource_name, subject_name
from services.common.model.network import (
    MAX_BLOCK_BITS,
    Address,
    Dns,
    Mode,
    Network,
    Prefix,
    default_block_length,
    edges,
)

NO_CIDR: Final = ip_network("0.0.0.0/32")
"""Stands for one that is missing, or wrong."""
MAX_VLAN_ID = 4094
MAX_DNS = 16
"""Resolvers, and domains."""
MAX_DOMAIN = 253
_DOMAIN = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
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


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a document, sound or not, by name."""

    by_name: Mapping[str, Network | None]
    """None: it is wrong itself."""
    fields: Mapping[str, Fields]
    """Where each is."""

    @property
    def sound(self) -> tuple[Network, ...]:
        return tuple(network for network in self.by_name.values() if network is not None)


def read_networks(spec: Fields) -> Networks:
    """Reads and checks the networks of a document; its findings have the problems of all."""
    by_name: dict[str, Network | None] = {}
    fields: dict[str, Fields] = {}
    for part in spec.parts("networks"):
        name, network = _read_network(part)
        if name in by_name:
            part.wrong("name", f"there is another network {name!r}")
        else:
            by_name[name] = network
            fields[name] = part
    if not by_name:
        spec.wrong("networks", "there is no network")
    networks = Networks(by_name, fields)
    _overlaps(networks)
    return networks


def edge(address: Address, cidr: Prefix) -> str:
    """What an address is by its place in a subnet, such that no machine may have it; empty: it may
    have it."""
    if address not in edges(cidr):
        return ""
    if isinstance(cidr, IPv6Network):
        return f"the subnet-router anycast address of {cidr}, which every router answers for"
    return f"the first or last address of {cidr}"


def check_vlan_id(vlan_id: int, fields: Fields) -> bool:
    """Checks an 802.1Q id; 0 stands for untagged."""
    if 0 <= vlan_id <= MAX_VLAN_ID:
        return True
    fields.wrong("vlan_id", f"{vlan_id} is not a VLAN id: 1 to {MAX_VLAN_ID}")
    return False


def _read_network(fields: Fields) -> tuple[str, Network | None]:
    """Its name, and the network if it can be used to check what refers to it."""
    ignore_output(fields, "topology")
    network = read(Network, fields, spelled={"vlan_id": "vlan"}, instead={"cidr": NO_CIDR})
    name_problems = list(resource_name(network.name, fields.path("name")))
    fields.add(name_problems)
    _check_tenants(network, fields)
    check_vlan_id(network.vlan_id, fields)
    if not 0 <= network.reuse_delay <= MAX_REUSE_DELAY:
        fields.wrong(
            "reuse_delay", f"{network.reuse_delay:g} s is not between 0 and {MAX_REUSE_DELAY:g} s"
        )
    cidr = network.cidr
    if cidr is NO_CIDR:
        if fields.is_empty("cidr"):
            fields.wrong("cidr", "is missing")
        return network.name, None
    for unusable, why in _UNUSABLE:
        if unusable.version == cidr.version and unusable.overlaps(cidr):
            fields.wrong("cidr", f"{cidr} has {why} in it")
            return network.name, None
    if network.mtu and not MIN_MTU[cidr.version] <= network.mtu <= MAX_MTU:
        fields.wrong(
            "mtu",
            f"{network.mtu} is not between {MIN_MTU[cidr.version]} and {MAX_MTU} "
            f"(IPv{cidr.version})",
        )
    _check_gateway(network, fields)
    _check_dns(network.dns or Dns(), fields.part("dns"))
    sound = replace(network, block_length=_block_length(network, fields))
    return network.name, None if name_problems else sound


def _check_tenants(network: Network, fields: Fields) -> None:
    seen: set[str] = set()
    for number, tenant in enumerate(network.tenants):
        fields.add(subject_name(tenant, fields.path(f"tenants[{number}]")))
        if tenant in seen:
            fields.wrong(f"tenants[{number}]", f"{tenant!r} is there already")
        seen.add(tenant)


def _block_length(network: Network, fields: Fields) -> int:
    cidr, length = network.cidr, network.block_length
    default = default_block_length(cidr)
    if length == 0:
        return default
    if length > cidr.max_prefixlen:
        why = f"{length} is longer than an address, which has {cidr.max_prefixlen}"
    elif length < cidr.prefixlen:
        why = f"a block of /{length} is larger than the network, which is {cidr}"
    elif cidr.max_prefixlen - length > MAX_BLOCK_BITS:
        why = (
            f"a block of /{length} has more than {1 << MAX_BLOCK_BITS} addresses: at least "
            f"/{cidr.max_prefixlen - MAX_BLOCK_BITS} is needed"
        )
    else:
        return length
    fields.wrong("block_length", why)
    return default


def _check_gateway(network: Network, fields: Fields) -> None:
    gateway, cidr = network.gateway, network.cidr
    if gateway is None:
        return
    if gateway.version != cidr.version:
        fields.wrong("gateway", f"{gateway} is not of the network's family, IPv{cidr.version}")
    elif gateway.is_multicast or gateway.is_unspecified or gateway.is_loopback:
        fields.wrong("gateway", f"{gateway} is not the address of a gateway")
    elif network.mode is Mode.ONLINK and gateway not in cidr:
        fields.wrong(
            "gateway", f"{gateway} is outside {cidr}, where an onlink network has its gateway"
        )
    elif network.mode is Mode.ONLINK and (what := edge(gateway, cidr)):
        fields.wrong("gateway", f"{gateway} is {what}")


def _check_dns(dns: Dns, fields: Fields) -> None:
    for name, items in (("nameservers", dns.nameservers), ("search", dns.search)):
        if len(items) > MAX_DNS:
            fields.wrong(name, f"more than {MAX_DNS}")
    for number, address in enumerate(dns.nameservers):
        if address.is_unspecified or address.is_multicast:
            fields.wrong(f"nameservers[{number}]", f"{address} is not the address of a resolver")
    for number, domain in enumerate(dns.search):
        if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
            fields.wrong(
                f"search[{number}]", f"{domain[:80]!r} is not a domain such as corp.example"
            )


def _overlaps(networks: Networks) -> None:
    """Prefixes nest or are disjoint, so one pass in address order finds an overlap of each."""
    sound = networks.sound
    ordered = sorted(
        range(len(sound)),
        key=lambda i: (
            sound[i].cidr.version,
            int(sound[i].cidr.network_address),
            sound[i].cidr.prefixlen,
        ),
    )
    found: list[tuple[int, int]] = []
    outer: int | None = None
    for number in ordered:
        cidr = sound[number].cidr
        if (
            outer is not None
            and sound[outer].cidr.version == cidr.version
            and cidr.network_address in sound[outer].cidr
        ):
            found.append((max(outer, number), min(outer, number)))
        else:
            outer = number
    for later, earlier in sorted(found):
        one, other = sound[later], sound[earlier]
        networks.fields[one.name].wrong(
            "cidr", f"{one.cidr} overlaps {other.cidr} of network {other.name!r}"
        )
