"""How each kind of object is read, put and removed, to make it what it was.

Every call says what the plan was made for, so that nothing is done when somebody was faster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message
from romana.audit.v1 import audit_service_pb2 as audit_api
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import device_pb2, endpoint_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure, of_status

M = TypeVar("M", bound=Message)

ABSENT: Final = "0"
"""The etag of what is not there."""


class Way(ABC, Generic[M]):
    """One kind of object."""

    kind: type[M]

    def __init__(self, session: Session) -> None:
        self._session = session

    @abstractmethod
    async def look(self, name: str) -> M | None:
        """The object as it is now."""

    @abstractmethod
    async def put(self, wanted: M, now: M | None) -> None:
        """Makes it another one; raises Failure if it is not as it was seen."""

    @abstractmethod
    async def remove(self, now: M) -> None:
        """Removes it; raises Failure if it is not as it was seen."""


class NodeWay(Way[node_pb2.Node]):
    kind = node_pb2.Node

    async def look(self, name: str) -> node_pb2.Node | None:
        topology = self._session.topology
        try:
            answer = await topology.read(
                topology.stub.GetNode, topology_api.GetNodeRequest(name=name)
            )
        except Failure as failure:
            _check_gone(failure)
            return None
        return answer.node

    async def put(self, wanted: node_pb2.Node, now: node_pb2.Node | None) -> None:
        topology, request_id = self._session.topology, self._session.request_id
        if not wanted.HasField("allowance"):
            wanted.allowance.SetInParent()  # unset it would stay as it is
        wanted.cordoned = wanted.cordoned
        if now is None:
            await topology.once(
                topology.stub.RegisterNode,
                topology_api.RegisterNodeRequest(node=wanted, request_id=request_id),
            )
        else:
            wanted.etag = now.etag
            await topology.once(
                topology.stub.UpdateNode,
                topology_api.UpdateNodeRequest(node=wanted, request_id=request_id),
            )

    async def remove(self, now: node_pb2.Node) -> None:
        topology = self._session.topology
        await topology.once(
            topology.stub.DeleteNode,
            topology_api.DeleteNodeRequest(
                name=now.name, etag=now.etag, request_id=self._session.request_id
            ),
        )


class ReservationWay(Way[block_pb2.Reservation]):
    kind = block_pb2.Reservation

    async def look(self, name: str) -> block_pb2.Reservation | None:
        ipam = self._session.ipam
        listed = await ipam.every(
            ipam.stub.ListReservations,
            ipam_api.ListReservationsRequest(),
            lambda page: page.reservations,
        )
        return next((each for each in listed.items if each.name == name), None)

    async def put(self, wanted: block_pb2.Reservation, now: block_pb2.Reservation | None) -> None:
        ipam, request_id = self._session.ipam, self._session.request_id
        if now is not None:
            await self.remove(now)
        await ipam.once(
            ipam.stub.CreateReservation,
            ipam_api.CreateReservationRequest(reservation=wanted, request_id=request_id),
        )

    async def remove(self, now: block_pb2.Reservation) -> None:
        ipam = self._session.ipam
        await ipam.once(
            ipam.stub.DeleteReservation,
            ipam_api.DeleteReservationRequest(
                name=now.name, request_id=self._session.request_id, expected=now
            ),
        )


class PolicyWay(Way[policy_pb2.Policy]):
    kind = policy_pb2.Policy

    async def look(self, name: str) -> policy_pb2.Policy | None:
        policy = self._session.policy
        try:
            answer = await policy.read(
                policy.stub.GetPolicy, policy_api.GetPolicyRequest(name=name)
            )
        except Failure as failure:
            _check_gone(failure)
            return None
        return answer.policy

    async def put(self, wanted: policy_pb2.Policy, now: policy_pb2.Policy | None) -> None:
        policy, request_id = self._session.policy, self._session.request_id
        if now is None:
            await policy.once(
                policy.stub.CreatePolicy,
                policy_api.CreatePolicyRequest(policy=wanted, request_id=request_id),
            )
        else:
            wanted.etag = now.etag
            await policy.once(
                policy.stub.UpdatePolicy,
                policy_api.UpdatePolicyRequest(policy=wanted, request_id=request_id),
            )

    async def remove(self, now: policy_pb2.Policy) -> None:
        policy = self._session.policy
        await policy.once(
            policy.stub.DeletePolicy,
            policy_api.DeletePolicyRequest(
                name=now.name, etag=now.etag, request_id=self._session.request_id
            ),
        )


class TenantWay(Way[endpoint_pb2.Tenant]):
    kind = endpoint_pb2.Tenant

    async def look(self, name: str) -> endpoint_pb2.Tenant | None:
        policy = self._session.policy
        listed = await policy.every(
            policy.stub.ListTenants, policy_api.ListTenantsRequest(), lambda page: page.tenants
        )
        return next((each for each in listed.items if each.name == name), None)

    async def put(self, wanted: endpoint_pb2.Tenant, now: endpoint_pb2.Tenant | None) -> None:
        policy = self._session.policy
        wanted.etag = now.etag if now is not None else ABSENT
        answer = await policy.once(
            policy.stub.PutTenants,
            policy_api.PutTenantsRequest(tenants=[wanted], request_id=self._session.request_id),
        )
        (status,) = answer.results
        if status.code:
            raise of_status(status)

    async def remove(self, now: endpoint_pb2.Tenant) -> None:
        policy = self._session.policy
        await policy.once(
            policy.stub.DeleteTenant,
            policy_api.DeleteTenantRequest(
                name=now.name, etag=now.etag, request_id=self._session.request_id
            ),
        )


class DeviceGroupWay(Way[device_pb2.DeviceGroup]):
    kind = device_pb2.DeviceGroup

    async def look(self, name: str) -> device_pb2.DeviceGroup | None:
        policy = self._session.policy
        try:
            answer = await policy.read(
                policy.stub.ListDeviceGroups, policy_api.ListDeviceGroupsRequest(name=name)
            )
        except Failure as failure:
            _check_gone(failure)
            return None
        return answer.groups[0].group if answer.groups else None

    async def put(self, wanted: device_pb2.DeviceGroup, now: device_pb2.DeviceGroup | None) -> None:
        policy = self._session.policy
        wanted.etag = now.etag if now is not None else ABSENT
        await policy.once(
            policy.stub.PutDeviceGroup,
            policy_api.PutDeviceGroupRequest(group=wanted, request_id=self._session.request_id),
        )

    async def remove(self, now: device_pb2.DeviceGroup) -> None:
        policy = self._session.policy
        await policy.once(
            policy.stub.DeleteDeviceGroup,
            policy_api.DeleteDeviceGroupRequest(
                name=now.name, etag=now.etag, request_id=self._session.request_id
            ),
        )


WAYS: Final[Mapping[int, type[Way[Any]]]] = {
    audit_api.OBJECT_KIND_NODE: NodeWay,
    audit_api.OBJECT_KIND_RESERVATION: ReservationWay,
    audit_api.OBJECT_KIND_POLICY: PolicyWay,
    audit_api.OBJECT_KIND_TENANT: TenantWay,
    audit_api.OBJECT_KIND_DEVICE_GROUP: DeviceGroupWay,
}
"""By kind, of those that can be undone one by one."""


def _check_gone(failure: Failure) -> None:
    """Raises the failure again unless it says that there is no such object."""
    if failure.status != "NOT_FOUND":
        raise failure
