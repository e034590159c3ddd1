"""A small HTTP/1.1 server for JSON over POST: what kube-scheduler and the API server call.

h11 knows the protocol; connections are kept, requests on one are answered in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import h11
import structlog

from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.rpc.identity import Role, caller_of_names
from services.common.socket_address import TcpAddress, parse_address

log = structlog.get_logger(__name__)

BODY_MOST: Final = 16 << 20
"""Bytes: a pod and the names of thousands of nodes."""
IDLE_SECONDS: Final = 300.0
READ: Final = 65536

Handler = Callable[[bytes], Awaitable[bytes]]


class HttpServer:
    """Serves handlers by their paths."""

    def __init__(
        self, handlers: Mapping[str, Handler], *, roles: frozenset[Role] | None = None
    ) -> None:
        """`roles`: with TLS, who is served; None: anybody."""
        self._handlers = handlers
        self._roles = roles
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, address: str, tls: ssl.SSLContext | None) -> TcpAddress:
        """Listens; returns where, with the port that was chosen for port 0.

        Raises:
            InvalidInput: No TCP address.
            WrongState: Somebody else listens there, or it is not this machine's.
        """
        parsed = parse_address(address)
        if not isinstance(parsed, TcpAddress):
            raise InvalidInput.at("address", f"{address} is no host:port")
        try:
            self._server = await asyncio.start_server(
                self._connected, parsed.host or None, parsed.port, ssl=tls, backlog=512
            )
        except OSError as error:
            raise WrongState(
                f"cannot serve on {address}: {error.strerror or error}", "ADDRESS_UNAVAILABLE"
            ) from error
        bound = TcpAddress(parsed.host, self._server.sockets[0].getsockname()[1])
        log.info("http_listening", address=str(bound), paths=sorted(self._handlers))
        return bound

    async def stop(self, seconds: float) -> None:
        """Takes no more, and lets what is being answered end within that time."""
        if self._server is not None:
            self._server.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=seconds)
        for task in self._connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            log.debug("http_connection_lost", error=str(error))
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        is_served = self._is_served(writer)
        while True:
            received = await _read(connection, reader)
            if received is None:
                return
            request, body = received
            if is_served:
                status, content = await self._answer(request, body)
            else:
                status, content = (
                    HTTPStatus.FORBIDDEN,
                    b'{"message": "not with this certificate"}\n',
                )
            head = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
            response = h11.Response(status_code=status, headers=head)
            for event in (response, h11.Data(content), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            if h11.MUST_CLOSE in {connection.our_state, connection.their_state}:
                return
            connection.start_next_cycle()

    def _is_served(self, writer: asyncio.StreamWriter) -> bool:
        certificate = writer.get_extra_info("peercert")
        if self._roles is None or writer.get_extra_info("ssl_object") is None:
            return True
        found = (certificate or {}).get("subjectAltName", ())
        caller = caller_of_names(tuple(name for kind, name in found if kind == "URI"))
        if not caller.roles & self._roles:
            log.warning("http_caller_refused", roles=caller.uris)
            return False
        return True

    async def _answer(self, request: h11.Request, body: bytes) -> tuple[HTTPStatus, bytes]:
        path = request.target.decode("ascii", "replace").partition("?")[0]
        handler = self._handlers.get(path)
        if handler is None:
            return HTTPStatus.NOT_FOUND, b'{"message": "there is nothing here"}\n'
        if request.method != b"POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, b'{"message": "POST only"}\n'
        try:
            return HTTPStatus.OK, await handler(body)
        except RomanaError as error:
            log.warning("http_request_refused", path=path, message=error.message)
            return HTTPStatus.BAD_REQUEST, b'{"message": "the request cannot be read"}\n'
        except Exception:
            log.exception("http_request_failed", path=path)
            return HTTPStatus.INTERNAL_SERVER_ERROR, b'{"message": "internal error"}\n'


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
