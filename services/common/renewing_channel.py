"""A channel that goes on with renewed certificates.

gRPC's channels keep the credentials that they were made with, and need them again whenever they
connect anew. So when the files have changed, the next call makes a new channel underneath. Calls
that are under way, streams too, stay where they are; what they leave is closed when the last of
them has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from services.common.tls import FollowedFiles, TlsContent


class _Channel:
    """One channel underneath, and how many calls it has."""

    def __init__(self, channel: grpc.aio.Channel, content: TlsContent) -> None:
        self.channel = channel
        self.content = content
        self.calls = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def began(self, call: grpc.aio.Call) -> None:
        self.calls += 1
        self.idle.clear()
        call.add_done_callback(self._ended)

    def _ended(self, _call: object) -> None:
        self.calls -= 1
        if not self.calls:
            self.idle.set()


class RenewingChannel(grpc.aio.Channel):
    """What `grpc.aio.secure_channel` makes, with certificates from files that are followed."""

    def __init__(
        self,
        files: FollowedFiles,
        make: Callable[[grpc.ChannelCredentials], grpc.aio.Channel],
    ) -> None:
        """`make`: makes a channel of credentials."""
        self._files = files
        self._make = make
        self._used = self._new(files.current())
        self._left: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Ends all calls, at once or after `grace` seconds, those of channels underneath, too."""
        self._closed = True
        await self._used.channel.close(grace)
        for task in self._left:
            task.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - grpc's signature
        """That of the channel that the next call goes by."""
        return self.current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one."""
        await self.current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel.channel_ready()

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "stream_stream", arguments, named)

    def current(self) -> _Channel:
        """That which the next call goes by."""
        content = self._files.current()
        if content is not self._used.content and not self._closed:
            left, self._used = self._used, self._new(content)
            task = asyncio.get_running_loop().create_task(_close_when_idle(left))
            self._left.add(task)
            task.add_done_callback(self._left.discard)
        return self._used

    def _new(self, content: TlsContent) -> _Channel:
        return _Channel(self._make(content.channel_credentials()), content)


class _Method:
    """A method of a stub: of the channel in use when it is called."""

    def __init__(
        self,
        channel: RenewingChannel,
        kind: str,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        self._channel = channel
        self._kind = kind
        self._arguments = arguments
        self._named = named
        self._made_on: _Channel | None = None
        self._made: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        used = self._channel.current()
        if used is not self._made_on:
            method = getattr(used.channel, self._kind)
            self._made, self._made_on = method(*self._arguments, **self._named), used
        call = self._made(*arguments, **named)
        used.began(call)
        return call


async def _close_when_idle(left: _Channel) -> None:
    try:
        await left.idle.wait()
    finally:
        await left.channel.close()
