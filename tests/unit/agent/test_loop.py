"""The loop of rounds: what is asked, done, refused, and how long whoever waits has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable

import pytest

from services.agent.loop import Loop, Occasion, Pace
from services.common.backoff import BackoffPolicy
from services.common.errors import WrongState

SECONDS = 10.0


class Part:
    """Copies what is asked into what is done."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done: list[str] = []
        self.occasions: list[Occasion] = []
        self.defects: list[bool] = []
        self.known = True
        self.whole = True
        self.error: Exception | None = None
        self.during: Callable[[], None] = lambda: None
        self.due = math.inf

    async def listen(self) -> None:
        return

    def intake(self, occasion: Occasion) -> tuple[str, ...] | None:
        self.occasions.append(occasion)
        return tuple(self.asked) if self.known else None

    def perform(self, task: tuple[str, ...]) -> list[str]:
        if self.error is not None:
            raise self.error
        return list(task)

    def accept(self, _task: tuple[str, ...], outcome: list[str], /) -> bool:
        self.done = outcome
        return self.whole

    def broke(self, *, defect: bool) -> None:
        self.defects.append(defect)


@contextlib.asynccontextmanager
async def running(
    part: Part, *, quick: float = math.inf, full: float = math.inf, retry: float = 0.01
) -> AsyncIterator[Loop[tuple[str, ...], list[str]]]:
    async def thread(work: Callable[[], list[str]]) -> list[str]:
        await asyncio.sleep(0)
        part.during()
        return work()

    policy = BackoffPolicy(initial=retry, maximum=retry)
    loop = Loop("test", part, thread, Pace(quick, full, policy), draw=lambda: 1.0)
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(SECONDS):
            yield loop
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def ask(loop: Loop[tuple[str, ...], list[str]], part: Part, what: str) -> None:
    part.asked.append(what)
    loop.touch()


async def test_what_is_asked_for_is_done() -> None:
    part = Part()
    async with running(part) as loop:
        ask(loop, part, "a")
        await loop.reached()
        assert part.done == ["a"]
        assert loop.settled
        assert loop.quiet


async def test_what_is_asked_for_during_a_round_is_of_the_next() -> None:
    part = Part()
    async with running(part) as loop:
        seen: list[list[str]] = []

        def during() -> None:
            if len(part.asked) == 1:
                ask(loop, part, "b")
                assert not loop.quiet

        part.during = during
        loop.on_change(lambda: seen.append(part.done))
        ask(loop, part, "a")
        await loop.reached()
        assert part.done == ["a"]
        await loop.reached()
        assert seen == [["a"], ["a", "b"]]


async def test_what_is_not_known_yet_is_waited_for() -> None:
    part = Part()
    part.known = False
    async with running(part, quick=0.01) as loop:
        ask(loop, part, "a")
        await loop.next()
        waiting = asyncio.create_task(loop.reached())
        await loop.next()
        assert not waiting.done()
        assert not loop.settled
        part.known = True
        await waiting


async def test_a_part_that_is_due_before_it_is_known_what_shall_be_waits_to_be_asked() -> None:
    class Early(Part):
        def intake(self, occasion: Occasion) -> tuple[str, ...] | None:
            task = super().intake(occasion)
            self.known = len(self.occasions) >= 10  # an end, where nobody else would get a turn
            return task

    part = Early()
    part.known = False
    part.due = -math.inf
    async with running(part) as loop:
        await loop.next()
        await asyncio.sleep(0.05)
        assert len(part.occasions) == 1
        part.known = True
        ask(loop, part, "a")
        await loop.reached()
        assert part.done == ["a"]


async def test_a_round_that_did_not_do_all_settles_nothing() -> None:
    part = Part()
    part.whole = False
    async with running(part, quick=0.01) as loop:
        ask(loop, part, "a")
        waiting = asyncio.create_task(loop.reached())
        await loop.next()
        await loop.next()
        assert not waiting.done()
        part.whole = True
        await waiting


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (WrongState("the kernel says no", "NO"), "the kernel says no"),
        (OSError(28, "No space left on device"), "No space left"),
        (KeyError("r1"), "test: a defect in the agent: KeyError: 'r1'"),
    ],
)
async def test_an_error_is_shown_and_tried_again(error: Exception, shown: str) -> None:
    part = Part()
    part.error = error
    async with running(part) as loop:
        ask(loop, part, "a")
        waiting = asyncio.create_task(loop.reached())
        await loop.next()
        await loop.next()
        assert shown in loop.error
        assert part.defects[0] is ("defect" in shown)
        assert not loop.quiet
        assert not waiting.done()
        part.error = None
        await waiting
        assert not loop.error


async def test_an_error_while_it_listens_is_tried_again() -> None:
    class Deaf(Part):
        deaf = True

        async def listen(self) -> None:
            if self.deaf:
                raise WrongState("there is no netlink", "NO")

    part = Deaf()
    async with running(part) as loop:
        ask(loop, part, "a")
        await loop.next()
        assert loop.error == "there is no netlink"
        part.deaf = False
        await loop.reached()


async def test_a_listener_that_fails_ends_nothing() -> None:
    part = Part()
    async with running(part) as loop:
        loop.on_change(lambda: 1 // 0)
        ask(loop, part, "a")
        await loop.reached()


async def test_who_has_it_tried_does_not_wait_for_the_back_off() -> None:
    part = Part()
    part.error = WrongState("no", "NO")
    async with running(part, retry=1000.0) as loop:
        ask(loop, part, "a")
        await loop.next()
        assert await loop.tried() == "no"
        part.error = None
        assert await loop.tried() == ""
        await loop.reached()


async def test_who_has_it_tried_is_not_answered_by_a_round_that_began_before() -> None:
    part = Part()
    tried: list[asyncio.Task[str]] = []
    async with running(part) as loop:

        def during() -> None:
            if not tried:
                part.asked.append("b")
                tried.append(asyncio.create_task(loop.tried()))

        part.during = during
        ask(loop, part, "a")
        await loop.reached()
        assert part.done == ["a"]
        await tried[0]
        assert part.done == ["a", "b"]


async def test_one_that_gives_up_holds_up_nobody() -> None:
    part = Part()
    part.known = False
    async with running(part, quick=0.01) as loop:
        gone = asyncio.create_task(loop.reached())
        other = asyncio.create_task(loop.reached())
        await loop.next()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        part.known = True
        await other


@pytest.mark.parametrize(("full", "often"), [(math.inf, 1), (0.0, 4)])
async def test_the_clock_asks_for_everything_at_first_and_then_now_and_then(
    full: float, often: int
) -> None:
    part = Part()
    async with running(part, quick=0.001, full=full) as loop:
        while len(part.occasions) < 4:
            await loop.next()
    assert part.occasions[0].full
    assert [occasion.full for occasion in part.occasions[:4]].count(True) == often


async def test_what_the_part_says_is_due_has_a_round() -> None:
    part = Part()
    async with running(part) as loop:
        await loop.next()

        def once() -> None:
            part.due = math.inf

        part.during = once
        part.due = asyncio.get_running_loop().time() + 0.01
        loop.wake()
        await loop.next()
