"""Annotations about devices as the controller hands them on: what policy makes of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.errors import WrongState
from services.common.rpc.replicas import Replicas
from services.kubernetes.calls.devices import DeviceCalls
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.objects.policies import NetworkPolicy
from tests.contract.policy.conftest import Pair

SPEC = {
    "tier": "Admin",
    "priority": 7,
    "subject": {"namespaces": {}},
    "ingress": [
        {"name": "web", "action": "Accept", "from": [{"namespaces": {}}]},
        {"name": "rest", "action": "Deny", "from": [{"namespaces": {}}]},
    ],
}
GROUP = {
    "networks": ["net"],
    "devices": [{"name": "d", "addresses": [{"network": "net", "address": "198.51.100.9"}]}],
}
FIELDS = "via", "mirror"
ACTIONS = policy_pb2.RuleAction.items()


@dataclass(frozen=True)
class Controller:
    """What it calls."""

    policies: PolicyCalls
    devices: DeviceCalls
    pair: Pair

    async def apply(self, *annotations: tuple[str, str]) -> list[str]:
        """Applies a policy beside one without annotations; the paths of the warnings."""
        plain, own = (
            NetworkPolicy("", name, "u", (), json.dumps(SPEC).encode(), devices)
            for name, devices in (("plain", ()), ("own", annotations))
        )
        found = await self.policies.apply([plain, own])
        assert {name for name, _ in found} <= {own.policy}
        assert await self.ingress("plain") == [("ALLOW", "", ""), ("DENY", "", "")]
        return [problem.path for _, problem in found]

    async def ingress(self, name: str) -> list[tuple[str, str, str]]:
        """Action, `via` and `mirror` of a policy's rules."""
        request = api.GetPolicyRequest(name=f"ClusterNetworkPolicy/{name}")
        policy = (await self.pair.stub.GetPolicy(request)).policy
        actions = {number: name.removeprefix("RULE_ACTION_") for name, number in ACTIONS}
        return [(actions[rule.action], rule.via, rule.mirror) for rule in policy.ingress]


@pytest.fixture
async def controller(pair: Pair) -> AsyncIterator[Controller]:
    replicas = Replicas(
        PolicyServiceStub, [pair.first.address], None, insecure=True, program="test"
    )
    yield Controller(PolicyCalls(replicas), DeviceCalls(replicas), pair)
    await replicas.close()


@pytest.mark.parametrize("field", FIELDS)
async def test_a_rule_matches_nothing_until_its_group_is_there(
    controller: Controller, field: str
) -> None:
    at = f"metadata.annotations['romana.io/{field}']"
    assert await controller.apply((field, "web=fw")) == [at]
    assert await controller.ingress("own") == [("DENY", "", "")]
    await controller.devices.put("fw", json.dumps(GROUP).encode())
    assert await controller.apply((field, "web=fw")) == []
    groups = ("fw" if field == one else "" for one in FIELDS)
    assert await controller.ingress("own") == [("ALLOW", *groups), ("DENY", "", "")]


@pytest.mark.parametrize("field", FIELDS)
async def test_a_group_that_an_annotation_names_stays(controller: Controller, field: str) -> None:
    await controller.devices.put("fw", json.dumps(GROUP).encode())
    assert await controller.apply((field, "fw")) == []
    assert (await controller.devices.states())["fw"].policies == ("ClusterNetworkPolicy/own",)
    with pytest.raises(WrongState, match="ClusterNetworkPolicy/own"):
        await controller.devices.delete("fw")
    assert await controller.apply() == []
    await controller.devices.delete("fw")
    assert await controller.devices.states() == {}


@pytest.mark.parametrize("field", FIELDS)
async def test_an_annotation_that_is_not_understood_fails_closed(
    controller: Controller, field: str
) -> None:
    await controller.devices.put("fw", json.dumps(GROUP).encode())
    (other,) = {*FIELDS} - {field}
    at = f"metadata.annotations['romana.io/{field}']"
    assert await controller.apply((field, "fw, rest=fw"), (other, "fw")) == [at]
    assert await controller.ingress("own") == [("DENY", "", "")]
