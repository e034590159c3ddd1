from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from services.agent.kernel.nftables.table import SHARES
from services.agent.rules.device_legs import ArmHere, LegHere
from services.agent.rules.device_shares import shares
from services.common.model.devices import DeviceName
from services.common.model.names import NetworkName


def leg(number: int, weight: int = 1) -> LegHere:
    name = DeviceName(f"fw-{number}")
    arm = ArmHere(
        number,
        number,
        name,
        NetworkName("a"),
        ip_address(f"10.0.0.{number}"),
        "eth0",
        (),
        is_up=True,
        is_elsewhere=False,
    )
    return LegHere(name, arm, arm, weight, is_up=True, is_draining=False)


def numbers(legs: Sequence[LegHere]) -> list[int]:
    return [one.inside.number for one in shares(legs)]


LEGS = [leg(number) for number in (1, 2, 3)]


def test_every_share_goes_somewhere_and_every_device_has_some() -> None:
    found = numbers(LEGS)
    assert len(found) == SHARES
    assert set(found) == {1, 2, 3}


def test_one_that_goes_gives_away_its_own_alone_and_gets_them_back() -> None:
    before = numbers(LEGS)
    for gone in (
        replace(LEGS[1], is_up=False),
        replace(LEGS[1], is_draining=True),
    ):
        after = numbers([LEGS[0], gone, LEGS[2]])
        assert 2 not in after
        assert all(one == other for one, other in zip(before, after, strict=True) if one != 2)
    assert numbers(list(reversed(LEGS))) == before


def test_weights_count() -> None:
    found = Counter(numbers([leg(1, 9), leg(2)]))
    assert found[1] > 3 * found[2] > 0


def test_where_none_takes_anything_there_are_no_shares() -> None:
    assert not shares([])
    assert not shares([replace(LEGS[0], is_up=False)])
