from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import InvalidInput, WrongState
from services.common.process.http_settings import ServerTlsSettings
from services.kubernetes.api.http_server import HttpServer
from services.kubernetes.settings import ExtenderSettings
from tests.support.certificates import Authority


async def echo(body: bytes) -> bytes:
    return body


async def refuse(body: bytes) -> bytes:
    raise InvalidInput("no")


async def fail(body: bytes) -> bytes:
    raise ZeroDivisionError


HANDLERS = {"/echo": echo, "/refuse": refuse, "/fail": fail}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer(HANDLERS)
    yield (await server.start("127.0.0.1:0", None)).port
    await server.stop(1)


async def ask(port: int, *requests: tuple[str, str, bytes]) -> list[tuple[int, bytes]]:
    """Status and body of requests on one connection."""

    def work() -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        found = []
        for method, path, body in requests:
            connection.request(method, path, body)
            answer = connection.getresponse()
            found.append((answer.status, answer.read()))
        connection.close()
        return found

    return await asyncio.to_thread(work)


async def test_requests_on_one_connection_are_answered_in_order(port: int) -> None:
    bodies = [b"", b"one", b"x" * 1_000_000]
    found = await ask(port, *(("POST", "/echo?timeout=5s", body) for body in bodies))
    assert found == [(200, body) for body in bodies]


async def test_what_is_wrong_has_a_status_and_the_next_is_answered(port: int) -> None:
    found = await ask(
        port,
        ("POST", "/nowhere", b""),
        ("GET", "/echo", b""),
        ("POST", "/refuse", b""),
        ("POST", "/fail", b""),
        ("POST", "/echo", b"still there"),
    )
    assert [status for status, _ in found] == [404, 405, 400, 500, 200]


async def test_what_is_not_http_ends_the_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    assert await ask(port, ("POST", "/echo", b"x")) == [(200, b"x")]


async def test_a_port_that_is_taken_is_said(port: int) -> None:
    with pytest.raises(WrongState):
        await HttpServer({}).start(f"127.0.0.1:{port}", None)


def test_other_machines_are_served_with_tls_or_expressly_without() -> None:
    with pytest.raises(InvalidInput):
        ExtenderSettings(address="192.0.2.1:9650").context("extender.address")
    assert (
        ExtenderSettings(address="192.0.2.1:9650", insecure=True).context("extender.address")
        is None
    )
    assert ExtenderSettings().context("extender.address") is None


async def test_with_tls_callers_show_a_certificate(tmp_path: Path) -> None:
    files = Authority(tmp_path / "ca").issue("extender")
    tls = ServerTlsSettings(ca=files.ca, certificate=files.certificate, key=files.key)
    server = HttpServer(HANDLERS)
    settings = ExtenderSettings(tls=tls)
    bound = await server.start("127.0.0.1:0", settings.context("extender.address"))

    def work(*, shows: bool) -> int:
        context = ssl.create_default_context(cafile=str(files.ca))
        context.check_hostname = False
        if shows:
            context.load_cert_chain(files.certificate, files.key)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", bound.port, timeout=10, context=context
        )
        try:
            connection.request("POST", "/echo", b"x")
            return connection.getresponse().status
        finally:
            connection.close()

    assert await asyncio.to_thread(work, shows=True) == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        await asyncio.to_thread(work, shows=False)
    await server.stop(1)
