"""Long work in pieces."""

from __future__ import annotations

import asyncio

from services.common.process.turns import SECONDS, Turns


class Clock:
    """Goes on by as much as a piece of work takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += SECONDS / 4


async def test_a_piece_ends_when_its_time_is_over() -> None:
    clock = Clock()
    turns = Turns(clock)
    async with turns.piece() as piece:
        clock.now += 1.0  # awaited something
        piece.begin()
        done = 0
        while not piece.is_over:
            clock.work()
            done += 1
    assert done == 4


async def test_long_works_take_turns_and_others_come_between() -> None:
    clock = Clock()
    turns = Turns(clock)
    said: list[str] = []
    running = 0

    async def work(name: str) -> None:
        nonlocal running
        for _ in range(3):
            async with turns.piece() as piece:
                running += 1
                assert running == 1
                while not piece.is_over:
                    clock.work()
                    await asyncio.sleep(0)
                running -= 1
                said.append(name)

    async def short() -> None:
        said.append("short")

    works = [asyncio.create_task(work(name)) for name in "ab"]
    await asyncio.sleep(0)
    await short()
    await asyncio.gather(*works)
    assert said == ["short", *"ababab"]
