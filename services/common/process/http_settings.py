"""Settings of what is served over HTTP beside metrics."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from services.common.errors import InvalidInput
from services.common.process.serving_tls import ServingFiles, ServingTls
from services.common.process.settings import Address, Section
from services.common.socket_address import parse_address


class ServerTlsSettings(Section):
    """Files of a server, all PEM; none: in the clear."""

    ca: Path | None = None
    """Of the authorities whose certificates callers show, with a role."""
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> ServerTlsSettings:
        if len({self.ca is None, self.certificate is None, self.key is None}) > 1:
            raise ValueError("ca, certificate and key come together")
        return self

    def files(self) -> ServingFiles | None:
        """None: in the clear."""
        if self.certificate is None or self.key is None:
            return None
        return ServingFiles(self.certificate, self.key, self.ca)


class HttpListenSettings(Section):
    """Where it is served."""

    address: Address
    tls: ServerTlsSettings = ServerTlsSettings()
    insecure: bool = False
    """Serve other machines without TLS."""

    def serving(self, path: str) -> ServingTls | None:
        """For the server; None: in the clear.

        Args:
            path: Of the setting `address`, for errors.

        Raises:
            InvalidInput: Files that cannot be read, or other machines and no files.
        """
        files = self.tls.files()
        if files is None and not (parse_address(self.address).is_local or self.insecure):
            raise InvalidInput.at(path, f"{self.address} is for other machines: give TLS files")
        return None if files is None else ServingTls(files)
