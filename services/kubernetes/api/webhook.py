"""What the API server asks before it takes a topology, as an AdmissionReview.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.rpc.http_server import Route, json_route
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.control.apply_topology import NOT_THE_ONE, said
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.objects.topologies import (
    ALLOW_STRANDED,
    THE_ONE,
    TopologyObject,
    topology_of,
)

_VERSION: Final = "admission.k8s.io/v1"


class _Request(msgspec.Struct):
    uid: str
    operation: str = ""
    object: TopologyObject | None = None


class _Review(msgspec.Struct):
    request: _Request


_reviews = msgspec.json.Decoder(_Review)


class TopologyWebhook:
    """The handler; it takes and gives bodies."""

    def __init__(self, topology: TopologyCalls) -> None:
        self._topology = topology

    @property
    def routes(self) -> Mapping[str, Route]:
        """By path."""
        return {"/validate": json_route(self.validate)}

    async def validate(self, body: bytes) -> bytes:
        """Says whether a topology can be applied; raises InvalidInput for what is no request."""
        try:
            request = _reviews.decode(body).request
        except msgspec.MsgspecError as error:
            raise InvalidInput(str(error)) from error
        response: dict[str, Any] = {"uid": request.uid, "allowed": True}
        if request.object is not None:
            try:
                warnings = await self._plan(request.object)
            except RomanaError as error:
                response |= {"allowed": False, "status": _status(error)}
            else:
                response["warnings"] = warnings
        return msgspec.json.encode(
            {"apiVersion": _VERSION, "kind": "AdmissionReview", "response": response}
        )

    async def _plan(self, item: TopologyObject) -> list[str]:
        """What is to be said of a topology that is taken."""
        resource = topology_of(item)
        if resource.name != THE_ONE:
            raise InvalidInput.at("metadata.name", NOT_THE_ONE)
        plan = await self._topology.apply(
            resource.spec, validate_only=True, allow_stranded=resource.allow_stranded
        )
        if plan.stranded and not resource.allow_stranded:
            raise WrongState(
                f"it would strand addresses in use (annotation {annotation_path(ALLOW_STRANDED)}: "
                f"it may): {'; '.join(plan.stranded)}"
            )
        return list(plan.stranded)


def _status(error: RomanaError) -> dict[str, object]:
    if isinstance(error, InvalidInput):
        # not "Invalid": kubectl shows no message of those
        message = error.message if _is_of_metadata(error) else said(error)
        return {"code": HTTPStatus.BAD_REQUEST, "reason": "BadRequest", "message": message}
    return {"code": HTTPStatus.FORBIDDEN, "reason": "Forbidden", "message": error.message}


def _is_of_metadata(error: InvalidInput) -> bool:
    return any(one.path.startswith("metadata.") for one in error.violations)
