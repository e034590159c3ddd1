"""The configuration of the dnsmasq that answers the guests of a node's VMs. Pure.

A guest is known by the interface that it asks by, whatever MAC address or DUID it shows: its
`dhcp-host` has that interface's name as the tag that dnsmasq gives to what comes in there, and a
MAC address of wild cards. The node's end has no address of a guest's network, so each network is
made a shared one of the address that it has (`services.agent.kernel.wiring`). All ranges are
static: who has no line here gets no answer, and on other interfaces dnsmasq does not listen.

Of IPv4 a guest has a mask of 32 bits and a default route by way of 169.254.1.1, which option 121
says is on the link; option 3 says the same to those who do not ask for 121. Of IPv6 it has the
default route from router advertisements, which ask it to use DHCPv6 for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from services.agent.guests.guest import Guest, servers
from services.agent.kernel.wiring import ADVERTISED_LENGTH, ADVERTISER_6, GATEWAY_4
from services.common.model.network import Address, Prefix

LEASE: Final = "1h"
"""A guest that asks after half of it keeps its address while the agent is away for the other."""
DUID: Final = "32473,72:6f:6d:61:6e:61"
"""Of every node, since a guest that has moved asks the server that it has its lease of. A number
for examples (RFC 5612), which no other server has, and our name."""
ADVERTISE_SECONDS: Final = 60
ROUTER_SECONDS: Final = 1800
IPV6_MTU_LEAST: Final = 1280
_SHORTEST: Final = 64
"""Of prefixes that dnsmasq takes for DHCPv6."""


def files(folder: Path) -> tuple[Path, Path, Path, Path]:
    """Configuration, leases, process id and log."""
    names = ("dnsmasq.conf", "leases", "dnsmasq.pid", "dnsmasq.log")
    config, leases, pid, log = (folder / name for name in names)
    return config, leases, pid, log


def render(guests: Iterable[Guest], folder: Path) -> str:
    """The whole file."""
    ordered = sorted(guests, key=lambda guest: guest.interface)
    lines = [*_itself(folder), *_ranges(ordered)]
    for guest in ordered:
        lines += _guest(guest)
    return "\n".join(lines) + "\n"


def _itself(folder: Path) -> Iterator[str]:
    _, leases, pid, log = files(folder)
    yield "# Written by Romana's agent for the guests of this node's VMs."
    yield from (
        "port=0",  # no DNS
        "user=root",  # it keeps the capabilities that it was started with, which are the agent's:
        "group=",  # with these it cannot become anybody else
        "bind-dynamic",
        "no-hosts",
        "no-resolv",
        "no-ping",
        "enable-ra",
        "dhcp-authoritative",
        "dhcp-ignore-clid",
        f"dhcp-duid={DUID}",
        "quiet-dhcp",  # only what goes wrong is in the log, which the agent reads
        "quiet-dhcp6",
        "quiet-ra",
        f"dhcp-leasefile={leases}",
        f"pid-file={pid}",
        f"log-facility={log}",
    )


def _ranges(guests: Sequence[Guest]) -> Iterator[str]:
    told = [one for guest in guests for one in guest.addresses]
    prefixes = sorted({_range(one.address, one.cidr) for one in told}, key=str)
    if any(prefix.version == 6 for prefix in prefixes):
        yield f"dhcp-range={_advertised()},static,off-link,{ADVERTISED_LENGTH},{LEASE}"
    for prefix in prefixes:
        first = prefix.network_address
        if isinstance(prefix, IPv4Network):
            yield f"dhcp-range={first},static,{prefix.netmask},{LEASE}"
            yield f"shared-network={GATEWAY_4},{first}"
        else:
            yield f"dhcp-range={first},static,off-link,{prefix.prefixlen},{LEASE}"
            yield f"shared-network={ADVERTISER_6},{first}"


def _advertised() -> Address:
    return IPv6Network((ADVERTISER_6, ADVERTISED_LENGTH), strict=False).network_address


def _range(address: Address, cidr: Prefix) -> Prefix:
    """The network, or as much of it around the address as dnsmasq takes."""
    if cidr.version == 6 and cidr.prefixlen < _SHORTEST:
        return IPv6Network((int(address), _SHORTEST), strict=False)
    return cidr


def _guest(guest: Guest) -> Iterator[str]:
    name = guest.interface
    four, six = guest.address(4), guest.address(6)
    has = [
        *([str(four.address)] if four else []),
        *([f"[{six.address}]"] if six else []),
    ]
    if not has:
        return
    servers_4, servers_6 = servers(guest)
    yield f"interface={name}"
    yield ",".join([f"dhcp-host=tag:{name}", "*:*:*:*:*:*", *has])
    if four:
        options = {
            "option:netmask": "255.255.255.255",
            "option:router": str(GATEWAY_4),
            "option:classless-static-route": f"{GATEWAY_4}/32,0.0.0.0,0.0.0.0/0,{GATEWAY_4}",
            "option:mtu": str(guest.mtu or ""),
            "option:dns-server": ",".join(map(str, servers_4)),
            "option:domain-name": "".join(guest.search[:1]),
            "option:domain-search": ",".join(guest.search),
        }
        yield from _options(name, options)
    if six:
        mtu = f"mtu:{guest.mtu}," if guest.mtu >= IPV6_MTU_LEAST else ""
        yield f"ra-param={name},{mtu}{ADVERTISE_SECONDS},{ROUTER_SECONDS}"
        options = {
            "option6:dns-server": ",".join(f"[{server}]" for server in servers_6),
            "option6:domain-search": ",".join(guest.search),
        }
        yield from _options(name, options)


def _options(name: str, options: dict[str, str]) -> Iterator[str]:
    for option, value in options.items():
        if value:
            yield f"dhcp-option=tag:{name},{option},{value}"
