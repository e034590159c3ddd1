"""Calls to one service: each with a deadline, each failure translated.

Reads are tried again while the service is away and the deadline has not passed. Mutations are not:
an answer that got lost looks the same as a request that did.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message
from grpc.aio import AioRpcError, Channel, UnaryStreamMultiCallable, UnaryUnaryMultiCallable

from services.common.errors import InvalidInput
from services.common.rpc.connecting import is_unusable
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.tls import TlsFiles
from services.common.tracing import spans
from services.ctl.failures import failure

Stub = TypeVar("Stub")
Item = TypeVar("Item")
Req = TypeVar("Req")
Res = TypeVar("Res")

FIRST_PAUSE = 0.1
LAST_PAUSE = 1.0
"""Seconds between attempts; doubling, with jitter."""


class PageRequest(Protocol):
    page_size: int
    page_token: str


class Page(Protocol):
    next_page_token: str


PageReq = TypeVar("PageReq", bound=PageRequest)
PageRes = TypeVar("PageRes", bound=Page)


@dataclass(frozen=True, slots=True)
class Listed(Generic[Item]):
    """What a listing gave, and whether it stopped at its limit."""

    items: tuple[Item, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class CallPolicy:
    timeout: float
    """Seconds."""
    request_id: str
    note: Callable[[str], None]
    """Is told in words what goes on: that a read is tried again, that a change may yet be made."""
    tls: TlsFiles | None = None


class Remote(Generic[Stub]):
    def __init__(
        self,
        name: str,
        address: str,
        channel: Channel,
        stub: Stub,
        call_policy: CallPolicy,
    ) -> None:
        self.name = name
        self.address = address
        self.channel = channel
        self.stub = stub
        self._timeout = call_policy.timeout
        self._metadata = ((REQUEST_ID_KEY, call_policy.request_id), *spans.carried())
        self._note = call_policy.note
        self._tls = call_policy.tls

    async def read(self, method: UnaryUnaryMultiCallable[Req, Res], request: Req) -> Res:
        """Calls an idempotent method, again while the service is unavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        pause = FIRST_PAUSE
        while True:
            try:
                return await method(
                    request, timeout=max(0.001, end - loop.time()), metadata=self._metadata
                )
            except AioRpcError as error:
                translated = self._failure(error)
                left = end - loop.time()
                if translated.status != "UNAVAILABLE" or left <= pause:
                    raise translated from error
                if pause == FIRST_PAUSE:
                    self._note(f"{translated.message}; trying again for {math.ceil(left)} s")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
            pause = min(pause * 2, LAST_PAUSE)

    async def once(self, method: UnaryUnaryMultiCallable[Req, Res], request: Req) -> Res:
        """Calls a method exactly once."""
        try:
            return await method(request, timeout=self._timeout, metadata=self._metadata)
        except AioRpcError as error:
            failed = self._failure(error)
            if failed.status == "DEADLINE_EXCEEDED" and not failed.reason and _changes(request):
                failed.hint = "it may yet do it: look before you try again; " + failed.hint
            raise failed from error
        except asyncio.CancelledError:
            if _changes(request):
                self._note(f"Interrupted: {self.name} may yet do what it was asked")
            raise

    async def every(
        self,
        method: UnaryUnaryMultiCallable[PageReq, PageRes],
        request: PageReq,
        items: Callable[[PageRes], Iterable[Item]],
        *,
        limit: int = 0,
        page_size: int = 1000,
    ) -> Listed[Item]:
        """Reads page after page; at most `limit` items, 0 for all there are."""
        found: list[Item] = []
        while True:
            request.page_size = min(page_size, limit - len(found)) if limit else page_size
            page = await self.read(method, request)
            found += items(page)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return Listed(tuple(found), more=False)
            if limit and len(found) >= limit:
                return Listed(tuple(found[:limit]), more=True)

    async def stream(
        self, method: UnaryStreamMultiCallable[Req, Res], request: Req, *, patient: bool
    ) -> AsyncIterator[Res]:
        """Follows a stream to its end; the first message, or each unless `patient`, within time."""
        call = method(request, metadata=self._metadata)
        messages = aiter(call)
        first = True
        try:
            while True:
                async with asyncio.timeout(self._timeout if first or not patient else None):
                    message = await anext(messages)
                first = False
                yield message
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise failure.Failure(
                f"{self.name} at {self.address} did not answer in time",
                status="DEADLINE_EXCEEDED",
                hint="--timeout gives it longer",
            ) from None
        except AioRpcError as error:
            raise self._failure(error) from error
        finally:
            call.cancel()

    def _failure(self, error: AioRpcError) -> failure.Failure:
        if self._tls is not None and is_unusable(error.details() or ""):
            try:
                self._tls.read().check()
            except InvalidInput as wrong:
                return failure.of_error(wrong)
        is_tls = self._tls is not None
        return failure.of_call(error, name=self.name, address=self.address, tls=is_tls)


def _changes(request: object) -> bool:
    """Whether it asks for a change: those have a request's id, for the log."""
    if not isinstance(request, Message):
        return False
    return "request_id" in request.DESCRIPTOR.fields_by_name and not getattr(
        request, "validate_only", False
    )
