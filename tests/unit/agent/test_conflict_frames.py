from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from services.agent.kernel import conflict_frames

MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
FOUR = ip_address("10.0.0.7")
SIX = ip_address("fd00::12:3456")


def arp(operation: int, sender: str, target: str, mac: bytes = OTHER) -> bytes:
    head = b"\xff" * 6 + mac + struct.pack("!H", 0x0806)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + body + mac + ip_address(sender).packed + bytes(6) + ip_address(target).packed


def test_an_arp_probe_has_no_sender_address() -> None:
    assert conflict_frames.probe(FOUR, MAC).hex() == (
        "ffffffffffff"
        + MAC.hex()
        + "0806"
        + "0001080006040001"
        + MAC.hex()
        + "00000000"
        + "000000000000"
        + "0a000007"
    )


def test_an_arp_announcement_names_the_address_twice() -> None:
    frame = conflict_frames.announcement(FOUR, MAC)
    assert frame[28:32] == frame[38:42] == FOUR.packed


def test_a_solicitation_goes_to_the_solicited_node_group_from_nobody() -> None:
    frame = conflict_frames.probe(SIX, MAC)
    assert frame[:6].hex() == "3333ff123456"
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == ip_address("ff02::1:ff12:3456").packed
    assert frame[21] == 255
    assert frame[54] == 135
    assert checksum_is_right(frame)


def test_an_unsolicited_advertisement_overrides() -> None:
    frame = conflict_frames.announcement(SIX, MAC)
    assert frame[:6].hex() == "333300000001"
    assert frame[22:38] == SIX.packed
    assert frame[54] == 136
    assert frame[58] & 0x20
    assert frame[-6:] == MAC
    assert checksum_is_right(frame)


def checksum_is_right(frame: bytes) -> bool:
    payload = frame[54:]
    data = frame[22:54] + struct.pack("!II", len(payload), 58) + payload
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.parametrize(
    "frame",
    [
        arp(2, "10.0.0.7", "0.0.0.0"),
        arp(1, "10.0.0.7", "10.0.0.1"),
        arp(1, "0.0.0.0", "10.0.0.7"),
        conflict_frames.announcement(FOUR, OTHER),
        conflict_frames.probe(FOUR, OTHER),
    ],
)
def test_a_conflict_is_understood(frame: bytes) -> None:
    assert conflict_frames.claimant(frame, FOUR, MAC) == OTHER.hex(":")
    assert conflict_frames.claimant(frame, ip_address("10.0.0.8"), MAC) is None
    assert conflict_frames.claimant(frame, FOUR, OTHER) is None


def test_asking_for_an_address_is_no_claim() -> None:
    assert conflict_frames.claimant(arp(1, "10.0.0.1", "10.0.0.7"), FOUR, MAC) is None


def test_ipv6_conflicts_are_understood() -> None:
    for frame in (conflict_frames.announcement(SIX, OTHER), conflict_frames.probe(SIX, OTHER)):
        assert conflict_frames.claimant(frame, SIX, MAC) == OTHER.hex(":")
        assert conflict_frames.claimant(frame, ip_address("fd00::1"), MAC) is None
        assert conflict_frames.claimant(frame, SIX, OTHER) is None


@pytest.mark.parametrize("length", range(0, 90, 7))
def test_a_cut_frame_is_no_claim(length: int) -> None:
    for frame in (
        conflict_frames.announcement(SIX, OTHER),
        conflict_frames.announcement(FOUR, OTHER),
    ):
        if length < len(frame) - 8:
            address = SIX if frame[12:14] == b"\x86\xdd" else FOUR
            assert conflict_frames.claimant(frame[:length], address, MAC) is None
