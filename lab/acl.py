"""The core router's access rules as an nftables file. Pure."""

from __future__ import annotations

from lab.spec import Access, Lab, Protocol

TABLE = "acl"


def rendered(lab: Lab) -> str:
    """What `nft -f` reads in the router's namespace.

    What is not allowed is refused by an ICMP message, so that whoever tries knows at once.
    """
    rules = "\n".join(f"        {_rule(lab, access)}" for access in lab.router.allow)
    return f"""\
table inet {TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
{rules}
        counter reject with icmpx admin-prohibited
    }}
}}
"""


def _rule(lab: Lab, access: Access) -> str:
    source, destination = lab.vlan(access.source), lab.vlan(access.destination)
    words = [f'iifname "{source.interface}" oifname "{destination.interface}"']
    if access.protocol is Protocol.ICMP:
        words.append("meta l4proto { icmp, ipv6-icmp }")
    elif access.protocol is not Protocol.ANY:
        words.append(f"meta l4proto {access.protocol}")
    if access.ports:
        words.append(f"th dport {{ {', '.join(map(str, access.ports))} }}")
    return f"{' '.join(words)} accept"


def permits(
    lab: Lab, source: str, destination: str, protocol: Protocol, port: int | None = None
) -> bool:
    """Whether the router lets something be opened from one network to another."""
    return any(
        (access.source, access.destination) == (source, destination)
        and access.protocol in {Protocol.ANY, protocol}
        and (not access.ports or port in access.ports)
        for access in lab.router.allow
    )
