"""The one reader of addresses and prefixes that people and other programs write.

Spellings that mean nothing here, or something else than they seem to, are refused everywhere alike:
zones, IPv4 addresses in IPv6's notation (they would lie over an IPv4 network unseen), netmasks,
lengths with zeros before them, host bits where no other API lets them pass. What Romana itself
wrote, or the kernel, is not read here: `ipaddress` does.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Final

from services.common.model.network import Address, Prefix

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_SHOWN: Final = 80
"""Characters of a wrong text that a message repeats."""


def read_address(text: str) -> Address:
    """Reads an address; raises ValueError with a message for people."""
    if "%" in text:
        raise ValueError(f"{_quoted(text)} has a zone, which means nothing elsewhere")
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        raise ValueError(f"{_quoted(text)} is not an IPv4 or IPv6 address") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(
            f"{_quoted(text)} is an IPv4 address in IPv6's notation: write {address.ipv4_mapped}"
        )
    return address


def read_prefix(text: str, *, host_bits: bool = False) -> Prefix:
    """Reads a CIDR without host bits, or with bits that mean nothing.

    Raises:
        ValueError: With a message for people.
    """
    interface = _read_with_length(text)
    prefix = interface.network
    if interface.ip != prefix.network_address and not host_bits:
        raise ValueError(f"{_quoted(text)} has host bits set: the network is {prefix}")
    return prefix


def read_interface(text: str) -> IPv4Interface | IPv6Interface:
    """Reads an interface's address with the length of its subnet, or without: then all of it.

    Raises:
        ValueError: With a message for people.
    """
    if "/" in text:
        return _read_with_length(text)
    address = read_address(text)
    return IPv4Interface(address) if isinstance(address, IPv4Address) else IPv6Interface(address)


def looks_like_address(text: str) -> bool:
    """Tells what is meant as an address, in whatever spelling, from a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _read_with_length(text: str) -> IPv4Interface | IPv6Interface:
    base, slash, length = text.partition("/")
    if not slash:
        raise ValueError(f"{_quoted(text)} is not a CIDR such as '10.1.0.0/16' or 'fd00:1::/64'")
    if "%" in base:
        raise ValueError(f"{_quoted(text)} has a zone, which means nothing elsewhere")
    if not _LENGTH.fullmatch(length):
        raise ValueError(f"{_quoted(text)} is not a CIDR: its length is not a plain number")
    try:
        if ":" not in base:
            return IPv4Interface(text)
        interface = IPv6Interface(text)
    except ValueError:
        raise ValueError(f"{_quoted(text)} is not a CIDR: address or length is wrong") from None
    if interface.network.subnet_of(_MAPPED):
        bits = interface.network.prefixlen - _MAPPED.prefixlen
        inner = IPv4Network((int(interface.network.network_address) & 0xFFFFFFFF, bits))
        raise ValueError(f"{_quoted(text)} is an IPv4 prefix in IPv6's notation: write {inner}")
    return interface


def _quoted(text: str) -> str:
    return repr(text[:_SHOWN])
