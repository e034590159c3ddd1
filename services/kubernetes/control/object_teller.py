"""Tells of objects of the API server one by one, when what they ask for has changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from services.kubernetes.cluster.informer import Change, Informer, Keyed
from services.kubernetes.control.dirty import Dirty

R = TypeVar("R", bound=Keyed)


class ObjectTeller(ABC, Generic[R]):
    """A teller (see `services.kubernetes.control.leading`) of one kind of object."""

    def __init__(self, resources: Informer[R], changed: Callable[[], None]) -> None:
        """`changed` is called when there is something to tell."""
        self._resources = resources
        self._changed = changed
        self._marked: Dirty[str] = Dirty()
        self._postponed: set[str] = set()
        """Refused for what may change elsewhere."""
        resources.on_change(self._take)

    @abstractmethod
    def _asked(self, resource: R) -> object:
        """What an object asks for: as long as that is equal it is not told again."""

    @abstractmethod
    async def _tell(self, resource: R) -> None:
        """Tells of an object as it is now. What is raised has it told again."""

    def _forget(self, name: str) -> None:
        """An object is gone."""

    def mark_all(self) -> None:
        """Everything has to be told anew."""
        self._marked.mark(self._resources.items)

    async def mark_strays(self) -> None:
        """What has no object stays as it is."""

    def mark_postponed(self) -> None:
        """What was refused is tried again."""
        self._marked.mark(self._postponed)
        self._postponed.clear()

    def stand_by(self) -> None:
        """Another replica tells now."""
        self._marked.clear()
        self._postponed.clear()

    async def tell(self) -> bool:
        """Tells of one; whether there is more. What failed is marked again, and raised."""
        for name in self._marked.take(1):
            resource = self._resources.items.get(name)
            try:
                if resource is not None:
                    await self._tell(resource)
            except BaseException:
                self._marked.mark([name])
                raise
        return bool(self._marked)

    def _take(self, changes: Sequence[Change[R]]) -> None:
        for change in changes:
            before, after = change.before, change.after
            if after is None:
                self._forget(change.key)
            elif before is None or self._asked(before) != self._asked(after):
                self._marked.mark([change.key])
        self._changed()
