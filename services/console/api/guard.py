"""What every request passes: the host it is for, where it comes from, and what answers may do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MARK: Final = "x-romana-console"
"""Of requests that change something: a page of another origin cannot set it without being asked."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Before everything else. A page of another site gets no answer, whatever its name leads to."""

    def __init__(self, app: ASGIApp, names: Iterable[str], *, tls: bool) -> None:
        """`names`: hosts that requests may be for, in lower case."""
        self._app = app
        self._names = frozenset(names)
        self._scheme = "https" if tls else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        why = self._refusal(scope["method"], Headers(scope=scope))
        if why:
            await _refuse(answer, why)
            return
        await self._app(scope, receive, answer)

    def _refusal(self, method: str, headers: Headers) -> str:
        host = headers.get("host", "")
        if host_name(host) not in self._names:
            return "this console is not served under that name: see the setting listen.names"
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and (
            headers.get("sec-fetch-mode") != "navigate" or method != "GET"
        ):
            return "a page of another site asks"
        origin = headers.get("origin")
        if origin is not None and origin != f"{self._scheme}://{host}":
            return "a page of another origin asks"
        if method not in {"GET", "HEAD"} and MARK not in headers:
            return f"a request that is no GET needs the header {MARK}"
        return ""


def host_name(host: str) -> str:
    """Of "name:port" the name, in lower case; brackets stay."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


async def _refuse(send: Send, why: str) -> None:
    body = json.dumps({"reason": "REFUSED", "message": why}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {"type": "http.response.start", "status": HTTPStatus.FORBIDDEN.value, "headers": head}
    )
    await send({"type": "http.response.body", "body": body})
