"""What the controller tells the policy service of groups of devices, and asks. Protobuf messages
stop here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from romana.policy.v1 import device_pb2
from romana.policy.v1 import policy_service_pb2 as pb

from services.common.errors import InvalidInput, NotFound, Violation
from services.common.rpc.replicas import Replicas
from services.kubernetes.objects.device_groups import DeviceUse

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

PAGE: Final = 1000
_STATE: Final = "DEVICE_STATE_"
_NOT_THEIRS: Final = ("name", "etag")


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is known of a group."""

    devices: tuple[DeviceUse, ...]
    policies: tuple[str, ...]
    is_down: bool

    @property
    def up(self) -> int:
        """Devices."""
        return sum(one.state != "down" for one in self.devices)


class DeviceCalls:
    """Raises RomanaErrors."""

    def __init__(self, replicas: Replicas[PolicyServiceAsyncStub]) -> None:
        self._replicas = replicas

    async def put(self, name: str, spec: bytes, *, validate_only: bool = False) -> None:
        """Makes a group be as a spec says; raises InvalidInput with paths below it."""
        request = pb.PutDeviceGroupRequest(
            document=_document(name, spec).decode(), validate_only=validate_only
        )
        await self._replicas.call(lambda stub: stub.PutDeviceGroup, request)

    async def delete(self, name: str) -> None:
        """Succeeds if there is none; raises WrongState while something names it."""
        with contextlib.suppress(NotFound):
            await self._replicas.call(
                lambda stub: stub.DeleteDeviceGroup, pb.DeleteDeviceGroupRequest(name=name)
            )

    async def states(self) -> dict[str, GroupState]:
        """Of all groups."""
        found: dict[str, GroupState] = {}
        request = pb.ListDeviceGroupsRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListDeviceGroups, request)
            found |= {one.group.name: _state(one) for one in answer.groups}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


def _document(name: str, spec: bytes) -> bytes:
    try:
        fields: dict[str, Any] = msgspec.json.decode(spec, type=dict)
    except msgspec.MsgspecError as error:
        raise InvalidInput.at("", f"is no mapping of fields: {error}") from error
    problems = [
        Violation(one, "is not said here: the object has it")
        for one in _NOT_THEIRS
        if one in fields
    ]
    if problems:
        raise InvalidInput.of(problems)
    return msgspec.json.encode({"name": name, **fields})


def _state(message: device_pb2.DeviceGroupStatus) -> GroupState:
    return GroupState(
        tuple(
            DeviceUse(
                one.name,
                device_pb2.DeviceState.Name(one.state).removeprefix(_STATE).lower(),
                one.nodes_up,
                one.nodes_down,
                one.reason,
            )
            for one in message.devices
        ),
        tuple(message.policies),
        message.down,
    )
