"""What the API server asks before it takes a topology or a group of devices, as an AdmissionReview.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from services.common.errors import InvalidInput, RomanaError, WrongState
from services.common.rpc.http_server import Route, json_route
from services.kubernetes.calls.devices import DeviceCalls
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.control.apply_topology import NOT_THE_ONE, said
from services.kubernetes.objects.device_groups import DeviceGroupObject, device_group_of
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.objects.topologies import (
    ALLOW_STRANDED,
    THE_ONE,
    TopologyObject,
    topology_of,
)

_VERSION: Final = "admission.k8s.io/v1"
DEVICE_GROUP: Final = "RomanaDeviceGroup"


class _GroupKind(msgspec.Struct):
    kind: str = ""


class _Request(msgspec.Struct):
    uid: str
    kind: _GroupKind = msgspec.field(default_factory=_GroupKind)
    operation: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Review(msgspec.Struct):
    request: _Request


_reviews = msgspec.json.Decoder(_Review)
_topologies = msgspec.json.Decoder(TopologyObject | None)
_device_groups = msgspec.json.Decoder(DeviceGroupObject | None)


class Webhook:
    """The handler; it takes and gives bodies."""

    def __init__(self, topology: TopologyCalls, devices: DeviceCalls) -> None:
        self._topology = topology
        self._devices = devices

    @property
    def routes(self) -> Mapping[str, Route]:
        """By path."""
        return {"/validate": json_route(self.validate)}

    async def validate(self, body: bytes) -> bytes:
        """Says whether an object can be applied; raises InvalidInput for what is no request."""
        try:
            request = _reviews.decode(body).request
            is_group = request.kind.kind == DEVICE_GROUP
            group = _device_groups.decode(request.object) if is_group else None
            topology = None if is_group else _topologies.decode(request.object)
        except msgspec.MsgspecError as error:
            raise InvalidInput(str(error)) from error
        response: dict[str, Any] = {"uid": request.uid, "allowed": True}
        try:
            if group is not None:
                response["warnings"] = await self._check(group)
            elif topology is not None:
                response["warnings"] = await self._plan(topology)
        except RomanaError as error:
            response |= {"allowed": False, "status": _status(error)}
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

    async def _check(self, item: DeviceGroupObject) -> list[str]:
        """The same of a group of devices."""
        resource = device_group_of(item)
        if resource.is_ending:
            return []
        try:
            await self._devices.put(resource.name, resource.spec, validate_only=True)
        except InvalidInput as error:
            # the next group may have been applied a moment ago, and is not put yet
            if not error.violations or any(one.path != "next" for one in error.violations):
                raise
            return [said(error)]
        return []


def _status(error: RomanaError) -> dict[str, object]:
    if isinstance(error, InvalidInput):
        # not "Invalid": kubectl shows no message of those
        message = error.message if _is_of_metadata(error) else said(error)
        return {"code": HTTPStatus.BAD_REQUEST, "reason": "BadRequest", "message": message}
    return {"code": HTTPStatus.FORBIDDEN, "reason": "Forbidden", "message": error.message}


def _is_of_metadata(error: InvalidInput) -> bool:
    return any(one.path.startswith("metadata.") for one in error.violations)
