"""Long work in pieces, between which others have their turn.

One piece at a time of all such work in the process, and a pause as long as the piece after each:
so a call that has to look at a lot keeps nobody waiting for longer than a piece, and a hundred of
them have half of the time together.

    while rest:
        async with turns.piece() as piece:
            piece.begin()                       # after whatever is awaited
            while rest and not piece.is_over:
                ...
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

SECONDS: Final = 0.003
"""A piece: a fraction of a transaction."""


class Piece:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()

    def begin(self) -> None:
        """Says that the work begins now."""
        self._begun = self._clock()

    @property
    def spent(self) -> float:
        return self._clock() - self._begun

    @property
    def is_over(self) -> bool:
        return self.spent >= SECONDS


class Turns:
    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._one = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def piece(self) -> AsyncIterator[Piece]:
        """Waits for its turn; in the end, for as long as it took, before anybody's next piece."""
        async with self._one:
            piece = Piece(self._clock)
            yield piece
            await asyncio.sleep(min(piece.spent, SECONDS))
