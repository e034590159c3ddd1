"""The way back of a topology: a file that makes it what it was, planned by the service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from romana.audit.v1 import audit_service_pb2 as audit_api
from romana.topology.v1 import topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.ctl.calls.session import Session
from services.ctl.verbs.topology import danger
from services.ctl.views import plan_view


@dataclass(frozen=True, slots=True)
class TopologyBack:
    """What becomes of the topology."""

    item: audit_api.ObjectChange
    now: Any
    """The file that makes what is there."""
    planned: api.ApplyTopologyResponse
    request: api.ApplyTopologyRequest

    @classmethod
    async def look(cls, session: Session, item: audit_api.ObjectChange) -> TopologyBack:
        """Plans it; raises Failure, such as where addresses in use would be stranded."""
        topology = session.topology
        form = topology_pb2.DOCUMENT_FORMAT_JSON
        request = api.ApplyTopologyRequest(
            document=topology_pb2.TopologyDocument(text=item.before, format=form),
            validate_only=True,
            request_id=session.request_id,
        )
        planned = await topology.read(topology.stub.ApplyTopology, request)
        exported = await topology.read(
            topology.stub.ExportTopology, api.ExportTopologyRequest(format=form, all_slots=True)
        )
        return cls(item, json.loads(exported.document.text), planned, request)

    @property
    def wanted(self) -> Any:
        return json.loads(self.item.before)

    @property
    def is_done(self) -> bool:
        return bool(self.now == self.wanted)

    @property
    def is_untouched(self) -> bool:
        """Nobody changed it since."""
        return self.is_done or self.now == json.loads(self.item.after)

    @property
    def danger(self) -> str:
        """What to ask; empty: nothing in particular."""
        return danger(self.planned.plan)

    def show(self, session: Session) -> None:
        session.out.line("~ topology")
        plan_view.show(session.screen, self.planned.plan)
        session.out.line()

    async def carry_out(self, session: Session) -> None:
        """Raises Failure if the topology is not as it was seen."""
        request = api.ApplyTopologyRequest()
        request.CopyFrom(self.request)
        request.validate_only = False
        request.etag = self.planned.etag
        topology = session.topology
        await topology.once(topology.stub.ApplyTopology, request)
