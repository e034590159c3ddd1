"""Pods whose wishes are said by an orchestrator, and change between one sandbox and the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import endpoint_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.support.agent_node import NODE, RealNode
from tests.support.ipam_process import IpamProcess, poll
from tests.support.netns import Namespace, Namespaces
from tests.support.policy_process import PolicyProcess

NAME_OF_DB = "pod/t/db-0/00000000-0000-5000-8000-000000000000"
"""In ipam, of what stays with a pod's name."""


class Pods(RealNode):
    """A node whose agent hears what pods want."""

    policy: PolicyProcess

    async def want(self, uid: str, network: str, allocation: str = "", **more: Any) -> None:
        """Says it, and waits until the node has heard of it."""
        wanted = endpoint_pb2.WantedAttachment(
            node=NODE,
            addresses=[allocation_pb2.AddressSpec(network=network)],
            allocation=allocation,
            **more,
        )
        said = endpoint_pb2.PolicyEndpoint(
            name=f"pod/t/db-0/{uid}", tenant="t", labels={"round": network}, wanted=wanted
        )
        async with self.policy.connect() as stub:
            answer = await stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[said]))
            assert [one.code for one in answer.results] == [0]

            async def told() -> bool:
                request = api.GetRealizationRequest(nodes=[NODE], nodes_only=True)
                return all(one.current for one in (await stub.GetRealization(request)).nodes)

            await poll(told, 30)

    def ask(self, command: str, uid: str, container: str, target: Namespace) -> tuple[int, Any]:
        return self.cni(
            command,
            container,
            target.path,
            config={"orchestrator": "kubernetes"},
            args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=t;K8S_POD_NAME=db-0;K8S_POD_UID={uid}",
        )


@pytest.fixture
async def node(
    ipam: IpamProcess, folder: Path, shared_etcd: LocalEtcd, keys: Keys
) -> AsyncIterator[Pods]:
    policy = PolicyProcess(shared_etcd.endpoint, keys.root, folder)
    policy.address = f"unix:{folder}/policy.sock"
    policy._environment["ROMANA_POLICY__LISTEN__ADDRESS"] = policy.address
    policy.start()
    try:
        await policy.wait_until_serving()
        with Namespaces() as namespaces:
            made = Pods(namespaces, folder, ipam)
            made.more = {"POLICY": policy.address}  # type: ignore[misc]  # each has its own
            made.policy = policy
            outside = namespaces.new("outside")
            made.home.link(outside, "up0", "up0")
            made.home.run("ip addr add 192.168.0.1/24 dev up0")
            async with made:
                made.start()
                await made.ready()
                yield made
    finally:
        policy.kill()


def address_of(answer: tuple[int, Any]) -> str:
    status, printed = answer
    assert status == 0, printed
    text: str = printed["ips"][0]["address"]
    return text.partition("/")[0]


async def test_the_next_sandbox_gets_what_its_pod_wants_by_then(node: Pods) -> None:
    first, second = node.namespaces.new("first"), node.namespaces.new("second")
    await node.want("u1", "net")
    before = address_of(node.ask("ADD", "u1", "c1", first))
    assert node.ask("DEL", "u1", "c1", first)[0] == 0
    assert await node.addresses() == [before], "it stays for the next sandbox"
    await node.want("u1", "lan")
    after = address_of(node.ask("ADD", "u1", "c2", second))
    assert (before.startswith("10.1."), after.startswith("10.2.")) == (True, True)
    assert await node.addresses() == [after]


async def test_the_next_pod_of_a_name_gets_what_it_wants_itself(node: Pods) -> None:
    first, second = node.namespaces.new("first"), node.namespaces.new("second")
    await node.want("u3", "net", NAME_OF_DB)
    before = address_of(node.ask("ADD", "u3", "c1", first))
    await node.want("u4", "lan", NAME_OF_DB)
    assert node.ask("ADD", "u4", "c2", second)[0] != 0, "the pod before is still there"
    assert await node.addresses() == [before]
    await node.want("u3", "net", NAME_OF_DB, ending=True)
    assert node.ask("DEL", "u3", "c1", first)[0] == 0
    assert await node.addresses() == [before], "it stays with the name"
    after = address_of(node.ask("ADD", "u4", "c2", second))
    assert after.startswith("10.2.")
    assert await node.addresses() == [after]
