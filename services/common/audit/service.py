"""The audit API over gRPC: what a replica knows of all changes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from romana.audit.v1 import audit_service_pb2 as api
from romana.audit.v1 import audit_service_pb2_grpc

from services.common.audit.record import AuditRecord, Before, ObjectKind
from services.common.audit.trail import AuditTrail, Change
from services.common.errors import InvalidInput, NotFound
from services.common.paging.pages import DEFAULT_SIZE, MAX_SIZE
from services.common.paging.token import make_token, read_token
from services.common.records.errors import RecordError
from services.common.rpc.context import Context

KINDS: Final = {
    ObjectKind.TOPOLOGY: api.OBJECT_KIND_TOPOLOGY,
    ObjectKind.NODE: api.OBJECT_KIND_NODE,
    ObjectKind.RESERVATION: api.OBJECT_KIND_RESERVATION,
    ObjectKind.ADDRESS: api.OBJECT_KIND_ADDRESS,
    ObjectKind.POLICY: api.OBJECT_KIND_POLICY,
    ObjectKind.TENANT: api.OBJECT_KIND_TENANT,
    ObjectKind.DEVICE_GROUP: api.OBJECT_KIND_DEVICE_GROUP,
}
LISTED_MOST: Final = 20
"""Objects of one change in a list."""
_NUMBERS: Final = frozenset(KINDS.values())


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def ListChanges(
        self, request: api.ListChangesRequest, context: Context
    ) -> api.ListChangesResponse:
        """The newest first."""
        kinds = _kinds(request.kinds)
        if request.page_size > MAX_SIZE:
            raise InvalidInput.at("page_size", f"{request.page_size} is more than {MAX_SIZE}")
        size = request.page_size or DEFAULT_SIZE
        token = read_token(request.page_token, (int,))
        since = request.since.ToMilliseconds() if request.HasField("since") else 0
        await self._trail.confirm()
        answer = api.ListChangesResponse()
        before = int(token[0]) if token is not None else 0
        for change in self._trail.newest_first(before, request.after_revision):
            if change.record.at < since or not _is_asked(change.record, request, kinds):
                continue
            if len(answer.changes) == size:
                answer.next_page_token = make_token(answer.changes[-1].revision)
                break
            message = self._message(change)
            del message.objects[LISTED_MOST:]
            answer.changes.append(message)
        return answer

    async def GetChange(
        self, request: api.GetChangeRequest, context: Context
    ) -> api.GetChangeResponse:
        await self._trail.confirm()
        change = self._trail.find(request.revision)
        if change is None:
            raise NotFound(
                f"no change of revision {request.revision} is kept: `romana audit` lists them",
                reason="CHANGE_NOT_FOUND",
                metadata={"revision": str(request.revision)},
            )
        try:
            documents = change.record.documents()
        except RecordError as error:
            raise NotFound(
                f"the change of revision {request.revision} cannot be read: {error}",
                reason="CHANGE_NOT_FOUND",
                metadata={"revision": str(request.revision)},
            ) from error
        return api.GetChangeResponse(change=self._message(change, documents))

    def _message(self, change: Change, documents: Sequence[Before] = ()) -> api.Change:
        record, who = change.record, change.record.who
        message = api.Change(
            revision=change.revision,
            identity=who.identity,
            roles=who.roles,
            client=who.client,
            request_id=who.request_id,
            service=change.service,
            object_count=record.count,
            is_cut=record.is_cut,
        )
        message.create_time.FromMilliseconds(record.at)
        for number, one in enumerate(record.objects):
            item = message.objects.add(
                kind=KINDS[one.kind],
                name=one.name,
                action=api.ObjectAction.Value(f"OBJECT_ACTION_{one.action.name}"),
            )
            if number < len(documents):
                item.before, item.after = documents[number].before, documents[number].after
        noted = self._trail.in_force(change.revision)
        if noted is not None:
            message.in_force_time.FromMilliseconds(noted.at)
            message.in_force_nodes = noted.nodes
        return message


def _is_asked(
    record: AuditRecord, request: api.ListChangesRequest, kinds: Container[ObjectKind]
) -> bool:
    who = record.who
    if request.identity not in who.identity and request.identity not in who.client:
        return False
    if not (request.kinds or request.object):
        return True
    return any(
        (not request.kinds or one.kind in kinds) and request.object in {"", one.name}
        for one in record.objects
    )


def _kinds(numbers: Sequence[int]) -> frozenset[ObjectKind]:
    for index, number in enumerate(numbers):
        if number not in _NUMBERS:
            raise InvalidInput.at(f"kinds[{index}]", f"{number} is not a kind of object")
    return frozenset(kind for kind, number in KINDS.items() if number in numbers)
