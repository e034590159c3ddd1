"""Settings of what is served over HTTP beside metrics."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import model_validator

from services.common.errors import InvalidInput
from services.common.process.settings import Address, Section
from services.common.socket_address import parse_address


class ServerTlsSettings(Section):
    """Files of a server, all PEM; none: in the clear."""

    ca: Path | None = None
    """Of the authorities whose certificates callers show."""
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> ServerTlsSettings:
        if len({self.ca is None, self.certificate is None, self.key is None}) > 1:
            raise ValueError("ca, certificate and key come together")
        return self

    def context(self) -> ssl.SSLContext | None:
        """For a server; None: in the clear. Raises InvalidInput."""
        if self.certificate is None:
            return None
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"the files of TLS cannot be read: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class HttpListenSettings(Section):
    """Where it is served."""

    address: Address
    tls: ServerTlsSettings = ServerTlsSettings()
    insecure: bool = False
    """Serve other machines without TLS."""

    def context(self, path: str) -> ssl.SSLContext | None:
        """For the server; None: in the clear.

        Args:
            path: Of the setting `address`, for errors.

        Raises:
            InvalidInput: Files that cannot be read, or other machines and no files.
        """
        context = self.tls.context()
        if context is None and not (parse_address(self.address).is_local or self.insecure):
            raise InvalidInput.at(path, f"{self.address} is for other machines: give TLS files")
        return context
