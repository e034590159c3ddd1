"""One watch stream: changes of a prefix from a revision on, until it breaks.

What the stream promises and what it does not (etcd 3.4, measured or read in its source):

- A response holds whole transactions, except that with `fragment` etcd cuts those above 1.5 MiB
  into several; these follow each other immediately and all but the last are marked.
- The revision in the header of a response with events says how far the *store* is, not how far
  this watch is: while it catches up it is ahead. Only the last event tells.
- Without events the header's revision is a promise that everything up to it was sent, if the
  response is etcd's own periodical one (every 10 minutes by default). The answer to a
  WatchProgressRequest is not: up to 3.4.25 it overtakes events. It is not used.
- A member that lost its quorum keeps streams open silently, unless asked not to by `hasleader`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc.aio

from services.common.etcd import messages
from services.common.etcd.connection import Endpoint
from services.common.etcd.definitions import rpc_pb2
from services.common.etcd.errors import Compacted, unavailable
from services.common.etcd.types import Changes, Event, Revision


class Reassembly:
    """Makes whole transactions of responses."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def add(self, response: rpc_pb2.WatchResponse) -> Changes | None:
        """Whole transactions, or None while a fragment is missing."""
        self._events.extend(map(messages.event, response.events))
        if response.fragment:
            return None
        events, self._events = self._events, []
        return Changes(events, events[-1].revision if events else response.header.revision)


class WatchStream:
    """A context that opens the stream; after an error it is of no more use."""

    def __init__(
        self,
        endpoint: Endpoint,
        prefix: str,
        start: Revision,
        timeout: float,
        on_failure: Callable[[Endpoint, str], None],
    ) -> None:
        self._endpoint = endpoint
        self._prefix = prefix
        self._start = start
        self._timeout = timeout
        self._on_failure = on_failure
        self._reassembly = Reassembly()
        self._call: (
            grpc.aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse] | None
        ) = None

    async def __aenter__(self) -> Self:
        """Opens the stream; raises Unavailable or Compacted."""
        start, end = messages.prefix_range(self._prefix)
        create = rpc_pb2.WatchCreateRequest(
            key=start,
            range_end=end,
            start_revision=self._start,
            progress_notify=True,
            fragment=True,
        )
        self._call = self._endpoint.watch.Watch(metadata=(("hasleader", "true"),))
        try:
            async with asyncio.timeout(self._timeout):
                await self._call.write(rpc_pb2.WatchRequest(create_request=create))
                response = await self._response()
        except BaseException as error:
            self._call.cancel()
            if isinstance(error, TimeoutError):
                raise self._failure("opening a watch timed out") from None
            if isinstance(error, grpc.aio.AioRpcError):
                raise self._failure(error.details() or error.code().name) from error
            if isinstance(error, asyncio.InvalidStateError):
                raise self._failure("the stream has ended") from error
            raise
        if not response.created:
            self._call.cancel()
            raise self._failure("it did not begin the watch with its creation")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._call is not None:
            self._call.cancel()

    async def next(self) -> Changes:
        """Waits for whole transactions, or a promise that there were none up to a revision.

        Raises:
            Unavailable: the stream broke.
            Compacted: what it was to begin with is not kept any more.
        """
        try:
            while True:
                changes = self._reassembly.add(await self._response())
                if changes is not None:
                    return changes
        except grpc.aio.AioRpcError as error:
            raise self._failure(error.details() or error.code().name) from error

    async def _response(self) -> rpc_pb2.WatchResponse:
        assert self._call is not None
        response = await self._call.read()
        if not isinstance(response, rpc_pb2.WatchResponse):
            raise self._failure("the stream has ended")
        if response.canceled:
            if response.compact_revision:
                raise Compacted(f"revisions before {response.compact_revision} are not kept")
            raise self._failure(f"the watch was cancelled: {response.cancel_reason}")
        return response

    def _failure(self, reason: str) -> Exception:
        self._on_failure(self._endpoint, reason)
        return unavailable(self._endpoint.target, reason)
