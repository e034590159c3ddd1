from __future__ import annotations

import asyncio
import http.client
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import InvalidInput, WrongState
from services.common.process.http_settings import ServerTlsSettings
from services.common.process.serving_tls import ServingFiles, ServingTls
from services.common.rpc.http_server import HttpServer, json_route
from services.common.rpc.identity import Role
from services.common.tls import TlsFiles
from services.kubernetes.settings import ExtenderSettings
from tests.support.certificates import Authority


async def echo(body: bytes) -> bytes:
    return body


async def refuse(body: bytes) -> bytes:
    raise InvalidInput("no")


async def fail(body: bytes) -> bytes:
    raise ZeroDivisionError


ROUTES = {
    "/echo": json_route(echo),
    "/refuse": json_route(refuse),
    "/fail": json_route(fail),
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer("probe", ROUTES)
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


async def test_who_is_connected_and_asks_nothing_does_not_hold_up_the_end() -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context["message"])
    )
    server = HttpServer("probe", ROUTES)
    port = (await server.start("127.0.0.1:0")).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
    assert await reader.readuntil(b"\r\n\r\nx")
    async with asyncio.timeout(60):
        await server.stop(3600)
        assert await reader.read() == b""
    writer.close()
    assert complaints == []


async def test_a_port_that_is_taken_is_said(port: int) -> None:
    with pytest.raises(WrongState):
        await HttpServer("probe", {}).start(f"127.0.0.1:{port}", None)


def test_other_machines_are_served_with_tls_or_expressly_without() -> None:
    with pytest.raises(InvalidInput):
        ExtenderSettings(address="192.0.2.1:9650").serving("extender.address")
    assert (
        ExtenderSettings(address="192.0.2.1:9650", insecure=True).serving("extender.address")
        is None
    )
    assert ExtenderSettings().serving("extender.address") is None


def ask_with(shows: TlsFiles | None, trusts: TlsFiles, port: int) -> tuple[int, int]:
    """Status of a request, and the serial number of the server's certificate."""
    context = ssl.create_default_context(cafile=str(trusts.ca))
    context.check_hostname = False
    if shows is not None:
        context.load_cert_chain(shows.certificate, shows.key)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("POST", "/echo", b"x")
        status = connection.getresponse().status
        found = connection.sock.getpeercert()
        return status, int(found["serialNumber"], 16)
    finally:
        connection.close()


async def test_with_tls_callers_show_a_certificate_with_a_role_that_is_served(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "ca")
    ours = authority.issue("extender")
    settings = ExtenderSettings(
        tls=ServerTlsSettings(ca=ours.ca, certificate=ours.certificate, key=ours.key)
    )
    server = HttpServer("probe", ROUTES, roles=frozenset({Role.ORCHESTRATOR}))
    tls = settings.serving("extender.address")
    assert tls is not None
    port = (await server.start("127.0.0.1:0", tls.context)).port

    async def status(shows: TlsFiles | None) -> int:
        return (await asyncio.to_thread(ask_with, shows, ours, port))[0]

    assert await status(authority.issue("scheduler", uri="romana:orchestrator")) == 200
    assert await status(authority.issue("node", uri="romana:node:n1")) == 403
    assert await status(authority.issue("nobody")) == 403
    with pytest.raises((OSError, http.client.HTTPException)):
        await status(None)
    await server.stop(1)


async def test_a_certificate_that_was_renewed_is_served_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    first, second = authority.issue("first"), authority.issue("second")
    files = ServingFiles(tmp_path / "tls.crt", tmp_path / "tls.key")

    def write(certificate: Path, key: Path) -> None:
        shutil.copy(certificate, files.certificate)
        shutil.copy(key, files.key)

    write(first.certificate, first.key)
    tls = ServingTls(files)
    server = HttpServer("probe", ROUTES)
    port = (await server.start("127.0.0.1:0", tls.context)).port

    async def serial() -> int:
        return (await asyncio.to_thread(ask_with, None, first, port))[1]

    before = await serial()
    assert not tls.renew()
    write(second.certificate, first.key)  # half written
    assert not tls.renew()
    assert await serial() == before
    write(second.certificate, second.key)
    assert tls.renew()
    assert await serial() != before
    await server.stop(1)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        ServingTls(ServingFiles(tmp_path / "none.crt", tmp_path / "none.key"))
