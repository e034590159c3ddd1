"""Ranges of addresses as people write them: prefixes, addresses, and `first-last`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network

from services.common.model.addresses import read_address, read_prefix
from services.common.model.network import Address, Prefix
from services.ipam.ledger.areas import Interval


def parse_range(text: str) -> tuple[Interval, int]:
    """Reads one range: the addresses and the family's number of bits. Raises ValueError."""
    return _read(text, read_address, read_prefix)


def stored_ranges(texts: Sequence[str]) -> tuple[Interval, ...]:
    """Reads ranges that were accepted once, by whatever rules; raises ValueError."""
    return tuple(_read(text, ip_address, ip_network)[0] for text in texts)


def _read(
    text: str, address: Callable[[str], Address], prefix: Callable[[str], Prefix]
) -> tuple[Interval, int]:
    first_text, dash, last_text = (part.strip() for part in text.partition("-"))
    if "/" in text and not dash:
        whole = prefix(first_text)
        start = int(whole.network_address)
        return Interval(start, start + whole.num_addresses), whole.max_prefixlen
    first = address(first_text)
    last = address(last_text) if dash else first
    if first.version != last.version or int(first) > int(last):
        raise ValueError(f"{text!r} does not go from a lower to a higher address of one family")
    return Interval(int(first), int(last) + 1), first.max_prefixlen
