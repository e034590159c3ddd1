"""Reads values that are written as text."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from services.common.errors import Violation
from services.common.model.network import Address, Prefix


def parse_prefix(text: str, at: str, problems: list[Violation]) -> Prefix | None:
    """Reads a CIDR; refuses host bits and netmasks."""
    base, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdigit()) or "%" in base:
        problems.append(
            Violation(at, f"{text[:80]!r} is not a CIDR such as '10.1.0.0/16' or 'fd00:1::/64'")
        )
        return None
    try:
        prefix = ip_network(text, strict=False)
    except ValueError:
        problems.append(Violation(at, f"{text[:80]!r} is not a CIDR: address or length is wrong"))
        return None
    if ip_address(base) != prefix.network_address:
        problems.append(Violation(at, f"{text} has host bits set: the network is {prefix}"))
        return None
    return prefix


def parse_address(text: str, at: str, problems: list[Violation]) -> Address | None:
    """Reads an address without a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        problems.append(Violation(at, f"{text[:80]!r} is not an IPv4 or IPv6 address"))
        return None
    if "%" in text:
        problems.append(Violation(at, f"{text[:80]!r} has a zone, which means nothing elsewhere"))
        return None
    return address
