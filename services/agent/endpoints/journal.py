"""What the agent has begun with each endpoint, on disk: one small JSON file each.

A file is written whole beside its place and renamed, so that a reader after a crash finds the old
or the new one; where a loss of power matters too, file and folder are synced. A file that cannot be
read is put aside, not deleted: its links and addresses are found by other means (`Links.ours`, ipam
by node). Where nothing can be written, since the disk is full, the name of a file says that its
endpoint is being detached: a node that runs out of disk has to get rid of containers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec
import structlog

from services.agent.endpoints.spec import EndpointSpec, Record, Stage, local_endpoint
from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.endpoint_names import file_name
from services.agent.model import EndpointAddress
from services.common.errors import WrongState
from services.common.model.names import EndpointName, NetworkName

log = structlog.get_logger(__name__)

BAD: Final = ".bad"
DETACHING: Final = ".detaching"
_PROBE: Final = bytes(4096)


class Journal:
    """The files of one agent."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if it is not there."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unwritable(folder, error) from error

    async def write(self, record: Record, *, durable: bool = True) -> None:
        """Returns when the record is written; WrongState if it cannot be.

        `durable`: a loss of power does not undo it. What is not survives the death of this process
        all the same.
        """
        await in_thread(lambda: self._write(record, durable=durable))

    async def sync(self, name: EndpointName) -> None:
        """Makes the last record of a name durable."""
        await in_thread(lambda: self._sync_one(name))

    async def drop(self, name: EndpointName) -> None:
        """Removes an endpoint's record, if there is one; a loss of power may bring it back."""
        await in_thread(lambda: self._drop(name))

    async def probe(self) -> None:
        """Returns when a record could be written; WrongState if none can be."""
        await in_thread(self._try)

    def read(self) -> Sequence[Record]:
        """All records, by name. For the start."""
        found: dict[EndpointName, Record] = {}
        for suffix in (DETACHING, ".json"):
            for path in sorted(self._folder.glob(f"*{suffix}")):
                try:
                    record = decode(path.read_bytes())
                except (msgspec.DecodeError, ValueError) as error:
                    log.error("journal_unreadable", file=str(path), error=str(error))  # noqa: TRY400
                    path.replace(path.with_suffix(BAD))
                    continue
                if suffix == DETACHING:
                    record = replace(record, stage=Stage.DETACHING)
                found[record.spec.name] = record
        for path in self._folder.glob(".*.new"):
            path.unlink()
        return sorted(found.values(), key=lambda record: record.spec.name)

    def _write(self, record: Record, *, durable: bool) -> None:
        path = self._folder / file_name(record.spec.name)
        new = path.with_name(f".{path.name}.new")
        try:
            with new.open("wb") as file:
                file.write(encode(record))
                if durable:
                    file.flush()
                    os.fdatasync(file.fileno())
            new.replace(path)
            path.with_suffix(DETACHING).unlink(missing_ok=True)
            if durable:
                _sync(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            if record.stage is Stage.DETACHING and _renamed(path, path.with_suffix(DETACHING)):
                log.warning("journal_unwritable", file=str(path), error=error.strerror)
                return
            raise _unwritable(path, error) from error

    def _try(self) -> None:
        path = self._folder / ".probe.new"
        try:
            path.write_bytes(_PROBE)
            path.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise _unwritable(path, error) from error

    def _drop(self, name: EndpointName) -> None:
        path = self._folder / file_name(name)
        try:
            path.unlink(missing_ok=True)
            path.with_suffix(DETACHING).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error

    def _sync_one(self, name: EndpointName) -> None:
        path = self._folder / file_name(name)
        try:
            if path.exists():
                _sync(path)
            _sync(self._folder)
        except OSError as error:
            raise _unwritable(path, error) from error


def _renamed(path: Path, other: Path) -> bool:
    """Whether a file that was there has the other name now."""
    try:
        path.replace(other)
    except FileNotFoundError:
        return other.exists()
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Address(msgspec.Struct, frozen=True):
    address: str
    network: str


class _Attached(msgspec.Struct, frozen=True):
    """What of an attached endpoint does not follow from its specification."""

    host_interface: str
    addresses: tuple[_Address, ...]
    mac: str
    mtu: int
    create_time: int
    instance: str = ""
    beside: bool = False
    moves: bool = False


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file. Unknown fields are ignored, so that the version before can read it."""

    spec: EndpointSpec
    step: Stage
    attached: _Attached | None = None


def encode(record: Record) -> bytes:
    """One record as the content of its file."""
    attached = None
    if (endpoint := record.endpoint) is not None:
        attached = _Attached(
            host_interface=endpoint.host_interface,
            addresses=tuple(
                _Address(str(item.address), item.network) for item in endpoint.addresses
            ),
            mac=endpoint.mac,
            mtu=endpoint.mtu,
            create_time=endpoint.create_time,
            instance=endpoint.instance,
            beside=endpoint.beside,
            moves=endpoint.moves,
        )
    return msgspec.json.encode(_Document(record.spec, record.stage, attached)) + b"\n"


def decode(content: bytes) -> Record:
    """Reads `encode`'s bytes; raises msgspec.DecodeError or ValueError."""
    document = msgspec.json.decode(content, type=_Document)
    attached = document.attached
    if attached is None and document.step is Stage.ATTACHED:
        raise ValueError("it is attached and does not say how")
    endpoint = None
    if attached is not None:
        endpoint = local_endpoint(
            document.spec,
            tuple(
                EndpointAddress(ip_address(item.address), NetworkName(item.network))
                for item in attached.addresses
            ),
            host_interface=attached.host_interface,
            mac=attached.mac,
            mtu=attached.mtu,
            create_time=attached.create_time,
            instance=attached.instance,
            beside=attached.beside,
            moves=attached.moves,
        )
    return Record(document.spec, document.step, endpoint)


def _unwritable(path: Path, error: OSError) -> WrongState:
    return WrongState(
        f"the journal cannot be written: {path}: {error.strerror}", "JOURNAL_UNWRITABLE"
    )
