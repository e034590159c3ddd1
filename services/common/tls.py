"""TLS from files: the credentials of a channel and of a server.

Always mutual: a process shows the same certificate as a client and as a server, and accepts only
peers whose certificate comes from the same authority. Files are read when credentials are made, so
that a renewed certificate takes effect with the next channel or restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from services.common.errors import InvalidInput

_NAME_OPTION: Final = "grpc.ssl_target_name_override"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files."""

    ca: Path
    """Certificates of the authorities that peers are trusted by."""
    certificate: Path
    """Our own, followed by intermediate ones."""
    key: Path
    """Its private key."""
    server_name: str = ""
    """What servers' certificates have to bear in place of the address by which they are called."""

    @property
    def channel_options(self) -> Sequence[tuple[str, int | str]]:
        """Beside the credentials."""
        return ((_NAME_OPTION, self.server_name),) if self.server_name else ()

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Those of a client; raises InvalidInput if a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read("ca", self.ca),
            private_key=_read("key", self.key),
            certificate_chain=_read("certificate", self.certificate),
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """Those of a server that demands a client certificate.

        Raises InvalidInput if a file cannot be read.
        """
        pair = (_read("key", self.key), _read("certificate", self.certificate))
        return grpc.ssl_server_credentials(
            [pair], root_certificates=_read("ca", self.ca), require_client_auth=True
        )


def _read(field: str, path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput.at(f"tls.{field}", f"cannot read {path}: {error.strerror}") from error
    # grpc itself accepts any bytes and fails much later, at the handshake, without saying why
    if b"-----BEGIN " not in content:
        raise InvalidInput.at(f"tls.{field}", f"{path} is not a PEM file")
    return content
