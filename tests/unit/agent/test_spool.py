from __future__ import annotations

import ipaddress
from pathlib import Path

from services.agent.kernel.numbers import Numbers
from services.agent.routing.resources import Assembly, Peer, Resource, Route, Unreadable
from services.agent.routing.spool import Spool
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment
from services.common.sync.model import Position

A = NetworkName("a")
HELD: dict[str, Resource] = {
    "network/a": Network(
        A,
        ipaddress.ip_network("10.1.0.0/16"),
        29,
        vlan_id=5,
        gateway=ipaddress.ip_address("10.1.0.1"),
        mode=Mode.ONLINK,
    ),
    "peer/a/n1": Peer(A, NodeName("n1"), ipaddress.ip_address("10.1.0.2")),
    "route/a/10.1.1.0/24": Route(A, "10.1.1.0/24", NodeName("n1")),
}
POSITION = Position("epoch", 7, 0xFFFF_FFFF_FFFF_FFFF)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.save(HELD, POSITION)
    receiver = spool.load()
    assert dict(receiver.held) == HELD
    assert receiver.position == POSITION
    assert receiver.complete


def test_nothing_saved_is_nothing_known(tmp_path: Path) -> None:
    assert not Spool(tmp_path).load().complete


def test_a_broken_file_is_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.save(HELD, POSITION)
    file = tmp_path / "routes.jsonl"
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        assert dict(spool.load().held) in ({}, HELD)
    file.write_bytes(whole.replace(b"10.1.1.0/24", b"10.1.1.0/99"))
    Assembly().apply(spool.load().held, ())


def test_without_what_was_unreadable_there_is_no_place_to_resume_from(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.save({**HELD, "route/x": Unreadable("what")}, POSITION)
    receiver = spool.load()
    assert dict(receiver.held) == HELD
    assert receiver.hello("n1").resume is None


def test_numbers_survive(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    numbers = Numbers.none().assigned(["a"], ["a/n1"])
    spool.save_numbers(numbers)
    assert spool.load_numbers() == numbers
    (tmp_path / "numbers.json").write_text("{")
    assert spool.load_numbers() == Numbers.none()


def test_resources_become_a_remote_and_go_again() -> None:
    assembly = Assembly()
    remote, changed = assembly.apply(HELD, ())
    prefix = ipaddress.ip_network("10.1.1.0/24")
    assert remote.routes == {(A, prefix): "n1"}
    assert changed == {(A, prefix)}
    moved: dict[str, Resource] = {"route/a/10.1.1.0/24": Route(A, "10.1.1.0/24", NodeName("n2"))}
    later, changed = assembly.apply(moved, ["peer/a/n1"])
    assert later.routes == {(A, prefix): "n2"}
    assert later.peers == {}
    assert remote.peers, "what was given before does not change"
    assert assembly.apply({}, HELD)[0].networks == {}


def test_a_prefix_that_is_none_fails_alone() -> None:
    assembly = Assembly()
    remote, _ = assembly.apply({**HELD, "route/a/x": Route(A, "x", NodeName("n1"))}, ())
    assert len(remote.routes) == 1
    assert "route/a/x" in assembly.unreadable


def test_attachments_survive(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.load_attachments() is None
    attachments = (Attachment(A, "e0.5", ipaddress.ip_address("10.1.0.2"), 5, "e0"),)
    spool.save_attachments(attachments)
    assert spool.load_attachments() == attachments
    spool.save_attachments(())
    assert spool.load_attachments() == ()
