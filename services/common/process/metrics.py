"""What every process tells over HTTP: `/metrics` for Prometheus, `/healthz`, `/readyz` for people.

Served inside the event loop: a thread would need the same interpreter anyway, and a loop that hangs
should be seen to hang. The registry is made by `new_registry` in `main.py` and handed on; nothing
uses prometheus-client's global one. Metrics of calls are in `services.common.rpc.metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus

import structlog
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from services.common.errors import InvalidInput, WrongState
from services.common.process.version import version
from services.common.socket_address import TcpAddress, parse_address

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds to read a request and write its answer."""

_MAX_HEADERS = 100
_TEXT = "text/plain; charset=utf-8"

LAG_INTERVAL = 0.25
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def new_registry(service: str) -> CollectorRegistry:
    """A registry with what Python and the process say of themselves, and what is running."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Gauge("romana_build_info", "Always 1.", ["version", "service"], registry=registry).labels(
        version(), service
    ).set(1)
    return registry


class LoopLag:
    """How late the event loop wakes a sleeper: what every call waits for on top."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers `romana_event_loop_lag_seconds`."""
        self._lag = Histogram(
            "romana_event_loop_lag_seconds",
            "How much later than asked for the event loop ran a timer.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )

    async def run(self) -> None:
        """Measures for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))


class MetricsServer:
    """The HTTP endpoint: GET and HEAD, one request a connection."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        """Answers `/readyz` by what `ready` says: whether the process is in-sync."""
        self._registry = registry
        self._ready = ready
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> TcpAddress:
        """Listens; returns where, with the port that was chosen for port 0.

        Raises:
            InvalidInput: No TCP address.
            WrongState: Somebody else listens there, or it is not this machine's.
        """
        parsed = parse_address(address)
        if not isinstance(parsed, TcpAddress):
            raise InvalidInput.at("metrics.address", f"{address} is no host:port")
        try:
            self._server = await asyncio.start_server(
                self._connected, parsed.host or None, parsed.port
            )
        except OSError as error:
            raise WrongState(
                f"cannot serve metrics on {address}: {error.strerror or error}",
                "ADDRESS_UNAVAILABLE",
            ) from error
        bound = TcpAddress(parsed.host, self._server.sockets[0].getsockname()[1])
        log.info("metrics_listening", address=str(bound))
        return bound

    async def stop(self) -> None:
        """Closes the endpoint."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                writer.write(self._answer(*await _read_request(reader)))
                await writer.drain()
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # a scrape that broke off, or no HTTP: nobody is left to be told
        except Exception:
            log.exception("metrics_request_failed")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, method: str, path: str, accept: str) -> bytes:
        status, content_type, body = self._respond(method, path, accept)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _respond(self, method: str, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"GET or HEAD\n"
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return HTTPStatus.OK, content_type, encode(self._registry)
            case "/healthz":
                return HTTPStatus.OK, _TEXT, b"ok\n"
            case "/readyz":
                if self._ready():
                    return HTTPStatus.OK, _TEXT, b"ready\n"
                return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"not in-sync\n"
            case _:
                return HTTPStatus.NOT_FOUND, _TEXT, b"/metrics /healthz /readyz\n"


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, str]:
    """Method, path without query, Accept header; ValueError when it is no HTTP."""
    method, target, _ = (await reader.readuntil(b"\r\n")).decode("latin-1").split(" ", 2)
    accept = ""
    for _ in range(_MAX_HEADERS):
        line = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
        if not line:
            return method, target.partition("?")[0], accept
        name, _, value = line.partition(":")
        if name.lower() == "accept":
            accept = value.strip()
    raise ValueError("too many headers")
