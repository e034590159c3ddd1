"""Who looks: the certificate that a browser shows, and what follows for calls made for it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

from services.common.errors import Forbidden
from services.common.rpc.identity import CALLER, CALLER_TEXT, Caller, caller_of_certificate
from services.common.rpc.role_table import READERS

SCOPE: Final = "romana.caller"
"""Where in the scope of a request the caller is."""


@dataclass(frozen=True, slots=True)
class Looking:
    """Somebody with a browser."""

    caller: Caller | None
    """None: the connection has no TLS, so nobody is known and everything is allowed."""
    text: str
    """For logs."""

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """Says to services for whom a call is made."""
        uris = [(CALLER, uri) for uri in self.caller.uris] if self.caller is not None else []
        return [*uris, (CALLER_TEXT, self.text)]

    def check_reader(self) -> None:
        """Raises Forbidden unless it may look."""
        if self.caller is not None and not self.caller.roles & READERS.roles:
            raise Forbidden(
                "this certificate may not look: it bears none of the URIs "
                + ", ".join(f"romana:{role}" for role in sorted(READERS.roles)),
                reason="NO_ROLE",
            )


def looking(tls: ssl.SSLObject | None, address: str) -> Looking:
    """Of a connection."""
    if tls is None:
        return Looking(None, f"console, {address}")
    found: Any = tls.getpeercert() or {}
    common = [
        value for part in found.get("subject", ()) for key, value in part if key == "commonName"
    ]
    caller = caller_of_certificate(found)
    text = ", ".join([*common, *caller.uris]).encode("ascii", "backslashreplace").decode()
    return Looking(caller, f"console, {text or 'a certificate without names'}")
