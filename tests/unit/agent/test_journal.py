from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from services.agent.endpoints.journal import BAD, Journal, decode, encode
from services.agent.endpoints.spec import (
    EndpointSpec,
    Record,
    Stage,
    local_endpoint,
    unknown,
)
from services.agent.model import AddressWant, EndpointAddress
from services.common.errors import WrongState
from services.common.model.names import EndpointName, NetworkName, Segment, Tenant

SPEC = EndpointSpec(
    EndpointName("pods/c1/eth0"),
    Tenant("t"),
    Segment("s"),
    "eth0",
    "/run/netns/x",
    (AddressWant(NetworkName("net"), 4), AddressWant(None, 6, "fd00::1")),
    1400,
    {"a": "b"},
    "cni/pods",
)
ENDPOINT = local_endpoint(
    SPEC,
    (
        EndpointAddress(ip_address("10.0.0.1"), NetworkName("net")),
        EndpointAddress(ip_address("fd00::1"), NetworkName("six")),
    ),
    host_interface="romabcdefghijkl",
    mac="02:00:00:00:00:01",
    mtu=1400,
    create_time=7,
    instance="0123456789abcdef",
)
RECORDS = [
    Record(SPEC, Stage.BEGUN),
    Record(SPEC, Stage.ATTACHED, ENDPOINT),
    Record(SPEC, Stage.DETACHING, ENDPOINT),
    Record(unknown(EndpointName("x")), Stage.DETACHING),
]


def files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(folder.glob(pattern))


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode(encode(record)) == record


async def test_the_last_record_of_a_name_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "made" / "here")
    for record in RECORDS[:3]:
        await journal.write(record)
    other = Record(replace(SPEC, name=EndpointName("a")), Stage.BEGUN)
    await journal.write(other)
    assert Journal(tmp_path / "made" / "here").read() == [other, RECORDS[2]]
    await journal.drop(SPEC.name)
    await journal.drop(SPEC.name)
    assert journal.read() == [other]


async def test_what_a_crash_left_half_written_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.write(RECORDS[1])
    (file,) = files(tmp_path)
    (tmp_path / f".{file.name}.new").write_bytes(b'{"spec"')
    assert journal.read() == [RECORDS[1]]
    assert files(tmp_path) == [file]


async def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number, content in enumerate([b"", b"{}", b'{"spec": 1}', encode(RECORDS[1])[:50]]):
        (tmp_path / f"{number}.json").write_bytes(content)
    await journal.write(RECORDS[0])
    assert journal.read() == [RECORDS[0]]
    assert len(files(tmp_path, f"*{BAD}")) == 4


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongState, match="journal cannot be written"):
        Journal(tmp_path / "file")


async def test_what_cannot_be_written_is_renamed(tmp_path: Path) -> None:
    """A disk that is full takes no file, and a name all the same."""
    journal = Journal(tmp_path)
    attached = Record(SPEC, Stage.ATTACHED, ENDPOINT)
    await journal.write(attached)
    (path,) = files(tmp_path)
    in_the_way = tmp_path / f".{path.name}.new"
    in_the_way.mkdir()
    detaching = Record(SPEC, Stage.DETACHING, ENDPOINT)
    for _ in range(2):
        await journal.write(detaching)
    with pytest.raises(WrongState):
        await journal.write(attached)
    in_the_way.rmdir()
    assert journal.read() == [detaching]
    await journal.sync(SPEC.name)
    await journal.write(attached)
    assert journal.read() == [attached]
    assert files(tmp_path) == [path]
    await journal.drop(SPEC.name)
    assert files(tmp_path) == []
