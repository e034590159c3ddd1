"""Ranges of addresses as people write them: prefixes, addresses, and `first-last`."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from services.ipam.ledger.areas import Interval


def parse_ranges(texts: Sequence[str]) -> tuple[Interval, ...]:
    """Reads ranges; raises ValueError."""
    return tuple(parse_range(text)[0] for text in texts)


def parse_range(text: str) -> tuple[Interval, int]:
    """Reads one range: the addresses and the family's number of bits. Raises ValueError."""
    first_text, dash, last_text = (part.strip() for part in text.partition("-"))
    if dash:
        first, last = ip_address(first_text), ip_address(last_text)
        if first.version != last.version or int(first) > int(last):
            raise ValueError(f"{text!r} does not go from a lower to a higher address of one family")
        return Interval(int(first), int(last) + 1), first.max_prefixlen
    if "/" in text:
        prefix = ip_network(first_text)
        start = int(prefix.network_address)
        return Interval(start, start + prefix.num_addresses), prefix.max_prefixlen
    address = ip_address(first_text)
    return Interval(int(address), int(address) + 1), address.max_prefixlen
