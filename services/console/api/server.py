"""uvicorn, so that a request knows the certificate of its connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.errors import InvalidInput, WrongState
from services.common.socket_address import TcpAddress, parse_address
from services.console.api.caller import SCOPE, looking

log = structlog.get_logger(__name__)

BACKLOG: Final = 512


class _Protocol(H11Protocol):
    """A connection; uvicorn hands no certificate to applications."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        outer: Any = self.app
        peer = transport.get_extra_info("peername")
        who = looking(transport.get_extra_info("ssl_object"), str(peer[0]) if peer else "nobody")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await outer({**scope, SCOPE: who}, receive, send)

        self.app = app


class ConsoleServer:
    """Listens, serves and stops."""

    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=64 << 10,
        )
        config.load()
        self._config = config
        self._state = uvicorn.server.ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> TcpAddress:
        """Listens; returns where, with the port that was chosen for port 0.

        Raises:
            InvalidInput: No TCP address.
            WrongState: Somebody else listens there, or it is not this machine's.
        """
        parsed = parse_address(address)
        if not isinstance(parsed, TcpAddress):
            raise InvalidInput.at("listen.address", f"{address} is no host:port")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Protocol(self._config, self._state, {}, loop),
                parsed.host or None,
                parsed.port,
                ssl=self._tls,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise WrongState(
                f"cannot serve on {address}: {error.strerror or error}", "ADDRESS_UNAVAILABLE"
            ) from error
        sockets: tuple[socket.socket, ...] = tuple(self._server.sockets)
        bound = TcpAddress(parsed.host, sockets[0].getsockname()[1])
        scheme = "https" if self._tls is not None else "http"
        log.info("console_listening", url=f"{scheme}://{bound}/")
        return bound

    async def stop(self) -> None:
        """Takes no more, and ends what is served: streams would go on for ever."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        for task in list(self._state.tasks):
            task.cancel()
