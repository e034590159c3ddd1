"""Where spans are sent: a collector's address, and the files by which it is reached with TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.errors import InvalidInput
from services.common.socket_address import parse_address
from services.common.tls import read_pem

HTTPS: Final = "https://"
HTTP: Final = "http://"


@dataclass(frozen=True, slots=True)
class CollectorFiles:
    """All PEM. Not as `TlsFiles`: collectors need not ask for a certificate, and may have one that
    an authority known to all has signed."""

    ca: Path | None = None
    """Authorities of its certificate; None: those that grpcio brings along."""
    certificate: Path | None = None
    """What is shown to it, with its key."""
    key: Path | None = None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, key and certificate, as gRPC takes them; raises InvalidInput."""
        ca, key, certificate = (
            None if path is None else read_pem(path, f"traces.tls.{field}")
            for field, path in (
                ("ca", self.ca),
                ("key", self.key),
                ("certificate", self.certificate),
            )
        )
        return ca, key, certificate


@dataclass(frozen=True, slots=True)
class Collector:
    address: str
    """As gRPC takes it."""
    tls: bool
    files: CollectorFiles
    server_name: str = ""
    """What its certificate has to bear in place of the address."""


def collector(
    endpoint: str, files: CollectorFiles, *, server_name: str = "", insecure: bool = False
) -> Collector:
    """What the settings say together.

    Args:
        endpoint: host:port, or https://host:port; http:// is as without it.
        files: Any of them means TLS, too.
        server_name: See `Collector`.
        insecure: Other machines may be reached in the clear.

    Raises:
        InvalidInput: They contradict each other, or spans would leave this machine in the clear.
    """
    tls = endpoint.startswith(HTTPS) or files != CollectorFiles()
    address = endpoint.removeprefix(HTTPS).removeprefix(HTTP).rstrip("/")
    parsed = parse_address(address)
    if (files.certificate is None) != (files.key is None):
        raise InvalidInput.at("tls", "certificate and key come together")
    if not (tls or insecure or parsed.is_local):
        raise InvalidInput.at(
            "endpoint",
            f"{endpoint} is on another machine: https://{address} reaches it with TLS, unless "
            "insecure is true",
        )
    return Collector(address, tls, files, server_name)
