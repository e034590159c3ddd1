from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import InvalidInput
from services.common.socket_address import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80)),
        ("[::1]:0", TcpAddress("::1", 0)),
        (":9602", TcpAddress("", 9602)),
        ("node-1.example:65535", TcpAddress("node-1.example", 65535)),
        ("unix:/run/romana.sock", UnixAddress(Path("/run/romana.sock"))),
    ],
)
def test_an_address_is_read_and_written_the_same(
    text: str, expected: TcpAddress | UnixAddress
) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "::1:80", "unix:relative", "h:-1", "h:²"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1", "unix:/x"]
)
def test_loopback_and_unix_sockets_are_local(text: str) -> None:
    assert parse_address(text).is_local


@pytest.mark.parametrize("text", [":1", "0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.evil:1"])
def test_everything_else_is_not(text: str) -> None:
    assert not parse_address(text).is_local
