"""What topology keeps in etcd: the layout as one document, and one document per node.

Every service reads them. Their fields are those of the model (`records.models`). A group's path is
not stored: it follows from the names.
"""

from __future__ import annotations

import msgspec

from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath
from services.common.model.node import Node
from services.common.records.errors import RecordError
from services.common.records.models import from_plain, to_plain


class RemovedNodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that somebody removed, by force or when nothing was in use on it any more. Its agent
    does not register it again while this is there."""

    time: int = 0
    """Unix time in seconds."""
    addresses: int = 0
    """In use on it then."""
    request_id: str = ""
    machine_is_off: bool = False
    """Whoever removed it vouches that nothing of it has the addresses any more."""


def encode_layout(layout: Layout) -> bytes:
    return msgspec.json.encode(to_plain(layout))


def decode_layout(document: bytes) -> Layout:
    """Reads a layout; raises RecordError."""
    try:
        plain = msgspec.json.decode(document, type=dict[str, object])
        topologies = msgspec.convert(plain.get("topologies", []), list[dict[str, object]])
        return from_plain(Layout, plain, topologies=tuple(map(_topology, topologies)))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"not a layout: {error}") from error


def encode_node(node: Node) -> bytes:
    return msgspec.json.encode(to_plain(node))


def decode_node(document: bytes) -> Node:
    """Reads a node; raises RecordError."""
    try:
        return from_plain(Node, msgspec.json.decode(document))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"not a node: {error}") from error


def encode_removed_node(record: RemovedNodeRecord) -> bytes:
    return msgspec.json.encode(record)


def decode_removed_node(document: bytes) -> RemovedNodeRecord:
    """Reads a removal; what cannot be read is one all the same."""
    try:
        return msgspec.json.decode(document, type=RemovedNodeRecord)
    except msgspec.MsgspecError:
        return RemovedNodeRecord()


def _topology(plain: dict[str, object]) -> Topology:
    return from_plain(Topology, plain, groups=_groups(plain, str(plain.get("name"))))


def _groups(plain: dict[str, object], parent: str) -> tuple[Group, ...]:
    """The groups of a topology, or of a group, with their paths."""
    return tuple(
        from_plain(Group, one, path=GroupPath(path), groups=_groups(one, path))
        for one in msgspec.convert(plain.get("groups", []), list[dict[str, object]])
        for path in [f"{parent}/{one.get('name')}"]
    )
