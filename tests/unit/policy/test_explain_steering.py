from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from services.common.model.devices import (
    Arm,
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    LegArm,
    WhenDown,
)
from services.common.model.names import EndpointName, NetworkName
from services.common.model.rules import Action, Direction, Protocol
from services.policy.engine.engine import Engine
from services.policy.explain.matrix import Matrix, Reach
from services.policy.explain.steering import Outcome
from tests.unit.policy.test_explain import asked, engine

FIRST, SECOND = DeviceGroupName("first"), DeviceGroupName("second")
TEXT = """
policies:
  - name: in
    tier: admin
    targets: [{endpoints: {labels: {match_labels: {app: web}}}}]
    ingress: [{ports: [{protocol: tcp, port: 443}], via: first}]
"""


def group(name: DeviceGroupName, number: int) -> DeviceRules:
    leg = Leg(number, DeviceName("fw"), NetworkName("a"), ip_address(f"10.0.9.{number}"))
    return DeviceRules(name, (leg,))


def made(*groups: DeviceRules) -> Engine:
    found = engine(TEXT)
    found.set_devices({one.name: one for one in groups})
    return found


def reach(of: Engine) -> Reach | None:
    front, web = ([of.endpoints[EndpointName(name)]] for name in ("front", "web-2"))
    return Matrix(of, front, web, Protocol.TCP, 443).rows()[0][0]


def test_the_rule_the_group_its_devices_and_both_ways_are_named() -> None:
    found = asked(made(group(FIRST, 1)), "front", "web-2", 443)
    led = found.steering
    assert found.action is Action.ALLOW
    assert led is not None
    assert (led.policy, led.direction, led.rule, led.group) == ("in", Direction.INGRESS, 0, FIRST)
    assert [leg.device for leg in led.devices] == ["fw"]
    assert (led.outcome, led.node) == (Outcome.STEERED, "n1")
    assert led.there == ("node n2", "node n1", "group first", "node n1")
    assert led.back == tuple(reversed(led.there))


def test_of_devices_with_two_arms_both_ways_say_by_which() -> None:
    (leg,) = group(FIRST, 1).legs
    outside = LegArm(Arm.OUTSIDE, 2, NetworkName("b"), ip_address("10.1.9.1"))
    both = DeviceRules(FIRST, (replace(leg, outside=outside),))
    led = asked(made(both), "front", "web-2", 443).steering
    assert led is not None
    assert led.there == ("node n2", "node n1", "group first, outside to inside", "node n1")
    assert led.back == ("node n1", "group first, inside to outside", "node n1", "node n2")


def test_who_gets_copies_is_named_and_nothing_else_changes() -> None:
    of = engine(TEXT.replace("via: first", "mirror: first"))
    of.set_devices({FIRST: group(FIRST, 1)})
    found = asked(of, "front", "web-2", 443)
    (copied,) = found.mirrors
    assert (copied.policy, copied.direction, copied.rule, copied.group, copied.node) == (
        "in",
        Direction.INGRESS,
        0,
        FIRST,
        "n1",
    )
    assert [leg.device for leg in copied.devices] == ["fw"]
    assert found.action is Action.ALLOW
    assert found.steering is None
    assert reach(of) is Reach.DIRECT
    assert not asked(of, "front", "web-2", 80).mirrors


def test_what_no_rule_leads_goes_directly() -> None:
    of = made(group(FIRST, 1))
    assert asked(of, "front", "web-2", 80).steering is None
    assert asked(of, "web-2", "front", 443).steering is None


@pytest.mark.parametrize(
    ("when_down", "outcome", "action", "expected"),
    [
        (WhenDown.CLOSED, Outcome.CLOSED, Action.DENY, Reach.DENIED),
        (WhenDown.OPEN, Outcome.OPEN, Action.ALLOW, Reach.DIRECT),
        (WhenDown.NEXT, Outcome.STEERED, Action.ALLOW, Reach.STEERED),
    ],
)
def test_a_group_that_is_down(
    when_down: WhenDown, outcome: Outcome, action: Action, expected: Reach
) -> None:
    following = SECOND if when_down is WhenDown.NEXT else None
    down = replace(group(FIRST, 1), is_down=True, when_down=when_down, next=following)
    of = made(down, group(SECOND, 2))
    found = asked(of, "front", "web-2", 443)
    assert found.steering is not None
    assert (found.steering.outcome, found.action) == (outcome, action)
    assert found.steering.group == (SECOND if following else FIRST)
    assert reach(of) is expected


def test_a_group_that_is_not_known_is_closed() -> None:
    assert asked(made(), "front", "web-2", 443).action is Action.DENY
    assert reach(made(group(FIRST, 1))) is Reach.STEERED
