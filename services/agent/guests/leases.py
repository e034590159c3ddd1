"""The leases that dnsmasq keeps on disk, and what it complains of. Pure.

A lease is of a MAC address or DUID, and dnsmasq lets nobody else have its address before it ends:
not a guest that was installed anew, or that starts from another system than before. The interface
says whose the address is, so such a lease is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from services.common.model.network import Address

_ADDRESS: Final = 2
"""Which word of a line: after the time, and the MAC address or the IAID."""
_REFUSED: Final = re.compile(
    r": (?:DHCP\w+|NOANSWER)\(([^()\s]+)\) .*(?:no address(?:es)? available|address in use)"
)


def without(leases: str, wanted: Collection[Address], forgotten: Collection[Address]) -> str:
    """What of a file stays: leases of addresses that are wanted and not forgotten, and the server's
    own DUID."""
    return "".join(
        line
        for line in leases.splitlines(keepends=True)
        if (address := _address(line)) is None or (address in wanted and address not in forgotten)
    )


def refused(log: str) -> frozenset[str]:
    """Interfaces whose guests were told that there is no address for them."""
    return frozenset(_REFUSED.findall(log))


def _address(line: str) -> Address | None:
    words = line.split()
    try:
        return ip_address(words[_ADDRESS])
    except (IndexError, ValueError):
        return None
