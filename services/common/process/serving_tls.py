"""TLS of a server of HTTP, whose files are read anew when they change: who renews certificates need
not restart it. Connections that are there keep what they began with."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from services.common.errors import InvalidInput

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServingFiles:
    """All PEM."""

    certificate: Path
    key: Path
    ca: Path | None = None
    """Of the authorities whose certificates callers have to show; None: they need none."""

    def content(self) -> tuple[bytes, ...]:
        """What is in them; raises OSError."""
        files = (self.certificate, self.key, self.ca)
        return tuple(file.read_bytes() for file in files if file is not None)


class ServingTls:
    """The context of one server."""

    def __init__(self, files: ServingFiles) -> None:
        """Raises InvalidInput for files that cannot be used."""
        self._files = files
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self._content = files.content()
            _load(self.context, files)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"the files of TLS cannot be read: {error}") from error

    async def run(self) -> None:
        """Looks for new files for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.renew()

    def renew(self) -> bool:
        """Takes new files for connections to come, and whether there were any. Files that do not
        fit together are half written: what was read before stays."""
        try:
            content = self._files.content()
            if content == self._content:
                return False
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._files)
            _load(self.context, self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_not_renewed", error=str(error))
            return False
        self._content = content
        log.info("certificate_renewed", certificate=str(self._files.certificate))
        return True


def _load(context: ssl.SSLContext, files: ServingFiles) -> None:
    context.load_cert_chain(files.certificate, files.key)
    if files.ca is not None:
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
