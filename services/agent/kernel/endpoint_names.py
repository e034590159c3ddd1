"""Names that follow from an endpoint's name: interface, MAC address, alias, file.

Deterministic, so that an agent that lost everything between two steps finds what it made.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

from services.common.model.names import EndpointName

PREFIX: Final = "rom"
ALIAS: Final = "romana endpoint "
ALIAS_MOST: Final = 255
"""Bytes; IFALIASZ is 256 with the closing zero."""
HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"
"""Of the host's end of every pair, as with Calico, and of every tap: the endpoint's neighbour
entries stay right whatever is made anew, and wherever a guest moves to. Each is a link of its own,
so nobody sees it twice."""

_OURS: Final = re.compile(r"rom[a-z2-7]{12}")


def host_interface(name: EndpointName) -> str:
    """15 bytes, the most that the kernel takes: 60 bits of the name's hash."""
    return PREFIX + _digest(name)[:12]


def is_host_interface(interface: str) -> bool:
    """Says whether it looks like one of `host_interface`."""
    return _OURS.fullmatch(interface) is not None


def mac_address(name: EndpointName) -> str:
    """A unicast, locally administered address."""
    return _mac(hashlib.sha256(b"mac\0" + name.encode()).digest()[:6])


def drawn_mac() -> str:
    """Anyone, as the kernel draws one for a tap."""
    return _mac(secrets.token_bytes(6))


def _mac(octets: bytes) -> str:
    return bytes([octets[0] & 0xFC | 0x02, *octets[1:]]).hex(":")


def alias(name: EndpointName) -> str:
    """What the link says about itself; a long name is cut to what the kernel takes."""
    return (ALIAS + name).encode()[:ALIAS_MOST].decode(errors="ignore")


def file_name(name: EndpointName) -> str:
    """Of the journal: readable, and unique by the hash."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-")[:60]
    return f"{readable or 'endpoint'}-{_digest(name)[:16]}.json"


def _digest(name: EndpointName) -> str:
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode().lower()
