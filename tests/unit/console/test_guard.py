"""No page of another site gets an answer, and answers may do nothing but what ours do."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from services.console.api.guard import Guard, host_name

NAMES = ("127.0.0.1", "localhost", "[::1]", "console.example")


async def ask(method: str, headers: dict[str, str], *, tls: bool = False) -> tuple[int, Any]:
    """Status and headers of an answer."""
    said: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await Guard(app, NAMES, tls=tls)(scope, receive, send)
    return said[0]["status"], dict(said[0]["headers"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9660", "localhost:9660", "[::1]:9660", "Console.Example", "console.example"]
)
async def test_it_is_served_under_its_names(host: str) -> None:
    assert (await ask("GET", {"host": host}))[0] == 200


@pytest.mark.parametrize("host", ["evil.example:9660", "127.0.0.1.evil.example", "", "[::2]:9660"])
async def test_another_name_that_leads_here_is_refused(host: str) -> None:
    assert (await ask("GET", {"host": host}))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost:9660"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_page_of_another_site_is_refused(headers: dict[str, str], method: str) -> None:
    given = {"host": "localhost:9660", "x-romana-console": "1", **headers}
    assert (await ask(method, given))[0] == 403


async def test_a_link_on_another_site_leads_here() -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert (await ask("GET", {"host": "localhost", **headers}))[0] == 200
    assert (await ask("POST", {"host": "localhost", **headers}))[0] == 403


async def test_a_change_needs_the_mark_of_our_page() -> None:
    assert (await ask("POST", {"host": "localhost"}))[0] == 403
    ours = {"host": "localhost", "x-romana-console": "1", "origin": "http://localhost"}
    assert (await ask("POST", ours))[0] == 200
    over_tls = {**ours, "origin": "https://localhost"}
    assert (await ask("POST", over_tls, tls=True))[0] == 200


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_every_answer_says_what_it_may_do(host: str) -> None:
    _, headers = await ask("GET", {"host": host})
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_ports_are_no_part_of_a_name() -> None:
    assert host_name("[fd00::1]:80") == "[fd00::1]"
    assert host_name("[fd00::1]") == "[fd00::1]"
    assert host_name("NAME:1") == "name"
