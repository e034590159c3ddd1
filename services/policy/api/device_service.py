"""The methods of the policy API that are about devices."""

from __future__ import annotations

from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import policy_service_pb2_grpc

from services.common.errors import InvalidInput
from services.common.model.devices import DeviceGroupName, DeviceName
from services.common.model.names import NodeName, subject_name
from services.common.paging.pages import filled
from services.common.rpc.context import Context
from services.common.rpc.identity import check_node
from services.policy.api import device_messages
from services.policy.store.apply import ChangeOptions
from services.policy.store.device_changes import DeviceChanges, group_not_found
from services.policy.store.store import PolicyStore


class DeviceMethods(policy_service_pb2_grpc.PolicyServiceServicer):
    """A part of the service."""

    _store: PolicyStore
    _devices: DeviceChanges

    async def PutDeviceGroup(
        self, request: api.PutDeviceGroupRequest, context: Context
    ) -> api.PutDeviceGroupResponse:
        group, etag = device_messages.group_in(request)
        entry = await self._devices.put(group, ChangeOptions(etag, request.validate_only))
        return api.PutDeviceGroupResponse(group=device_messages.group(entry))

    async def DeleteDeviceGroup(
        self, request: api.DeleteDeviceGroupRequest, context: Context
    ) -> api.DeleteDeviceGroupResponse:
        await self._devices.delete(_named(request.name, "name"), ChangeOptions(request.etag))
        return api.DeleteDeviceGroupResponse()

    async def ListDeviceGroups(
        self, request: api.ListDeviceGroupsRequest, context: Context
    ) -> api.ListDeviceGroupsResponse:
        self._store.check_in_sync()
        feed = self._store.feed.devices
        names = sorted(feed.groups)
        if request.name:
            if request.name not in feed.groups:
                raise group_not_found(request.name)
            names = [DeviceGroupName(request.name)]
        now = self._devices.now()
        groups, token = filled(
            names,
            request.page_size,
            request.page_token,
            lambda number: device_messages.status(
                feed.groups[names[number]],
                feed.states_of(names[number]),
                feed.observed,
                self._store.engine.devices.get(names[number]),
                self._devices.policies_through(names[number]),
                now,
            ),
            in_order=True,
        )
        return api.ListDeviceGroupsResponse(groups=groups, next_page_token=token)

    async def DrainDevice(
        self, request: api.DrainDeviceRequest, context: Context
    ) -> api.DrainDeviceResponse:
        group = _named(request.group, "group")
        device = DeviceName(_named(request.device, "device"))
        entry = await self._devices.drain(group, device, drain=request.drain)
        return api.DrainDeviceResponse(group=device_messages.group(entry))

    async def ReportDevices(
        self, request: api.ReportDevicesRequest, context: Context
    ) -> api.ReportDevicesResponse:
        problems = list(subject_name(request.node, "node"))
        if problems:
            raise InvalidInput.of(problems)
        check_node(context, request.node)
        observed = device_messages.observed(request, self._devices.now())
        await self._devices.report(NodeName(request.node), observed)
        return api.ReportDevicesResponse()


def _named(text: str, at: str) -> DeviceGroupName:
    if not text:
        raise InvalidInput.at(at, "is missing")
    return DeviceGroupName(text)
