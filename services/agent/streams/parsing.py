"""Text of the services' messages as values; what is wrong is told with its field path."""

from __future__ import annotations

import ipaddress

from services.common.errors import InvalidInput
from services.common.model.network import Address, Prefix


def address(text: str, path: str) -> Address:
    """An address; raises InvalidInput."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidInput.at(path, f"{text!r} is not an address") from error


def prefix(text: str, path: str) -> Prefix:
    """A prefix without host bits; raises InvalidInput."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidInput.at(path, f"{text!r} is not a prefix: {error}") from error
