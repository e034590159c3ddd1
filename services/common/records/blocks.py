"""What ipam keeps in etcd: block pages, reservations, and releases of what was on nodes.

Topology reads them too, to know what is in use. Documents are JSON so that an operator can read
them with etcdctl; msgspec is used because it encodes and decodes them several times faster than
protobuf (measured: loading and group commit depend on it). Unknown fields are ignored and new ones
have defaults, so that replicas of neighbouring versions can run together.
"""

from __future__ import annotations

import msgspec

from services.common.records.errors import RecordError

PAGE_BITS = 6
"""A page of a block holds the allocations of up to 2**6 addresses, so that the cost of a change
does not grow with the size of the block."""


class PageUse(msgspec.Struct, array_like=True, frozen=True):
    offset: int
    """From the block's first address."""
    name: str
    time: int
    """When it was allocated, Unix time in seconds."""
    ordinal: int = 0
    """Its place among the addresses of its name."""


class PageRest(msgspec.Struct, array_like=True, frozen=True):
    offset: int
    time: int
    """When it was released, Unix time in milliseconds."""


class PageVisit(msgspec.Struct, array_like=True, frozen=True):
    """An address in use that is not on the block's node, or is about to move."""

    offset: int
    node: str
    """Where its endpoint is."""
    to: str = ""
    """Where it is moving to; empty: nowhere."""
    ready: bool = False
    """That node is prepared to take it over."""
    known: bool = False
    """The node that it is on knows of the move."""


class BlockPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of a block. Every page names the owner, so that each can be understood alone."""

    length: int
    """Prefix length of the block."""
    node: str = ""
    tenant: str = ""
    segment: str = ""
    born: int = 0
    """Number in the order in which blocks were taken into use: the oldest is lowest."""
    returned: int = 0
    """Not 0: the block came back, as the n-th to do so, and is held by nobody."""
    used: tuple[PageUse, ...] = ()
    rest: tuple[PageRest, ...] = ()
    """The longest idle first."""
    visits: tuple[PageVisit, ...] = ()
    """By offset; of addresses in use that are on the block's node to stay there is none."""


class ReservationRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Addresses that are never handed out."""

    network: str
    ranges: tuple[str, ...]
    description: str = ""
    node: str = ""
    """Whose agent set them aside."""


class NodeReleaseRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in use on a node that is gone will be released."""

    noticed: int
    """Unix time in seconds."""
    due: int
    """The same: not before. The active replica counts the time itself."""
    asked: bool = False
    """Somebody removed the node by force."""


_encoder = msgspec.json.Encoder()
_page_decoder = msgspec.json.Decoder(BlockPage)
_reservation_decoder = msgspec.json.Decoder(ReservationRecord)
_release_decoder = msgspec.json.Decoder(NodeReleaseRecord)


def encode(record: BlockPage | ReservationRecord | NodeReleaseRecord) -> bytes:
    return _encoder.encode(record)


def decode_page(document: bytes) -> BlockPage:
    """Reads a block page; raises RecordError."""
    try:
        return _page_decoder.decode(document)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not a block page: {error}") from error


def decode_reservation(document: bytes) -> ReservationRecord:
    """Reads a reservation; raises RecordError."""
    try:
        return _reservation_decoder.decode(document)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not a reservation: {error}") from error


def decode_node_release(document: bytes) -> NodeReleaseRecord:
    """Reads a release; raises RecordError."""
    try:
        return _release_decoder.decode(document)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not a release: {error}") from error
