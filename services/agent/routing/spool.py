"""What the agent keeps on disk for its next start: what it was told, and numbers in the kernel.

routes.jsonl: the position, then a resource a line. Not one document: encoding 100,000 resources in
one call would hold up the event loop for as long as it takes, in whatever thread. A file that is
not what it should be is no file: the agent then waits for a snapshot before it writes.
"""

from __future__ import annotations

import io
import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from services.agent.kernel.numbers import Numbers
from services.agent.model import Visit
from services.agent.routing.resources import Peer, Resource, Route, Unreadable
from services.common.files import write_atomic
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.network import Address, Network
from services.common.model.node import Attachment
from services.common.records.models import from_plain, to_plain
from services.common.sync.model import Position
from services.common.sync.receiver import Receiver

log = structlog.get_logger(__name__)

FORMAT: Final = 2


class _Head(msgspec.Struct):
    """The first line."""

    format: int
    epoch: str
    revision: int
    digest: str
    resources: int
    """Lines that follow."""


class _NetworkLine(msgspec.Struct, tag="network", array_like=True):
    id: str
    network: dict[str, object]


class _PeerLine(msgspec.Struct, tag="peer", array_like=True):
    id: str
    network: str
    node: str
    address: str


class _RouteLine(msgspec.Struct, tag="route", array_like=True):
    id: str
    network: str
    prefix: str
    node: str


class _VisitLine(msgspec.Struct, tag="visit", array_like=True):
    id: str
    network: str
    address: str
    name: str
    node: str
    to: str
    ready: bool
    known: bool


_Line = _NetworkLine | _PeerLine | _RouteLine | _VisitLine


class Spool:
    """The folder. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._routes = folder / "routes.jsonl"
        self._numbers = folder / "numbers.json"
        self._attachments = folder / "attachments.json"
        self._address = folder / "address.json"

    def save(self, held: Mapping[str, Resource], position: Position) -> None:
        """Writes what is applied; resources that are unreadable have nothing to be kept.

        Raises:
            OSError: The disk does not take it.
        """
        encoder = msgspec.json.Encoder()
        lines = [(name, value) for name, value in held.items() if not isinstance(value, Unreadable)]
        # Without all resources there is no place to resume from.
        digest = position.digest if len(lines) == len(held) else 0
        head = _Head(FORMAT, position.epoch, position.revision, f"{digest:x}", len(lines))
        buffer = io.BytesIO()
        buffer.write(encoder.encode(head) + b"\n")
        for name, value in lines:
            buffer.write(encoder.encode(_line(name, value)) + b"\n")
        write_atomic(self._routes, buffer.getbuffer())

    def load(self) -> Receiver[Resource]:
        """A receiver with what was saved; an empty one if there is nothing of use."""
        try:
            return _read(self._routes)
        except FileNotFoundError:
            return Receiver()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("spool_unreadable", file=str(self._routes), message=str(error))
            return Receiver()

    def save_numbers(self, numbers: Numbers) -> None:
        """Writes them; raises OSError."""
        document = {
            "tables": dict(numbers.tables),
            "nexthops": dict(numbers.nexthops),
            "ways": dict(numbers.ways),
        }
        write_atomic(self._numbers, json.dumps(document, sort_keys=True).encode())

    def load_numbers(self) -> Numbers:
        """What was saved; nothing if that is of no use."""
        try:
            document = msgspec.json.decode(
                self._numbers.read_bytes(), type=dict[str, dict[str, int]]
            )
            return Numbers(document["tables"], document["nexthops"], document.get("ways", {}))
        except FileNotFoundError:
            return Numbers.none()
        except (OSError, KeyError, msgspec.MsgspecError) as error:
            log.warning("numbers_unreadable", file=str(self._numbers), message=str(error))
            return Numbers.none()

    def save_attachments(self, attachments: Sequence[Attachment]) -> None:
        """Writes what topology said of this node; raises OSError."""
        lines = [to_plain(item) for item in attachments]
        write_atomic(self._attachments, msgspec.json.encode(lines))

    def load_attachments(self) -> tuple[Attachment, ...] | None:
        """What was saved; None: nothing of use."""
        try:
            lines = msgspec.json.decode(self._attachments.read_bytes(), type=list[object])
            return tuple(from_plain(Attachment, line) for line in lines)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("attachments_unreadable", file=str(self._attachments), message=str(error))
            return None

    def save_address(self, address: Address) -> None:
        """Writes which address of this node was found by its agent; raises OSError."""
        write_atomic(self._address, msgspec.json.encode(str(address)))

    def load_address(self) -> Address | None:
        """What was saved; None: nothing of use."""
        try:
            return ipaddress.ip_address(msgspec.json.decode(self._address.read_bytes(), type=str))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("address_unreadable", file=str(self._address), message=str(error))
            return None


def _read(path: Path) -> Receiver[Resource]:
    with path.open("rb") as file:
        head = msgspec.json.decode(file.readline(), type=_Head)
        if head.format != FORMAT:
            raise ValueError(f"format {head.format} is not {FORMAT}")
        decoder = msgspec.json.Decoder(_Line)
        held = dict(_resource(decoder.decode(line)) for line in file)
    if len(held) != head.resources:
        raise ValueError(f"{len(held)} resources of {head.resources}")
    return Receiver(held, Position(head.epoch, head.revision, int(head.digest, 16)))


def _line(name: str, value: Network | Peer | Route | Visit) -> _Line:
    match value:
        case Route():
            return _RouteLine(name, value.network, value.prefix, value.node)
        case Peer():
            return _PeerLine(name, value.network, value.node, str(value.address))
        case Visit():
            return _VisitLine(
                name,
                value.network,
                str(value.address),
                value.name,
                value.node,
                value.to or "",
                value.ready,
                value.known,
            )
        case Network():
            return _NetworkLine(name, {**to_plain(value)})


def _resource(line: _Line) -> tuple[str, Resource]:
    match line:
        case _RouteLine():
            return line.id, Route(NetworkName(line.network), line.prefix, NodeName(line.node))
        case _PeerLine():
            return line.id, Peer(
                NetworkName(line.network), NodeName(line.node), ipaddress.ip_address(line.address)
            )
        case _VisitLine():
            return line.id, Visit(
                NetworkName(line.network),
                ipaddress.ip_address(line.address),
                EndpointName(line.name),
                NodeName(line.node),
                NodeName(line.to) if line.to else None,
                line.ready,
                line.known,
            )
        case _NetworkLine():
            return line.id, from_plain(Network, line.network)
