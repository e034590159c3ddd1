from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from romana.ipam.v1 import utilization_pb2
from romana.topology.v1 import network_pb2

from services.common.terminal.plural import count
from services.ctl.views import enum_text


@pytest.mark.parametrize(
    ("used", "size", "says"),
    [
        (0, 100, "0%"),
        (0, 0, "0%"),
        (1, 65536, "<0.1%"),
        (1, 8, "12.5%"),
        (65535, 65536, "99.9%"),
        (8, 8, "100%"),
        (5, 2**64 - 1, "<0.1%"),
    ],
)
def test_a_share_is_neither_rounded_to_empty_nor_to_full(used: int, size: int, says: str) -> None:
    assert enum_text.share(used, size) == says


@pytest.mark.parametrize(
    ("number", "says"),
    [(65536, "65536"), (2**48, "2^48"), (2**64 - 1, "2^64"), (2**48 + 5, "~2^48")],
)
def test_large_numbers_of_addresses_are_powers(number: int, says: str) -> None:
    assert enum_text.large(number) == says


def test_enums_lose_their_prefix() -> None:
    assert enum_text.refusal(utilization_pb2.REFUSAL_GROUP_FULL) == "group full"


def test_what_is_not_said_is_the_default() -> None:
    assert enum_text.attachment_mode(network_pb2.ATTACHMENT_MODE_UNSPECIFIED) == "routed"
    assert enum_text.placement(network_pb2.PLACEMENT_STRATEGY_UNSPECIFIED) == "aggregate"


def test_an_enum_value_newer_than_this_command_does_not_fail() -> None:
    newer = utilization_pb2.NetworkRefusal.FromString(b"\x10\x63").refusal
    assert enum_text.refusal(newer) == "99"


@pytest.mark.parametrize(("number", "says"), [(0, "0 addresses"), (1, "1 address")])
def test_counts_have_their_plural(number: int, says: str) -> None:
    assert count(number, "address") == says


def test_times_are_utc_and_absent_ones_empty() -> None:
    assert enum_text.moment(Timestamp(seconds=1_700_000_000)) == "2023-11-14T22:13:20Z"
    assert enum_text.moment(Timestamp()) == ""


def test_durations_are_seconds() -> None:
    assert enum_text.seconds(Duration(seconds=1, nanos=500_000_000)) == "1.5 s"


def test_nouns_with_y_have_their_plural() -> None:
    assert count(2, "policy") == "2 policies"
    assert count(2, "day") == "2 days"
    assert count(1, "policy") == "1 policy"
