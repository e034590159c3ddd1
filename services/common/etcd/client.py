"""A client of etcd on grpc.aio: reads, transactions and leases.

Reads are linearizable and are tried again on other endpoints within their deadline. A write is
sent once: it waits for a connection first, so that what fails before that is known not to have
happened, and afterwards only an answer tells. A caller that is cancelled learns nothing either.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog
from grpc.aio import AioRpcError, UnaryUnaryMultiCallable
from prometheus_client import CollectorRegistry

from services.common.errors import Unavailable
from services.common.etcd import messages
from services.common.etcd.connection import KEEPALIVE, Endpoint, Endpoints
from services.common.etcd.definitions import rpc_pb2
from services.common.etcd.errors import (
    Compacted,
    LeaseNotFound,
    OutcomeUnknown,
    StoreReplaced,
    is_transient,
    translate,
    unavailable,
)
from services.common.etcd.guard import Guard
from services.common.etcd.lease_keeper import STALLED, LeaseKeeper
from services.common.etcd.metrics import (
    NoRequestObserver,
    RequestObserver,
    StoreCounters,
    StoreMetrics,
)
from services.common.etcd.paging import next_limit
from services.common.etcd.types import (
    Compare,
    KeyValue,
    Operation,
    Outcome,
    Put,
    Range,
    Revision,
)
from services.common.etcd.watch import WatchStream
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.settings import EtcdSettings
from services.common.tls import TlsFiles
from services.common.tracing import spans

log = structlog.get_logger(__name__)

DOUBTS_MOST = 3
"""Answers in a row, per member, that are not believed before the store is taken for another one."""
_RANGE_ATTEMPTS = 3
"""A list is begun anew when its revision is compacted while it is read."""


class _Response(Protocol):
    @property
    def header(self) -> rpc_pb2.ResponseHeader: ...


Request = TypeVar("Request")
Response = TypeVar("Response", bound=_Response)
Method = Callable[[Endpoint], UnaryUnaryMultiCallable[Request, Response]]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What a member says of itself; not linearizable."""

    endpoint: str
    version: str
    size: int
    """Bytes of its database."""
    revision: Revision
    has_leader: bool


class EtcdClient:
    """One store, however many members it has."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: TlsFiles | None = None,
        timeout: float = 5.0,
        keepalive: float = KEEPALIVE,
        observer: RequestObserver | None = None,
    ) -> None:
        """Connects to nothing yet, but wants a running loop.

        Args:
            endpoints: `host:port` of members, the preferred one first.
            tls: authority, certificate and key; None is plain text.
            timeout: seconds for each request, retries included.
            keepalive: seconds between pings on streams; etcd accepts no less than 5.
            observer: told of every request.
        """
        self.counters = StoreCounters()
        self._endpoints = Endpoints(endpoints, tls, keepalive)
        self._timeout = timeout
        self._observer = observer or NoRequestObserver()
        self._guard = Guard()
        self._doubts = 0
        self._replaced = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections, and what is in flight with an error."""
        await self._endpoints.close()

    async def until_replaced(self) -> None:
        """Raises StoreReplaced when no member is the store it was, as after a restore.

        What was read before is void then. An eternal task of every process: it ends, and the next
        one reads everything anew.
        """
        await self._replaced.wait()
        raise StoreReplaced("etcd was replaced or restored: start again to read it anew")

    async def get(self, key: str, *, revision: Revision = 0) -> KeyValue | None:
        """The key as it is, or was at a revision, which raises Compacted; None: it is not there."""
        request = rpc_pb2.RangeRequest(key=key.encode(), revision=revision)
        response = await self._read("get", lambda to: to.kv.Range, request)
        return messages.key_value(response.kvs[0]) if response.kvs else None

    async def revision(self) -> Revision:
        """That of the store now: everything acknowledged before is at or below it."""
        request = rpc_pb2.RangeRequest(key=b"\0", count_only=True)
        response = await self._read("revision", lambda to: to.kv.Range, request)
        return response.header.revision

    async def range(self, prefix: str, *, revision: Revision = 0) -> Range:
        """All keys that start with `prefix`, at one revision (0: the present one).

        It is read in pages of some megabytes. etcd 3.4 walks all the rest of a range for every
        page however small, so pages are few: see `services.common.etcd.paging`.

        Raises:
            Unavailable: the store is away.
            Compacted: `revision` was given and is not kept any more.
        """
        for _ in range(_RANGE_ATTEMPTS - 1):
            try:
                return await self._range(prefix, revision)
            except Compacted:
                if revision:
                    raise
        return await self._range(prefix, revision)

    async def _range(self, prefix: str, revision: Revision) -> Range:
        start, end = messages.prefix_range(prefix)
        parts: list[rpc_pb2.RangeResponse] = []
        limit = next_limit(0, 0)
        while True:
            request = rpc_pb2.RangeRequest(key=start, range_end=end, limit=limit, revision=revision)
            response = await self._read("range", lambda to: to.kv.Range, request)
            revision = revision or response.header.revision
            parts.append(response)
            if not response.more:
                return Range(messages.StoredItems(parts), revision)
            start = messages.after(response.kvs[-1].key)
            limit = next_limit(len(response.kvs), response.ByteSize())
            await asyncio.sleep(0)

    async def count_changed(self, prefix: str, since: Revision) -> tuple[int, int, Revision]:
        """Keys there are, keys among them written after `since`, and the revision of both.

        etcd looks at every key and value of the prefix.
        """
        start, end = messages.prefix_range(prefix)
        request = rpc_pb2.RangeRequest(
            key=start, range_end=end, min_mod_revision=since + 1, keys_only=True
        )
        response = await self._read("count_changed", lambda to: to.kv.Range, request)
        return response.count, len(response.kvs), response.header.revision

    async def count(self, prefix: str, revision: Revision) -> int:
        """Keys there were at `revision`; raises Compacted."""
        start, end = messages.prefix_range(prefix)
        request = rpc_pb2.RangeRequest(key=start, range_end=end, revision=revision, count_only=True)
        response = await self._read("count", lambda to: to.kv.Range, request)
        return response.count

    async def transact(
        self,
        compares: Sequence[Compare],
        operations: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
    ) -> Outcome:
        """Carries out `operations` if all of `compares` hold, else `otherwise`, atomically.

        At most 128 of each kind, and 1.5 MiB in all; no key may be written twice.

        Raises:
            Unavailable: nothing was carried out.
            OutcomeUnknown: it may have been carried out, or may still be.
            LeaseNotFound: a key was to be bound to a lease that has ended.
            RequestRefused: against the rules above.
        """
        request = messages.transaction(compares, operations, otherwise)
        perform = self._write if messages.writes([*operations, *otherwise]) else self._read
        with spans.child("etcd transact"):
            return messages.outcome(await perform("transact", lambda to: to.kv.Txn, request))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> Revision:
        """Writes a key whatever was there; errors are those of `transact`."""
        return (await self.transact((), (Put(key, value, lease),))).revision

    async def compact(self, revision: Revision) -> None:
        """Forgets what was overwritten or deleted before `revision`."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        await self._write("compact", lambda to: to.kv.Compact, request)

    async def grant_lease(self, ttl: int) -> int:
        """A new lease that ends `ttl` seconds after its last renewal; etcd may make it longer.

        If its outcome is not known, the lease that may exist ends by itself.
        """
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl)
        response = await self._write("grant_lease", lambda to: to.lease.LeaseGrant, request)
        return response.ID

    async def revoke_lease(self, lease: int) -> None:
        """Ends a lease and deletes its keys; one that has ended already is fine."""
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(LeaseNotFound):
            await self._write("revoke_lease", lambda to: to.lease.LeaseRevoke, request)

    def keep_lease_alive(
        self, lease: int, ttl: float, granted: float, *, stalled: float = STALLED
    ) -> LeaseKeeper:
        """Renews a lease, as an asynchronous context; see there."""
        to = self._endpoints
        return LeaseKeeper(
            to.targets, to.make_blocking_channel, lease, ttl, granted, stalled=stalled
        )

    def watch(self, prefix: str, start: Revision) -> WatchStream:
        """Changes of keys that start with `prefix` from `start` on, as an asynchronous context."""
        return WatchStream(
            self._endpoints.current, prefix, start, self._timeout, self._stream_failed
        )

    async def status(self) -> StoreStatus:
        """That of the member in use; of the next one if it does not answer."""
        endpoint = self._endpoints.current
        response = await self._read(
            "status", lambda to: to.maintenance.Status, rpc_pb2.StatusRequest(), linearizable=False
        )
        return StoreStatus(
            endpoint=endpoint.target,
            version=response.version,
            size=response.dbSize,
            revision=response.header.revision,
            has_leader=bool(response.leader),
        )

    async def _read(
        self,
        operation: str,
        method: Method[Request, Response],
        request: Request,
        *,
        linearizable: bool = True,
    ) -> Response:
        """Tries every endpoint, and at last the first again."""
        with _Measured(self, operation) as measured:
            deadline = measured.started + self._timeout
            for attempt in range(len(self._endpoints), -1, -1):
                endpoint = self._endpoints.current
                remaining = max(deadline - time.monotonic(), 0.0)
                spare = attempt > 0 and len(self._endpoints) > 1
                floor = self._guard.revision
                try:
                    response = await method(endpoint)(
                        request, timeout=remaining / 2 if spare else remaining
                    )
                    self._believe(endpoint, response.header, floor, linearizable=linearizable)
                except AioRpcError as error:
                    if is_transient(error):
                        self._failed(endpoint, error.details() or error.code().name)
                    if not is_transient(error) or attempt == 0 or time.monotonic() >= deadline:
                        raise translate(error, endpoint.target, writes=False) from error
                except Unavailable as error:
                    self._failed(endpoint, error.message)
                    if attempt == 0:
                        raise
                else:
                    return response
            raise AssertionError("the last attempt returns or raises")

    async def _write(
        self, operation: str, method: Method[Request, Response], request: Request
    ) -> Response:
        """Finds an endpoint that can be connected to, and sends the request once."""
        with _Measured(self, operation) as measured:
            deadline = measured.started + self._timeout
            endpoint = await self._connected(deadline)
            floor = self._guard.revision
            try:
                response = await method(endpoint)(
                    request, timeout=max(deadline - time.monotonic(), 0.0)
                )
                self._believe(endpoint, response.header, floor, linearizable=True)
            except AioRpcError as error:
                if is_transient(error):
                    self._failed(endpoint, error.details() or error.code().name)
                raise translate(error, endpoint.target, writes=True) from error
            except Unavailable as error:
                self._failed(endpoint, error.message)
                raise OutcomeUnknown(error.message, metadata=error.metadata) from error
            return response

    async def _connected(self, deadline: float) -> Endpoint:
        for attempt in range(len(self._endpoints) - 1, -1, -1):
            endpoint = self._endpoints.current
            remaining = max(deadline - time.monotonic(), 0.0)
            try:
                await endpoint.ready(remaining / 2 if attempt else remaining)
            except Unavailable as error:
                self._failed(endpoint, error.message)
                if attempt == 0:
                    raise
            else:
                break
        return endpoint

    def _believe(
        self,
        endpoint: Endpoint,
        header: rpc_pb2.ResponseHeader,
        floor: Revision,
        *,
        linearizable: bool,
    ) -> None:
        objection = self._guard.objection(header, floor, linearizable=linearizable)
        if not objection:
            self._doubts = 0
            return
        self.counters.regressions += 1
        self._doubts += 1
        if self._doubts >= DOUBTS_MOST * len(self._endpoints):
            self._replaced.set()
        log.error("etcd_answer_not_believed", endpoint=endpoint.target, why=objection)
        raise unavailable(endpoint.target, f"it is not the store it was: {objection}")

    def _failed(self, endpoint: Endpoint, reason: str) -> None:
        if self._endpoints.failed(endpoint, reason):
            self.counters.reconnects += 1

    def _stream_failed(self, endpoint: Endpoint, reason: str) -> None:
        self.counters.reconnects += 1
        self._endpoints.failed(endpoint, reason)

    def finished(self, operation: str, seconds: float, *, ok: bool) -> None:
        self.counters.requests += 1
        self.counters.failures += not ok
        self._observer.observe(operation, seconds, ok=ok)


class _Measured:
    def __init__(self, client: EtcdClient, operation: str) -> None:
        self._client = client
        self._operation = operation
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self.started
        self._client.finished(self._operation, seconds, ok=error is None)


def open_store(life: Lifecycle, settings: EtcdSettings, registry: CollectorRegistry) -> EtcdClient:
    """A client that is closed at the end, and whose requests are counted."""
    client = EtcdClient(
        settings.endpoints,
        tls=settings.tls.files(),
        timeout=settings.timeout,
        observer=StoreMetrics(registry),
    )
    life.on_stop(Phase.CLOSE, "etcd", client.close)
    return client
