"""Those who wait until what they asked for is done.

What is asked for is counted in generations: each change begins one. A loop that does the work says
how far it has come, and a waiter names the generation that it needs.
"""

from __future__ import annotations

import asyncio


class Waiters:
    """They wait in the event loop; one that gives up is forgotten at the next `settle`."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def wait(self, generation: int) -> None:
        """Waits for the next `settle` with that generation or a later one; 0: for the next of all.

        It does not know what has been settled before: ask only if that is not enough.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((generation, future))
        await future

    def settle(self, generation: int) -> None:
        """All that was asked for until then is done: those who waited for it go on."""
        waiting, self._waiting = self._waiting, []
        for needed, future in waiting:
            if future.done():
                continue
            if needed <= generation:
                future.set_result(None)
            else:
                self._waiting.append((needed, future))
