"""What every page shows, the list of changes, and plans."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import msgspec
from starlette.requests import Request

from services.common.errors import Forbidden, InvalidInput
from services.common.process.version import version
from services.common.rpc.message_json import plain
from services.console.api.caller import Looking
from services.console.calls.questions import Questions
from services.console.follow.world import World
from services.console.picture.ranges import range_of

CHANGES_MOST: Final = 200
TEXT_MOST: Final = 8 << 20


class _Document(msgspec.Struct):
    text: str
    etag: str = ""


class Overview:
    """`/api/overview`, `/api/changes`, `/api/topology`, `/api/plan` and `/api/apply`."""

    def __init__(self, world: World, *, allow_changes: bool) -> None:
        self._world = world
        self._allow_changes = allow_changes

    async def overview(self, request: Request, looking: Looking) -> dict[str, Any]:  # noqa: ARG002
        """Services, networks and how full they are."""
        world = self._world
        return {
            "version": version(),
            "allow_changes": self._allow_changes,
            "caller": looking.text if looking.caller is not None else "",
            "known": world.is_known,
            "services": [asdict(each) for each in world.services.states],
            "lost": world.services.lost,
            "networks": [self._network(each) for each in world.topology.spec.networks],
            "nodes": len(world.topology.nodes),
            "policies": len(world.policies.policies),
            "pending": len(world.changes.pending()),
            "browsers": len(world.live),
        }

    async def changes(self, request: Request, looking: Looking) -> dict[str, Any]:  # noqa: ARG002
        """The newest first."""
        latency = self._world.changes.latency()
        return {
            "changes": [asdict(each) for each in self._world.changes.latest(CHANGES_MOST)],
            "latency": None if latency is None else asdict(latency),
        }

    async def topology(self, request: Request, looking: Looking) -> dict[str, Any]:  # noqa: ARG002
        """The topology file as it is."""
        text, etag = await Questions(self._world.remote, looking.metadata).export()
        return {"text": text, "etag": etag}

    async def plan(self, request: Request, looking: Looking) -> dict[str, Any]:
        """What a topology file would change."""
        document = await _document(request)
        answer = await Questions(self._world.remote, looking.metadata).apply(
            document.text, validate_only=True, etag=""
        )
        return {"plan": plain(answer.plan), "etag": answer.etag}

    async def apply(self, request: Request, looking: Looking) -> dict[str, Any]:
        """Makes it so, if that is allowed here."""
        if not self._allow_changes:
            raise Forbidden(
                "this console only shows: it was started without allow_changes", reason="READ_ONLY"
            )
        document = await _document(request)
        if not document.etag:
            raise InvalidInput.at("etag", "say of which topology the plan was seen")
        answer = await Questions(self._world.remote, looking.metadata).apply(
            document.text, validate_only=False, etag=document.etag
        )
        return {"plan": plain(answer.plan), "changed": answer.changed, "etag": answer.etag}

    def _network(self, network: Any) -> dict[str, Any]:
        usage = self._world.blocks.of(network.name).usage(range_of(network.cidr))
        return {
            "name": network.name,
            "cidr": network.cidr,
            "vlan_id": network.vlan_id,
            "gateway": network.gateway,
            "topology": network.topology,
            "tenants": list(network.tenants),
            "usage": {**asdict(usage), "free": usage.free},
        }


async def _document(request: Request) -> _Document:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > TEXT_MOST:
            raise InvalidInput.at("text", f"a file of more than {TEXT_MOST >> 20} MiB")
    try:
        return msgspec.json.decode(bytes(body), type=_Document)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"the request cannot be read: {error}") from error
