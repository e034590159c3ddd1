"""Follows all objects of a kind: what there is, and every change, for ever.

    list in pages > watch from there > ... > 410: list again, and say what is missing as deletions

The rules are kopf's (https://github.com/nolar/kopf, kopf/_cogs/clients/watching.py): a watch asks
for bookmarks, so that the version it goes on from is never old; it ends by itself after a minute
or so, each at another time, and what goes on in silence after that is broken. Nothing is deleted
because it was not heard of: only by a deletion, or by a list that is whole.

There is no task per object, and of each only the fields that are needed are decoded. Changes that
do not touch these are dropped here, so that a node's heartbeats cost nothing further.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import httpx2
import msgspec
import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError, Unavailable
from services.kubernetes.cluster.api_server import ApiServer, Gone, refusal, translate
from services.kubernetes.objects.metadata import Metadata

log = structlog.get_logger(__name__)

PAGE: Final = 500
WATCH_SECONDS: Final = (60, 90)
"""How long a watch lasts: drawn between these, so that not all of them begin anew at once."""
SHORT_SECONDS: Final = 1.0
"""A watch that ends sooner does not work."""
RETRY: Final = BackoffPolicy(initial=0.2, maximum=10.0)
MISSING_SECONDS: Final = 30.0
"""Between looks whether a kind that the cluster does not know is there now."""


class Keyed(Protocol):
    """An object as it is kept."""

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, or NAME."""


class _Sent(Protocol):
    @property
    def metadata(self) -> Metadata: ...


W = TypeVar("W", bound=_Sent)
T = TypeVar("T", bound=Keyed)


class ListMetadata(msgspec.Struct):
    """Of a list."""

    resource_version: str = msgspec.field(name="resourceVersion", default="")
    token: str = msgspec.field(name="continue", default="")


class ListPage(msgspec.Struct):
    """A page of a list."""

    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: Metadata


class _Error(msgspec.Struct):
    code: int = 0


_lists = msgspec.json.Decoder(ListPage)
_events = msgspec.json.Decoder(_Event)
_bookmarks = msgspec.json.Decoder(_Bookmark)
_errors = msgspec.json.Decoder(_Error)


class Kind(Generic[T]):
    """A kind of object: where it is, and what is kept of it."""

    def __init__(self, path: str, sent: type[W], keep: Callable[[W], T]) -> None:
        """`path`: of all of them, as "/api/v1/pods"; `sent`: as it is decoded."""
        self.path = path
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(sent)
        self._decode: Callable[[msgspec.Raw], Any] = decoder.decode
        self._keep: Callable[[Any], T] = keep

    def read(self, item: msgspec.Raw) -> tuple[T, str]:
        """The object and its version; raises MsgspecError."""
        sent = self._decode(item)
        return self._keep(sent), sent.metadata.resource_version


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What became of an object."""

    key: str
    before: T | None
    after: T | None
    """None: it is gone."""


class Observer(Protocol):
    """Is told how following goes."""

    def listed(self, path: str, objects: int, /) -> None:
        """All objects have been read."""

    def changed(self, path: str, changes: int, /) -> None:
        """Some have changed, come or gone."""

    def following(self, path: str, /, *, follows: bool) -> None:
        """From now on changes are heard of, or not."""


class Informer(Generic[T]):
    """All objects of a kind."""

    def __init__(
        self,
        server: ApiServer,
        kind: Kind[T],
        observer: Observer | None = None,
        *,
        page: int = PAGE,
    ) -> None:
        """Does nothing before `run`."""
        self._server = server
        self._kind = kind
        self._listeners: list[Callable[[Sequence[Change[T]]], None]] = []
        self._followers: list[Callable[[], None]] = []
        self._observer = observer
        self._page = page
        self._items: dict[str, T] = {}
        self._version = ""
        """From which to go on; empty: list first."""
        self._listed = asyncio.Event()
        self._settled = asyncio.Event()
        self.is_following = False
        """What changes now is heard of: a watch stands."""
        self.is_known = True
        """The cluster has such objects."""

    def on_change(self, listener: Callable[[Sequence[Change[T]]], None]) -> None:
        """Calls it with changes as they are seen, after `items` has them."""
        self._listeners.append(listener)

    def on_following(self, listener: Callable[[], None]) -> None:
        """Calls it when changes are heard of again."""
        self._followers.append(listener)

    @property
    def items(self) -> Mapping[str, T]:
        """What there is, as far as it was heard of."""
        return self._items

    @property
    def is_in_sync(self) -> bool:
        """Everything has been read once."""
        return self._listed.is_set()

    async def in_sync(self) -> None:
        """Waits until everything has been read once."""
        await self._listed.wait()

    @property
    def is_settled(self) -> bool:
        """Everything has been read once, or the cluster had no such objects."""
        return self._settled.is_set()

    async def settled(self) -> None:
        """Waits until everything has been read once, or the cluster has no such objects."""
        await self._settled.wait()

    @property
    def misses_nothing(self) -> bool:
        """What changes now is heard of, or the cluster has no such objects."""
        return self.is_following or not self.is_known

    async def run(self) -> None:
        """Follows for ever."""
        backoff = Backoff(RETRY, random.random)
        while True:
            begins = not self._version
            try:
                pause = await self._follow(backoff)
            except Gone:
                log.info("watch_too_old", path=self._kind.path)
                # what has just been listed and is too old already is not listed at once again
                pause = backoff.failed() if begins else 0.0
                self._version = ""
            except NotFound:
                self.is_known, self._version = False, ""
                self._settled.set()
                pause = MISSING_SECONDS
            except RomanaError as error:
                log.warning("not_followed", path=self._kind.path, message=error.message)
                pause = backoff.failed()
            finally:
                self._follows(follows=False)
            if pause:
                await asyncio.sleep(pause)

    async def _follow(self, backoff: Backoff) -> float:
        """Lists if need be, and watches until the watch ends; returns how long to pause then."""
        loop = asyncio.get_running_loop()
        if not self._version:
            await self._list()
        begun = loop.time()
        try:
            await self._watch()
        finally:  # however it ended: something on the way may break whatever is silent
            lasted = loop.time() - begun >= SHORT_SECONDS
            if lasted:
                backoff.succeeded()
        return 0.0 if lasted else backoff.failed()

    def _follows(self, *, follows: bool) -> None:
        if self.is_following is not follows:
            self.is_following = follows
            if self._observer is not None:
                self._observer.following(self._kind.path, follows=follows)
            if follows:
                for listener in self._followers:
                    listener()

    async def _list(self) -> None:
        """Reads all objects at one version; what is no longer among them is gone."""
        found: dict[str, T | None] = {}
        version = ""
        async for page in pages(self._server, self._kind.path, self._page):
            version = page.metadata.resource_version
            for item in page.items or ():
                read = self._read(item)
                if read is not None:
                    found[read[0].key] = read[0]
                elif (key := _bookmarks.decode(item).metadata.key) in self._items:
                    found[key] = self._items[key]
        self._version = version
        self.is_known = True
        gone: dict[str, T | None] = dict.fromkeys(self._items.keys() - found.keys())
        self._put({**gone, **found})
        self._listed.set()
        self._settled.set()
        log.info("listed", path=self._kind.path, objects=len(found))
        if self._observer is not None:
            self._observer.listed(self._kind.path, len(found))

    async def _watch(self) -> None:
        """Takes changes until the server ends the watch."""
        parameters = {
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
        }
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311
        try:
            async with self._server.watch(self._kind.path, parameters, seconds) as answer:
                if answer.status_code != httpx2.codes.OK:
                    raise refusal(answer.status_code, await answer.aread())
                self._follows(follows=True)
                async with contextlib.aclosing(_lines(answer)) as lines:
                    async for batch in lines:
                        self._take_batch(batch)
        except httpx2.HTTPError as error:
            raise translate(error) from error

    def _take_batch(self, lines: Sequence[bytes]) -> None:
        """Several changes of one object come to the last; a re-creation is not seen as two."""
        changes: dict[str, T | None] = {}
        try:
            for line in lines:
                self._take_event(_events.decode(line), changes)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._kind.path}: not an event: {error}") from error
        finally:
            self._put(changes)

    def _take_event(self, event: _Event, changes: dict[str, T | None]) -> None:
        match event.type:
            case "BOOKMARK":
                self._version = _bookmarks.decode(event.object).metadata.resource_version
            case "ERROR":
                raise refusal(_errors.decode(event.object).code, bytes(event.object))
            case "DELETED":
                metadata = _bookmarks.decode(event.object).metadata
                self._version = metadata.resource_version
                changes[metadata.key] = None
            case "ADDED" | "MODIFIED":
                read = self._read(event.object)
                if read is None:
                    self._version = _bookmarks.decode(event.object).metadata.resource_version
                else:
                    value, self._version = read
                    changes[value.key] = value
            case _:
                log.warning("event_unknown", path=self._kind.path, type=event.type)

    def _read(self, item: msgspec.Raw) -> tuple[T, str] | None:
        """An object that is not what it should be keeps what was known of it."""
        try:
            return self._kind.read(item)
        except msgspec.MsgspecError as error:
            log.error("object_unreadable", path=self._kind.path, message=str(error))  # noqa: TRY400
            return None

    def _put(self, now: Mapping[str, T | None]) -> None:
        changes = []
        for key, value in now.items():
            before = self._items.get(key)
            if before == value:
                continue
            if value is None:
                del self._items[key]
            else:
                self._items[key] = value
            changes.append(Change(key, before, value))
        if changes:
            if self._observer is not None:
                self._observer.changed(self._kind.path, len(changes))
            for listener in self._listeners:
                listener(changes)


async def pages(server: ApiServer, path: str, most: int) -> AsyncGenerator[ListPage, None]:
    """All objects, at one version; Gone if that is too old before the last page was asked for."""
    parameters = {"limit": str(most)}
    while True:
        content = await server.get(path, parameters)
        try:
            page = _lists.decode(content)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{path}: not a list: {error}") from error
        yield page
        if not page.metadata.token:
            return
        parameters["continue"] = page.metadata.token


async def _lines(answer: httpx2.Response) -> AsyncGenerator[Sequence[bytes], None]:
    """What came at once, in whole lines."""
    rest = b""
    async for chunk in answer.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line for line in lines if line]
