"""How many of a group's devices are up, in a word."""

from __future__ import annotations

import pytest
from romana.policy.v1 import device_pb2

from services.ctl.verbs.device import states

UP = device_pb2.DEVICE_STATE_UP
DOWN = device_pb2.DEVICE_STATE_DOWN
DRAINING = device_pb2.DEVICE_STATE_DRAINING
UNKNOWN = device_pb2.DEVICE_STATE_UNKNOWN


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([UP, UP], "2 of 2 up"),
        ([UP, DOWN], "1 of 2 up, 1 down"),
        ([UNKNOWN, UNKNOWN], "0 of 2 up, 2 unknown"),
        ([DRAINING, UP, DOWN, DRAINING], "1 of 4 up, 1 down, 2 draining"),
    ],
)
def test_only_devices_that_take_connections_are_called_up(
    found: list[device_pb2.DeviceState.ValueType], says: str
) -> None:
    assert states([device_pb2.DeviceStatus(state=state) for state in found]) == says
