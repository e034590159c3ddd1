"""Reads values that are written as text, and collects what is wrong with them."""

from __future__ import annotations

from services.common.errors import Violation
from services.common.model.addresses import read_address, read_prefix
from services.common.model.network import Address, Prefix


def parse_prefix(
    text: str, at: str, problems: list[Violation], *, host_bits: bool = False
) -> Prefix | None:
    """Reads a CIDR; `host_bits`: it may have some, which mean nothing."""
    try:
        return read_prefix(text, host_bits=host_bits)
    except ValueError as error:
        problems.append(Violation(at, str(error)))
        return None


def parse_address(text: str, at: str, problems: list[Violation]) -> Address | None:
    try:
        return read_address(text)
    except ValueError as error:
        problems.append(Violation(at, str(error)))
        return None
