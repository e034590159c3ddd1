"""What a lab's firewall does with packets: nftables, kernel parameters, routes between arms. Pure.

It forwards between the addresses of its own interfaces, as a device that policies lead connections
through has to. It knows every connection from its first packet, or lets nothing of it pass: what
takes another way in one direction is counted as invalid, and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from lab.links import OnLink, Rule, Thing
from lab.routing import EVERYTHING
from lab.spec import Firewall, Lab

TABLE, INVALID = "firewall", "invalid"

RULES = f"""\
table inet {TABLE} {{
    counter {INVALID} {{ }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state invalid counter name {INVALID} drop
        ct state established,related accept
        ct state new counter accept
    }}
}}
"""
"""What `nft -f` reads in its namespace."""

PARAMETERS: Mapping[str, int] = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    "ipv4/conf/all/arp_ignore": 1,
    "ipv4/conf/all/arp_announce": 2,
}
"""Before there is any interface. Without redirects nobody learns a way past it; of two arms on one
link each speaks for its own address."""
TRACKING: Mapping[str, int] = {"netfilter/nf_conntrack_tcp_loose": 0}
"""Once rules ask for connection tracking: a TCP connection begins with its first packet."""
FIRST_TABLE = 100
"""Of routes for one arm; a rule has the same number as its table."""


def between_arms(lab: Lab, each: Firewall) -> Iterator[Thing]:
    """What comes in by one of two arms leaves by the other, on whose link everything is; what it
    says itself leaves by the arm of which it bears the address, even with both on one link."""
    tables = count(FIRST_TABLE)
    firsts = {arm.inside: arm for arm in each.arms if not arm.is_outside}
    for outside in each.arms:
        if not outside.is_outside:
            continue
        inside = firsts[outside.inside]
        for arm, other in ((inside, outside), (outside, inside)):
            version, here, there = arm.address.version, *map(lab.arm_interface, (arm, other))
            through, own = next(tables), next(tables)
            yield OnLink(EVERYTHING[version], there, through)
            yield Rule(through, version, comes_in=here)
            yield OnLink(lab.network(arm.network).cidr, here, own)
            yield Rule(own, version, source=arm.address)
