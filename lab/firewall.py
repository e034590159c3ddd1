"""What a lab's firewall does with packets, as an nftables file and kernel parameters. Pure.

It forwards between the addresses of its own interfaces, as a device that policies lead connections
through has to. It knows every connection from its first packet, or lets nothing of it pass: what
takes another way in one direction is counted as invalid, and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

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
}
"""Before there is any interface. Without redirects nobody learns a way past it."""
TRACKING: Mapping[str, int] = {"netfilter/nf_conntrack_tcp_loose": 0}
"""Once rules ask for connection tracking: a TCP connection begins with its first packet."""
