"""Text of the services' messages as values; what is wrong is told with its field path."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TypeVar

from google.protobuf.message import Message

from services.common.document.fields import Fields, Findings
from services.common.document.models import read
from services.common.errors import InvalidInput
from services.common.model.network import Address, Prefix
from services.common.rpc.models import to_tree

_T = TypeVar("_T")


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


def read_message(kind: type[_T], message: Message, path: str, leave: Collection[str] = ()) -> _T:
    """The model of a message, without some of its fields; raises InvalidInput."""
    tree = to_tree(message)
    for name in leave:
        tree.items.pop(name, None)
    findings = Findings()
    model = read(kind, Fields(tree, path, findings))
    if findings.problems:
        raise InvalidInput.of(findings.problems)
    return model
