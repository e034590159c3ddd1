"""Where a process listens or connects: `host:port`, `[v6]:port` or `unix:/path`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import InvalidInput

_UNIX = "unix:"
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: Path

    @property
    def is_local(self) -> bool:
        """Always: only processes of this machine get there."""
        return True

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or address, without brackets, and a port; an empty host is every address."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine get there."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


SocketAddress = TcpAddress | UnixAddress


def parse_address(text: str) -> SocketAddress:
    """Reads an address; InvalidInput when it is none."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX).removeprefix("//")
        if not path.startswith("/"):
            raise InvalidInput.at("", f"{text!r}: a Unix socket is written unix:/absolute/path")
        return UnixAddress(Path(path))
    scheme, separator, _ = text.partition("://")
    if separator:
        # a URL may have a password
        raise InvalidInput.at("", f"an address is written host:port, without {scheme}://")
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise InvalidInput.at("", f"{text!r}: an address is written host:port or unix:/path")
    if ":" in host and not bracketed:
        raise InvalidInput.at("", f"{text!r}: an IPv6 address is written [address]:port")
    return TcpAddress(host[1:-1] if bracketed else host, int(port))
