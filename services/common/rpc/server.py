"""The gRPC server of a process: health, reflection, wrapped handlers, TLS, drain.

server = RpcServer(RpcMetrics(registry))
server.register(add_IpamServiceServicer_to_server, servicer)
server.listen("127.0.0.1:9602")
await server.start()
server.set_serving(serving=True)                # in-sync
...
server.drain()                                  # NOT_SERVING, streams told, no new ones
await server.stop(grace=10)                     # streams end, then running calls
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.rpc.draining import Draining
from services.common.rpc.health import Health
from services.common.rpc.interceptors import CallWrapper, Handler
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.options import SERVER_OPTIONS
from services.common.rpc.revoked import RevokedCertificates
from services.common.rpc.status import StatusEncoder
from services.common.socket_address import SocketAddress, TcpAddress, UnixAddress, parse_address
from services.common.tls import FollowedFiles, TlsFiles

log = structlog.get_logger(__name__)

_Servicer = TypeVar("_Servicer")

_FOR_CALLS = 0.1
"""Part of the grace that is left to running calls when streams do not end."""
_QUIET = 0.1
"""Seconds without a call after which nobody is taken to ask any more."""
_TURN = 1.0
"""Seconds that those who ask get at most to turn elsewhere."""
_UNIX_UMASK = 0o177
"""Makes a Unix socket's mode 0600."""


class RpcServer:
    """One server, on any number of addresses. Made inside the running event loop."""

    def __init__(self, metrics: RpcMetrics, encoder: StatusEncoder | None = None) -> None:
        """Serves health and reflection, and what is registered."""
        self.draining = Draining()
        """For stream handlers: set when the stop begins."""
        self._health = Health(self.draining)
        self._revoked = RevokedCertificates()
        self._ending: asyncio.Task[None] | None = None
        self._wrapper = CallWrapper(
            metrics, encoder or StatusEncoder(), self.draining, self._revoked
        )
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._names: list[str] = []
        self._on_serving: Callable[[], None] = lambda: None
        self._addresses: list[SocketAddress] = []
        self.register(health_pb2_grpc.add_HealthServicer_to_server, self._health)

    @property
    def serving(self) -> bool:
        return self._health.serving

    @property
    def addresses(self) -> Sequence[SocketAddress]:
        """Where it listens, with the ports that were chosen for port 0."""
        return tuple(self._addresses)

    def on_refused(self, told: Callable[[str, RomanaError], None]) -> None:
        """Has somebody told of every call of an audited method that is refused."""
        self._wrapper.on_refused = told

    def register(
        self,
        add: Callable[[_Servicer, grpc.aio.Server], None],
        servicer: _Servicer,
        *,
        ends_on_drain: bool = False,
    ) -> None:
        """Adds a service, before the start.

        Args:
            add: The generated `add_<Service>Servicer_to_server`.
            servicer: Its methods are coroutines or asynchronous generators; they raise
                RomanaError.
            ends_on_drain: See `CallWrapper.wrap`.
        """
        registrar = _Registrar(self._wrapper, ends_on_drain=ends_on_drain)
        add(servicer, cast("grpc.aio.Server", registrar))  # it asks for these two methods only
        for name, handlers in registrar.services.items():
            self._server.add_registered_method_handlers(name, handlers)
            self._health.add(name)
            self._names.append(name)

    def listen(
        self, address: str, *, tls: TlsFiles | None = None, insecure: bool = False
    ) -> SocketAddress:
        """Binds an address, just before the start: nothing may be waited for in between.

        The kernel takes connections from here on. Until the start nobody speaks to those who come,
        and they wait for that as long as their own bound for an attempt is, 20 s by gRPC's default.

        Args:
            address: `host:port` (port 0: a free one) or `unix:/path` (mode 0600).
            tls: Files; without them only loopback and Unix sockets are served.
            insecure: Says that serving others in the clear is meant.

        Raises:
            InvalidInput: No address, or it needs TLS.
            WrongState: Somebody else listens there, or it is not this machine's.
        """
        parsed = parse_address(address)
        if tls is None and not parsed.is_local and not insecure:
            raise InvalidInput(
                f"{address} is reached from other machines: give TLS files, or --insecure to serve "
                "without",
                "INSECURE_LISTEN",
            )
        if isinstance(parsed, UnixAddress):
            bound: SocketAddress = parsed
            self._bind_unix(parsed, tls)
        else:
            bound = TcpAddress(parsed.host, self._bind(str(parsed), tls))
        self._addresses.append(bound)
        return bound

    async def start(self) -> None:
        """Takes calls; health says NOT_SERVING."""
        servicer = reflection.aio.ReflectionServicer([*self._names, reflection.SERVICE_NAME])
        self.register(
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer, ends_on_drain=True
        )
        await self._server.start()
        self._ending = asyncio.create_task(self._revoked.run(), name="streams of the revoked")
        log.info(
            "rpc_listening",
            addresses=[str(address) for address in self._addresses],
            services=self._names,
        )

    def on_serving(self, react: Callable[[], None]) -> None:
        """Has `react` called whenever health turns to SERVING."""
        self._on_serving = react

    def set_serving(self, *, serving: bool) -> None:
        """Says to health checks whether this process is in-sync."""
        if serving != self._health.serving:
            self._health.set_serving(serving=serving)
            log.info("rpc_serving", serving=self._health.serving)
            if self._health.serving:
                self._on_serving()

    async def drain(self) -> None:
        """Begins the stop: NOT_SERVING, streams are told, new ones are refused as UNAVAILABLE."""
        self.draining.set()
        self._health.set_serving(serving=False)
        await asyncio.sleep(0)  # health watchers are written to before connections close

    async def stop(self, grace: float) -> None:
        """Drains, waits at most `grace` seconds for streams and then running calls, closes.

        Single calls are served while streams end, and refused from then on. The waiting is done
        here, since a call that arrives while grpc stops is ended as CANCELLED, which no client
        retries, rather than refused. So those who ask are refused until they have turned elsewhere.
        """
        await self.drain()
        deadline = asyncio.get_running_loop().time() + grace
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline - grace * _FOR_CALLS):
                await self._wrapper.streams_ended()
        self.draining.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._wrapper.idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + _TURN)):
                await self._wrapper.quiet(_QUIET)
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)
        await self._server.stop(max(deadline - asyncio.get_running_loop().time(), 0))
        for address in self._addresses:
            if isinstance(address, UnixAddress):
                address.path.unlink(missing_ok=True)

    def _bind_unix(self, address: UnixAddress, tls: TlsFiles | None) -> None:
        """Binds, unless somebody answers there: grpc would take the path from a live server."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(address.path))
            except OSError:
                pass
            else:
                raise _taken(str(address))
        before = os.umask(_UNIX_UMASK)
        try:
            self._bind(str(address), tls)
        finally:
            os.umask(before)

    def _bind(self, address: str, tls: TlsFiles | None) -> int:
        try:
            if tls is None:
                return self._server.add_insecure_port(address)
            files = FollowedFiles(tls)
            files.current().check()
            self._revoked.follow(files)
            return self._server.add_secure_port(address, files.server_credentials())
        except RuntimeError as error:
            raise _taken(address) from error


class _Registrar:
    """Stands in for a server in the generated registration code, and wraps what it is given."""

    def __init__(self, wrapper: CallWrapper, *, ends_on_drain: bool) -> None:
        self._wrapper = wrapper
        self._ends_on_drain = ends_on_drain
        self.services: dict[str, dict[str, Handler]] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers are given by name below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.services[service] = {
            name: self._wrapper.wrap(
                f"{service}/{name}", handler, ends_on_drain=self._ends_on_drain
            )
            for name, handler in handlers.items()
        }


def _taken(address: str) -> WrongState:
    return WrongState(
        f"cannot listen on {address}: it is taken, or not an address of this machine",
        "ADDRESS_UNAVAILABLE",
    )
