"""The application: pages, data and events by their paths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.console.api.answers import endpoint
from services.console.api.guard import Guard
from services.console.api.live import EventStream
from services.console.api.map_views import MapViews
from services.console.api.node_views import NodeViews
from services.console.api.overview import Overview
from services.console.api.policy_views import PolicyViews
from services.console.calls.prometheus import Prometheus
from services.console.follow.world import World

STATIC: Final = Path(__file__).resolve().parent.parent / "static"
"""What `web` is built into."""


def application(
    world: World,
    prometheus: Prometheus | None,
    names: Iterable[str],
    *,
    allow_changes: bool,
    tls: bool,
) -> ASGIApp:
    """All of it, behind the guard."""
    overview = Overview(world, allow_changes=allow_changes)
    maps, nodes = MapViews(world), NodeViews(world)
    policies = PolicyViews(world, prometheus)
    get = {
        "/api/overview": overview.overview,
        "/api/changes": overview.changes,
        "/api/topology": overview.topology,
        "/api/map/{network}": maps.map,
        "/api/search": maps.search,
        "/api/nodes": nodes.listing,
        "/api/nodes/{node}": nodes.one,
        "/api/nodes/{node}/kernel-rules": nodes.kernel_rules,
        "/api/nodes/{node}/kernel-routes": nodes.kernel_routes,
        "/api/matrix": policies.matrix,
        "/api/explain": policies.explain,
        "/api/denied": policies.denied,
        "/api/example": policies.example,
    }
    post = {"/api/plan": overview.plan, "/api/apply": overview.apply}
    routes = [
        *(Route(path, endpoint(handler), methods=["GET"]) for path, handler in get.items()),
        *(Route(path, endpoint(handler), methods=["POST"]) for path, handler in post.items()),
        Route("/api/events", EventStream(world.live).serve, methods=["GET"]),
        Mount("/assets", StaticFiles(directory=STATIC / "assets")),
        Route("/{path:path}", _page, methods=["GET"]),
    ]
    return Guard(Starlette(routes=routes), names, tls=tls)


async def _page(request: Request) -> Response:
    """One page for every view: its address says which."""
    if request.url.path.startswith("/api/"):
        return Response('{"reason": "NOT_FOUND", "message": "there is nothing here"}', 404)
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
