"""Echoes as bytes."""

from __future__ import annotations

import struct

import pytest

from lab import icmp
from lab.icmp import Answer, AnswerKind, Echo
from lab.matrix import Way, way_of
from lab.probe import Outcome

ECHO = Echo(0x1234, 7)


def v4_packet(message: bytes, protocol: int = 1) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20, 0, 0, 64, protocol, 0, b"\1" * 4, b"\2" * 4)
    return header + message


def test_the_checksum_of_a_request_makes_its_sum_all_ones() -> None:
    data = icmp.request(4, ECHO, b"odd")
    words = (*struct.unpack("!5H", data[:10]), data[10] << 8)
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_a_request_is_recognised_in_a_packet() -> None:
    assert icmp.requested(4, v4_packet(icmp.request(4, ECHO))) == ECHO
    assert icmp.requested(4, v4_packet(icmp.request(4, ECHO), protocol=17)) is None


@pytest.mark.parametrize(
    ("kind", "code", "meaning"),
    [
        (3, 1, AnswerKind.UNREACHABLE),
        (3, 13, AnswerKind.PROHIBITED),
        (3, 10, AnswerKind.PROHIBITED),
    ],
)
def test_errors_quote_the_request(kind: int, code: int, meaning: AnswerKind) -> None:
    quoted = v4_packet(icmp.request(4, ECHO))[:28]
    message = struct.pack("!BBHI", kind, code, 0, 0) + quoted
    assert icmp.answer(4, v4_packet(message)) == Answer(ECHO, meaning)


def test_a_reply_and_what_is_none() -> None:
    reply = struct.pack("!BBHHH", 0, 0, 0, 0x1234, 7)
    assert icmp.answer(4, v4_packet(reply)) == Answer(ECHO, AnswerKind.REPLY)
    assert icmp.answer(4, v4_packet(icmp.request(4, ECHO))) is None
    assert icmp.answer(4, b"") is None
    assert icmp.answer(6, struct.pack("!BBHHH", 129, 0, 0, 0x1234, 7)) == Answer(
        ECHO, AnswerKind.REPLY
    )


def test_ways_without_a_sighting() -> None:
    assert way_of(Outcome.ANSWERED, {}) is Way.DIRECT
    assert way_of(Outcome.SILENT, {}) is Way.LOST
