from __future__ import annotations

import ipaddress

from services.agent.kernel.nftables.intervals import as_elements, of_blocks, union, without
from services.common.model.rules import CidrBlock


def test_neighbours_become_one() -> None:
    assert union([(5, 6), (1, 2), (3, 4), (9, 9)]) == [(1, 6), (9, 9)]


def test_holes_are_left_out() -> None:
    assert without(0, 10, [(2, 3), (8, 20)]) == [(0, 1), (4, 7)]


def test_an_exception_of_one_block_is_allowed_by_another() -> None:
    blocks = [
        CidrBlock(ipaddress.ip_network("10.0.0.0/30"), (ipaddress.ip_network("10.0.0.1/32"),)),
        CidrBlock(ipaddress.ip_network("10.0.0.1/32")),
    ]
    first = int(ipaddress.ip_address("10.0.0.0"))
    assert of_blocks(blocks, 4) == [(first, first + 3)]
    assert of_blocks(blocks, 6) == []


def test_the_last_number_has_no_bound_after_it() -> None:
    assert as_elements([(1, 2), (65535, 65535)], 2) == {
        b"\0\1\0": "",
        b"\0\3\1": "",
        b"\xff\xff\0": "",
    }
