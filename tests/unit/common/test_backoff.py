from __future__ import annotations

import pytest

from services.common.backoff import Backoff, BackoffPolicy

POLICY = BackoffPolicy(initial=0.5, factor=2, maximum=3)


def test_the_ceiling_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(POLICY, random=lambda: 1.0)

    assert [backoff.failed() for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_a_success_starts_again_from_the_shortest() -> None:
    backoff = Backoff(POLICY, random=lambda: 1.0)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()

    assert backoff.failures == 0
    assert backoff.failed() == 0.5


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.999])
def test_the_delay_is_drawn_from_the_whole_range(draw: float) -> None:
    backoff = Backoff(POLICY, random=lambda: draw)
    backoff.failed()

    assert backoff.failed() == draw * 1.0


def test_very_many_failures_do_not_overflow() -> None:
    assert POLICY.ceiling(100_000) == 3
