"""Whole agents of two nodes beside the policy service: what passes while one does not hear."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2

from lab.agents import socket_path
from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import add, call, inside, missing, open_socket
from services.agent.kernel.nftables.table_names import counter
from services.agent.rules.render_rules import DEFAULT
from services.common.model.rules import Direction, PolicyName
from services.common.rpc.channel import open_channel
from tests.kernel.conformance.driver import Driver
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TEXT = """
name: {name}
networks:
  - {{name: pods, cidr: 10.78.0.0/24, vlan_id: 20, gateway: 10.78.0.1, mode: onlink}}
topologies:
  - {{name: dc, networks: [pods], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{pods: 10.78.0.251}}}}
  - {{name: n2, addresses: {{pods: 10.78.0.252}}}}
"""
POLICIES = """
policies:
  - name: closed
    targets: [{endpoints: {labels: {match_labels: {app: closed}}}}]
    directions: [ingress, egress]
  - name: nothing-bad
    tier: admin
    targets: [{endpoints: {labels: {match_labels: {app: wary}}}}]
    ingress:
      - {action: deny, peers: [{endpoints: {labels: {match_labels: {is: bad}}}}]}
"""
DIRECTIONS = {
    "POLICY_DIRECTION_INGRESS": Direction.INGRESS,
    "POLICY_DIRECTION_EGRESS": Direction.EGRESS,
}
PORT = 81
"""Where nobody listens: who gets there is refused."""


class Site:
    """The cluster, and what is done with it."""

    def __init__(self, cluster: Cluster, driver: Driver) -> None:
        self.cluster = cluster
        self.driver = driver
        self.addresses: dict[str, str] = {}

    async def attach(
        self,
        node: str,
        name: str,
        tenant: str,
        labels: dict[str, str] | None = None,
        *,
        address: str = "",
        labels_follow: bool = False,
    ) -> None:
        spec = endpoint_pb2.EndpointSpec(
            name=name,
            tenant=tenant,
            labels=labels,
            labels_follow=labels_follow,
            target=endpoint_pb2.EndpointTarget(
                namespace=endpoint_pb2.NamespaceTarget(path=str(self.cluster.path(name)))
            ),
            addresses=[allocation_pb2.AddressSpec(network="pods", address=address)],
        )
        async with open_channel(f"unix:{socket_path(self.cluster.folder, node)}") as channel:
            said = await AgentServiceStub(channel).AttachEndpoint(  # type: ignore[misc]
                api.AttachEndpointRequest(spec=spec), timeout=60
            )
        self.addresses[name] = said.endpoint.addresses[0].address

    async def detach(self, node: str, name: str) -> None:
        """Detaches it, and makes a namespace for its successor."""
        await self.cluster.detach(node, name)
        add(self.cluster.lab.name, [name])

    async def reaches(self, source: str, target: str, seconds: float = PATIENCE) -> bool:
        address = self.addresses[target]

        def dial() -> bool:
            with socket.socket() as one:
                one.settimeout(seconds)
                try:
                    one.connect((address, PORT))
                except ConnectionRefusedError:
                    return True
                except TimeoutError:
                    return False
            raise AssertionError("somebody listens")

        return await asyncio.to_thread(call, self.cluster.path(source), dial)

    async def keeps_out(self, source: str, target: str) -> bool:
        """Whether nothing of `source` gets to the target for much longer than it takes."""
        return not await self.reaches(source, target, 1)

    async def counters(self, node: str) -> set[str]:
        """Names of rules' counters in a node's kernel."""
        command = ["nft", "-j", "list", "counters", "table", "inet", "romana"]
        process = await asyncio.create_subprocess_exec(
            *inside(self.cluster.path(node), command), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        found = (each.get("counter", {}) for each in json.loads(said)["nftables"])
        return {one["name"] for one in found if one.get("name", "").startswith("c-")}

    async def realized(self) -> None:
        await self.driver.realized(["n1", "n2"])

    @contextlib.contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """A program of the cluster does nothing meanwhile."""
        program = self.cluster.program(name)
        pid = self.cluster.processes.pid(program.name, program.host)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    cluster = Cluster(TEXT.format(name=f"late-{uuid.uuid4().hex[:8]}"), guarded=True)
    await cluster.up()
    try:
        driver = await Driver.start(cluster.path(CONTROL))
        try:
            content = base64.b64encode(POLICIES.encode()).decode()
            await driver.call("ApplyPolicies", {"documents": [{"content": content}]})
            yield Site(cluster, driver)
        finally:
            await driver.close()
    finally:
        cluster.down()


@pytest_asyncio.fixture(loop_scope="module")
async def named(site: Site, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """With namespaces for the endpoints of a test; what was attached is detached after it."""
    names = request.param
    add(site.cluster.lab.name, names)
    yield site
    attached = {one.name: one.node for one in await site.cluster.attached()}
    for name in names:
        await site.cluster.detach(attached.get(name, "n1"), name)


@pytest.mark.parametrize("named", [["front", "old", "new", "own"]], indirect=True)
async def test_isolation_holds_on_a_node_that_does_not_hear(named: Site) -> None:
    isolated = {"name": "shop", "isolation": "ISOLATION_TENANT"}
    await named.driver.call("PutTenants", {"tenants": [isolated]})
    await named.attach("n1", "front", "shop")
    await named.attach("n2", "old", "evil")
    await named.attach("n2", "own", "shop")
    await named.realized()
    assert await named.reaches("own", "front")
    assert await named.keeps_out("old", "front")
    with named.hanging("n1"):
        await named.attach("n2", "new", "evil")
        assert await named.keeps_out("new", "front")
    await named.realized()
    assert await named.keeps_out("new", "front")
    assert await named.reaches("own", "front")


@pytest.mark.parametrize("named", [["wary", "good", "bad", "later"]], indirect=True)
async def test_a_deny_by_labels_holds_on_a_node_that_does_not_hear(named: Site) -> None:
    await named.attach("n1", "wary", "t", {"app": "wary"})
    await named.attach("n2", "good", "t")
    await named.attach("n2", "bad", "t", {"is": "bad"})
    await named.realized()
    assert await named.reaches("good", "wary")
    assert await named.keeps_out("bad", "wary")
    with named.hanging("n1"):
        await named.attach("n2", "later", "t", {"is": "bad"})
        assert await named.keeps_out("later", "wary")
        assert await named.reaches("good", "wary")
    await named.realized()
    assert await named.keeps_out("later", "wary")


@pytest.mark.parametrize("named", [["web", "asks"]], indirect=True)
async def test_rules_of_a_predecessor_open_nobody_while_policy_is_away(named: Site) -> None:
    await named.attach("n2", "asks", "t")
    await named.attach("n1", "web", "t", {"app": "open"})
    await named.realized()
    assert await named.reaches("asks", "web")
    with named.hanging("policy"):
        await named.detach("n1", "web")
        await named.attach("n1", "web", "t", {"app": "closed"}, address=named.addresses["web"])
        assert await named.keeps_out("asks", "web")
    await named.realized()
    assert await named.keeps_out("asks", "web")


@pytest.mark.parametrize("labels_follow", [False, True])
@pytest.mark.parametrize("named", [["flood", "web"]], indirect=True)
async def test_who_is_denied_gets_in_with_no_packet(named: Site, *, labels_follow: bool) -> None:
    await named.attach("n2", "flood", "t")
    await named.attach("n1", "web", "t", {"app": "open"})  # which is let in
    address = named.addresses["web"]
    flood = open_socket(named.cluster.path("flood"), socket.AF_INET, socket.SOCK_DGRAM)
    flooding = asyncio.create_task(_flood(flood, (address, 9)))
    await named.realized()
    await named.detach("n1", "web")
    ear = open_socket(
        named.cluster.path("web"), socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)
    )
    try:
        labels = {} if labels_follow else {"app": "closed"}
        await named.attach("n1", "web", "t", labels, address=address, labels_follow=labels_follow)
        if labels_follow:
            said = {"name": "web", "tenant": "t", "labels": {"app": "closed"}}
            await named.driver.call("PutEndpoints", {"endpoints": [said]})
        await named.realized()
        assert not _heard(ear)
    finally:
        flooding.cancel()
        for one in (flood, ear):
            one.close()
        if labels_follow:
            await named.driver.call("DeleteEndpoint", {"name": "web"})


async def _flood(sender: socket.socket, target: tuple[str, int]) -> None:
    while True:
        with contextlib.suppress(OSError):
            sender.sendto(b"x", target)
        await asyncio.sleep(0.001)


def _heard(ear: socket.socket) -> list[bytes]:
    """Datagrams of UDP that came in."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data, (_, _, kind, *_) = ear.recvfrom(2048, socket.MSG_DONTWAIT)
            if kind != socket.PACKET_OUTGOING and data[9] == socket.IPPROTO_UDP:
                found.append(data)
    return found


@pytest.mark.parametrize("named", [["wary", "shut"]], indirect=True)
async def test_the_rules_of_a_node_are_those_that_its_kernel_has(named: Site) -> None:
    await named.attach("n1", "wary", "t", {"app": "wary"})
    await named.attach("n1", "shut", "t", {"app": "closed"})
    await named.realized()
    resources = (await named.driver.call("GetNodeRules", {"node": "n1"}))["resources"]
    told = [each["rules"] for each in resources if "rules" in each]
    names = {each["endpoint"]["name"] for each in resources if "endpoint" in each}
    assert names == {"wary", "shut"}
    assert {"nothing-bad", "closed"} <= {each["policy"] for each in told}
    rules, defaults = set(), set()
    for each in told:
        of = PolicyName(each["policy"]), DIRECTIONS[each["direction"]]
        rules |= {counter(*of, str(one.get("number", 0))) for one in each.get("rules", ())}
        defaults.add(counter(*of, DEFAULT))
    assert rules <= await named.counters("n1") <= rules | defaults
