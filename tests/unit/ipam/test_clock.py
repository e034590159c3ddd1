"""The time by which addresses rest, through whatever is done to wall clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ipam.store.clock import RestClock

DAY = 86_400.0


class Machine:
    """A machine's clocks, in seconds."""

    def __init__(self, wall: float, steady: float = 1000.0) -> None:
        self.wall = wall
        self.steady = steady

    def clock(self) -> RestClock:
        return RestClock(lambda: self.wall, lambda: self.steady)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_it_begins_with_the_wall_clock() -> None:
    assert Machine(1_000_000.0).clock().now(0) == 1_000_000_000


def test_a_wall_clock_that_is_set_does_not_matter() -> None:
    machine = Machine(1_000_000.0)
    clock = machine.clock()
    machine.wait(5.0)
    machine.wall -= DAY
    assert clock.now(0) == 1_000_005_000
    machine.wall += 2 * DAY
    assert clock.now(0) == 1_000_005_000


def test_it_goes_on_from_what_is_stored_if_that_is_ahead() -> None:
    machine = Machine(1_000_000.0)
    clock = machine.clock()
    stored = 2_000_000_000
    assert clock.now(stored) == stored
    machine.wait(5.0)
    assert clock.now(stored) == stored + 5000


@given(
    st.lists(st.tuples(st.floats(-DAY, DAY), st.floats(0, 100)), min_size=1, max_size=8),
    st.integers(0, 100_000),
)
def test_nothing_rests_longer_than_its_delay_from_when_it_was_released(
    replicas: list[tuple[float, float]], delay: int
) -> None:
    """One after the other is active, each with a wall clock of its own."""
    latest, released = 0, 0.0
    for off, seconds in replicas:
        machine = Machine(1_000_000.0 + off)
        clock = machine.clock()
        latest, waited = clock.now(latest), 0.0
        released = latest
        machine.wait(seconds)
        waited += seconds
        taken_over = Machine(1_000_000.0 - off).clock().now(latest)
        assert taken_over >= released
        machine.wait(max(delay / 1000 - waited, 0) + 0.001)
        assert clock.now(latest) >= released + delay
