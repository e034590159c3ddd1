"""The access rules of the core router, and of racks' routers, as nftables files. Pure.

A VLAN is told by the interface, a routed network by its addresses. The routers of racks have the
rules too, since two routed networks meet there before either gets to the core router.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.spec import Access, Lab, Network, Prefix, Protocol

TABLE = "acl"


def rendered(lab: Lab) -> str:
    """What `nft -f` reads in the core router's namespace.

    What is not allowed is refused by an ICMP message, so that whoever tries knows at once.
    """
    return _rendered([*_inside_racks(lab), *(_rule(lab, access) for access in lab.router.allow)])


def rendered_in_rack(lab: Lab) -> str:
    """The same for a rack's router, to which a VLAN is addresses too."""
    rules = (_rule(lab, access, by_address=True) for access in lab.router.allow)
    return _rendered([*_inside_racks(lab), *rules])


def _rendered(rules: list[str]) -> str:
    lines = "\n".join(f"        {rule}" for rule in rules)
    return f"""\
table inet {TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
{lines}
        counter reject with icmpx admin-prohibited
    }}
}}
"""


def _inside_racks(lab: Lab) -> Iterator[str]:
    """What passes without being allowed: a network's own, and nodes with it and with each other."""
    subnets = [subnet for rack in lab.racks for subnet in rack.subnets]
    for network in lab.routed:
        same = [network.cidr, *(each for each in subnets if each.version == network.cidr.version)]
        yield f"{_is('saddr', same)} {_is('daddr', same)} accept"


def _rule(lab: Lab, access: Access, *, by_address: bool = False) -> str:
    source, destination = lab.network(access.source), lab.network(access.destination)
    words = [
        _side(source, "iifname", "saddr", by_address=by_address),
        _side(destination, "oifname", "daddr", by_address=by_address),
    ]
    if access.protocol is Protocol.ICMP:
        words.append("meta l4proto { icmp, ipv6-icmp }")
    elif access.protocol is not Protocol.ANY:
        words.append(f"meta l4proto {access.protocol}")
    if access.ports:
        words.append(f"th dport {{ {', '.join(map(str, access.ports))} }}")
    return f"{' '.join(words)} accept"


def _side(network: Network, interface: str, address: str, *, by_address: bool) -> str:
    if by_address or network.is_routed:
        return _is(address, [network.cidr])
    return f'{interface} "{network.interface}"'


def _is(address: str, prefixes: list[Prefix]) -> str:
    family = "ip" if prefixes[0].version == 4 else "ip6"
    return f"{family} {address} {{ {', '.join(map(str, prefixes))} }}"


def permits(
    lab: Lab, source: str, destination: str, protocol: Protocol, port: int | None = None
) -> bool:
    """Whether the routers let something be opened from one network to another."""
    return any(
        (access.source, access.destination) == (source, destination)
        and access.protocol in {Protocol.ANY, protocol}
        and (not access.ports or port in access.ports)
        for access in lab.router.allow
    )
