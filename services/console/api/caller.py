"""Who looks: the certificate that a browser shows, and what follows for calls made for it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

from services.common.errors import Forbidden
from services.common.rpc.identity import CALLER, CALLER_TEXT, Caller, Role, caller_of_names

READERS: Final = frozenset({Role.OPERATOR, Role.SERVICE, Role.ORCHESTRATOR, Role.READER})
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
        if self.caller is not None and not self.caller.roles & READERS:
            raise Forbidden(
                "this certificate may not look: it bears none of the URIs "
                + ", ".join(f"romana:{role}" for role in sorted(READERS)),
                reason="NO_ROLE",
            )


def looking(tls: ssl.SSLObject | None, address: str) -> Looking:
    """Of a connection."""
    if tls is None:
        return Looking(None, f"console, {address}")
    found: Any = tls.getpeercert() or {}
    names = tuple(value for kind, value in found.get("subjectAltName", ()) if kind == "URI")
    common = [
        value for part in found.get("subject", ()) for key, value in part if key == "commonName"
    ]
    caller = caller_of_names(names)
    text = ", ".join([*common, *caller.uris]).encode("ascii", "backslashreplace").decode()
    return Looking(caller, f"console, {text or 'a certificate without names'}")
