"""A small HTTP/1.1 server: `/metrics` of every process, and what Kubernetes calls.

h11 knows the protocol; connections are kept, requests on one are answered in order. It runs in the
event loop: a thread would need the same interpreter anyway, and a loop that hangs should be seen to
hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11
import structlog

from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.rpc.identity import Role, caller_of_certificate
from services.common.socket_address import TcpAddress, parse_address

log = structlog.get_logger(__name__)

BODY_MOST: Final = 16 << 20
"""Bytes: a pod and the names of thousands of nodes."""
IDLE_SECONDS: Final = 300.0
WRITE_SECONDS: Final = 10.0
READ: Final = 65536

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a path that is served, by a method that it has."""

    body: bytes = b""
    accept: str = ""
    """Which content types the caller takes."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    body: bytes
    content_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
JsonHandler = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Route:
    handler: Handler
    methods: frozenset[str]


def json_route(handler: JsonHandler) -> Route:
    """One that takes JSON by POST and answers with JSON."""

    async def handle(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(await handler(request.body))

    return Route(handle, frozenset({"POST"}))


class HttpServer:
    def __init__(
        self, name: str, routes: Mapping[str, Route], *, roles: frozenset[Role] | None = None
    ) -> None:
        """Listens on nothing yet.

        Args:
            name: what it is for, in errors and in the log.
            routes: by path.
            roles: with TLS, who is served; None: anybody.
        """
        self._name = name
        self._routes = routes
        self._roles = roles
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        """Of them, those that have a request."""
        self._is_stopping = False

    async def start(self, address: str, tls: ssl.SSLContext | None = None) -> TcpAddress:
        """Listens; returns where, with the port that was chosen for port 0.

        Raises:
            InvalidInput: No TCP address.
            WrongState: Somebody else listens there, or it is not this machine's.
        """
        parsed = parse_address(address)
        if not isinstance(parsed, TcpAddress):
            raise InvalidInput.at(f"{self._name}.address", f"{address} is no host:port")
        try:
            self._server = await asyncio.start_server(
                self._connected, parsed.host or None, parsed.port, ssl=tls, backlog=512
            )
        except OSError as error:
            raise WrongState(
                f"cannot serve {self._name} on {address}: {error.strerror or error}",
                "ADDRESS_UNAVAILABLE",
            ) from error
        bound = TcpAddress(parsed.host, self._server.sockets[0].getsockname()[1])
        log.info("http_listening", server=self._name, address=str(bound))
        return bound

    async def stop(self, seconds: float = 0) -> None:
        """Takes no more, and lets what is being answered end within that time."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for task in self._connections - self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=seconds)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(task, reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            log.debug("http_connection_lost", error=str(error))
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise  # else this is its end: asyncio would log it as a failure of its callback
        finally:
            self._connections.discard(task)
            self._answering.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        is_served = self._is_served(writer)
        while True:
            received = await _read(connection, reader)
            if received is None:
                return
            request, body = received
            self._answering.add(task)
            answer = await self._answer(request, body) if is_served else _FORBIDDEN
            head = [
                ("Content-Type", answer.content_type),
                ("Content-Length", str(len(answer.body))),
            ]
            content = b"" if request.method == b"HEAD" else answer.body
            response = h11.Response(status_code=answer.status, headers=head)
            for event in (response, h11.Data(content), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            async with asyncio.timeout(WRITE_SECONDS):
                await writer.drain()
            self._answering.discard(task)
            if h11.MUST_CLOSE in {connection.our_state, connection.their_state}:
                return
            connection.start_next_cycle()

    def _is_served(self, writer: asyncio.StreamWriter) -> bool:
        certificate = writer.get_extra_info("peercert")
        if self._roles is None or writer.get_extra_info("ssl_object") is None:
            return True
        caller = caller_of_certificate(certificate or {})
        if not caller.roles & self._roles:
            log.warning("http_caller_refused", roles=caller.uris)
            return False
        return True

    async def _answer(self, request: h11.Request, body: bytes) -> HttpAnswer:
        path = request.target.decode("ascii", "replace").partition("?")[0]
        route = self._routes.get(path)
        if route is None:
            return _message(HTTPStatus.NOT_FOUND, f"there are {' '.join(sorted(self._routes))}")
        if request.method.decode("ascii") not in route.methods:
            methods = " or ".join(sorted(route.methods))
            return _message(HTTPStatus.METHOD_NOT_ALLOWED, f"{methods} only")
        accept = next((value for name, value in request.headers if name == b"accept"), b"")
        try:
            return await route.handler(HttpRequest(body, accept.decode("latin-1")))
        except RomanaError as error:
            log.warning("http_request_refused", path=path, message=error.message)
            return _message(HTTPStatus.BAD_REQUEST, "the request cannot be read")
        except Exception:
            log.exception("http_request_failed", path=path)
            return _message(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")


def _message(status: HTTPStatus, message: str) -> HttpAnswer:
    return HttpAnswer(json.dumps({"message": message}).encode() + b"\n", status=status)


_FORBIDDEN: Final = _message(HTTPStatus.FORBIDDEN, "not with this certificate")


async def _read(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request, bytes] | None:
    """A whole request; None: there is no more."""
    request: h11.Request | None = None
    parts: list[bytes] = []
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(IDLE_SECONDS):
                connection.receive_data(await reader.read(READ))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > BODY_MOST:
                raise h11.RemoteProtocolError(f"a body of more than {BODY_MOST} bytes")
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return request, b"".join(parts)
        else:  # ConnectionClosed, or PAUSED
            return None
