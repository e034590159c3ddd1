"""Steps that undo decisions which are not in the store yet."""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """Steps in the order of what they undo. Bound methods and arguments, since a closure for every
    address costs three times as much."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., None], tuple[object, ...]]] = []

    def push(self, step: Callable[..., None], *arguments: object) -> None:
        self._steps.append((step, arguments))

    def mark(self) -> int:
        """A point to which `back_to` can go."""
        return len(self._steps)

    def back_to(self, mark: int) -> None:
        """Undoes what was done since a mark, the last first."""
        steps = self._steps
        while len(steps) > mark:
            step, arguments = steps.pop()
            step(*arguments)

    def clear(self) -> None:
        self._steps.clear()
