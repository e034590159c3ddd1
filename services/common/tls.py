"""TLS from files: the credentials of a channel and of a server.

Always mutual: a process shows the same certificate as a client and as a server, and accepts only
peers whose certificate comes from an authority that it trusts. Files that are renewed are taken
while the process runs: `FollowedFiles` says what they hold now, servers ask it at every handshake,
channels at every call (`services.common.renewing_channel`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from services.common.errors import InvalidInput, RomanaError

if TYPE_CHECKING:
    import structlog

NAME_OPTION: Final = "grpc.ssl_target_name_override"
_PAUSE: Final = 1.0
"""Seconds between two looks at the files."""


@dataclass(frozen=True, slots=True)
class TlsContent:
    """What the files hold, all PEM."""

    ca: bytes
    certificate: bytes
    key: bytes

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca,
            private_key=self.key,
            certificate_chain=self.certificate,
        )

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """What a server shows, and whom it trusts."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], root_certificates=self.ca
        )

    def check(self) -> None:
        """Raises InvalidInput unless the key is the certificate's and all can be read."""
        # a client that ends after one call is spared the import
        from services.common.certificates.matching import check_pair  # noqa: PLC0415

        check_pair(self.ca, self.certificate, self.key)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    ca: Path
    """Certificates of the authorities that peers are trusted by, and lists of what they revoked."""
    certificate: Path
    """Our own, followed by intermediate ones."""
    key: Path
    """Its private key."""
    server_name: str = ""
    """What servers' certificates have to bear in place of the address by which they are called."""

    @property
    def channel_options(self) -> Sequence[tuple[str, int | str]]:
        return ((NAME_OPTION, self.server_name),) if self.server_name else ()

    def read(self) -> TlsContent:
        """What the files hold; raises InvalidInput if one cannot be read."""
        return TlsContent(
            read_pem(self.ca, "tls.ca"),
            read_pem(self.certificate, "tls.certificate"),
            read_pem(self.key, "tls.key"),
        )


class FollowedFiles:
    """What the files hold now, or held when they last could be used. May be asked by any thread.

    A key and its certificate are two files: until both have been renewed they do not match, and
    what was there before is good for a while yet.
    """

    def __init__(self, files: TlsFiles, now: Callable[[], float] = time.monotonic) -> None:
        """Raises InvalidInput if a file cannot be read."""
        self._files = files
        self._now = now
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._content = files.read()
        self._refused: object = None
        self._next = now() + _PAUSE

    def current(self) -> TlsContent:
        """The same object as long as nothing has changed."""
        if self._now() >= self._next:
            with self._lock:
                self._follow()
        return self._content

    def server_credentials(self) -> grpc.ServerCredentials:
        """Those of a server, which asks at every handshake."""
        shown = self._content

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            content = self.current()
            if content is shown:
                return None
            shown = content
            return content.server_configuration()

        return grpc.dynamic_ssl_server_credentials(
            shown.server_configuration(),
            renewed,  # type: ignore[arg-type]  # None: as before, says grpc's documentation
            require_client_authentication=True,
        )

    def _follow(self) -> None:
        self._next = self._now() + _PAUSE
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            content = self._files.read()
            if content != self._content:
                content.check()
        except RomanaError as error:
            if stamp != self._refused:
                self._refused = stamp
                _log().warning("renewed_certificate_not_taken", why=error.message)
            return
        self._stamp = stamp
        if content != self._content:
            self._content = content
            _log().info("certificate_renewed", certificate=str(self._files.certificate))

    def _look(self) -> object:
        """Differs when a file has been written or replaced; taken before the files are read."""
        seen: list[tuple[int, int, int] | None] = []
        for path in (self._files.ca, self._files.certificate, self._files.key):
            try:
                found = path.stat()
            except OSError:
                seen.append(None)
            else:
                seen.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(seen)


def read_pem(path: Path, field: str) -> bytes:
    """A file that a setting names; raises InvalidInput with the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput.at(field, f"cannot read {path}: {error.strerror}") from error
    # grpc itself accepts any bytes and fails much later, at the handshake, without saying why
    if b"-----BEGIN " not in content:
        raise InvalidInput.at(field, f"{path} is not a PEM file")
    return content


def _log() -> structlog.stdlib.BoundLogger:
    import structlog  # noqa: PLC0415  # 20 ms that only who has to say something pays

    log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
    return log
