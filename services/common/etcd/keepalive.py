"""The stream on which a lease is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc.aio

from services.common.etcd.connection import Endpoint
from services.common.etcd.definitions import rpc_pb2
from services.common.etcd.errors import unavailable


class LeaseStream:
    """Renews one lease as often as it is told to. After an error it is of no more use."""

    def __init__(
        self, endpoint: Endpoint, lease: int, on_failure: Callable[[Endpoint, str], None]
    ) -> None:
        self._endpoint = endpoint
        self._lease = lease
        self._on_failure = on_failure
        self._call: (
            grpc.aio.StreamStreamCall[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse]
            | None
        ) = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._call is not None:
            self._call.cancel()

    async def renew(self, timeout: float) -> int:
        """Asks for the full time again.

        Returns:
            Seconds that the lease lasts at least from when this was called; 0: it has ended.

        Raises:
            Unavailable: no answer in time; it may have been renewed all the same.
        """
        try:
            async with asyncio.timeout(timeout):
                if self._call is None:
                    self._call = self._endpoint.lease.LeaseKeepAlive(
                        metadata=(("hasleader", "true"),)
                    )
                await self._call.write(rpc_pb2.LeaseKeepAliveRequest(ID=self._lease))
                response = await self._call.read()
        except TimeoutError:
            raise self._failure("renewing a lease timed out") from None
        except grpc.aio.AioRpcError as error:
            raise self._failure(error.details() or error.code().name) from error
        except asyncio.InvalidStateError as error:
            raise self._failure("the stream has ended") from error
        if not isinstance(response, rpc_pb2.LeaseKeepAliveResponse):
            raise self._failure("the stream has ended")
        return response.TTL

    def _failure(self, reason: str) -> Exception:
        self._on_failure(self._endpoint, reason)
        return unavailable(self._endpoint.target, reason)
