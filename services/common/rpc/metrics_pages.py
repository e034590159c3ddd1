"""What every process tells over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from services.common.rpc.http_server import Handler, HttpAnswer, HttpRequest, HttpServer, Route

_METHODS: Final = frozenset({"GET", "HEAD"})
_TEXT: Final = "text/plain; charset=utf-8"


def metrics_server(registry: CollectorRegistry, ready: Callable[[], bool]) -> HttpServer:
    """Answers `/readyz` by what `ready` says: whether the process is in-sync."""

    async def metrics(request: HttpRequest) -> HttpAnswer:
        encode, content_type = choose_encoder(request.accept)
        return HttpAnswer(encode(registry), content_type)

    async def healthy(_: HttpRequest) -> HttpAnswer:
        return HttpAnswer(b"ok\n", _TEXT)

    async def in_sync(_: HttpRequest) -> HttpAnswer:
        if ready():
            return HttpAnswer(b"ready\n", _TEXT)
        return HttpAnswer(b"not in-sync\n", _TEXT, HTTPStatus.SERVICE_UNAVAILABLE)

    pages: Mapping[str, Handler] = {"/metrics": metrics, "/healthz": healthy, "/readyz": in_sync}
    return HttpServer("metrics", {path: Route(page, _METHODS) for path, page in pages.items()})
