"""Errors as the console answers them."""

from __future__ import annotations

import json

import pytest

from services.common.errors import Unavailable
from services.console.api.answers import failed

CHAIN = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9630: "


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            CHAIN + "Failed to connect to remote host: connect: Connection refused",
            "a service is away: Connection refused",
        ),
        ("no replica is active: try again", "no replica is active: try again"),
    ],
)
def test_a_person_is_told_of_a_connection_in_words(message: str, says: str) -> None:
    answer = failed(Unavailable(message))
    assert answer.status_code == 503
    assert json.loads(bytes(answer.body))["message"] == says
