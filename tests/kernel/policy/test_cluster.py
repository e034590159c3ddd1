"""Whole agents of two nodes beside the policy service: what passes while one does not hear."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import policy_pb2, sync_rules_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api

from lab.agents import socket_path
from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.local import COMMAND
from lab.namespaces import add, call, inside, missing, open_socket
from lab.processes import environment
from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.nftables.table import Changes
from services.agent.kernel.nftables.table_names import counter
from services.common.model.rules import Direction, PolicyName
from services.common.rpc.channel import open_channel
from services.common.rpc.kernel_text import KernelBesideTold, RuleInKernel, rules_beside_told
from tests.kernel.conformance.driver import Driver, Refused
from tests.support.ipam_process import poll
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
    policy_pb2.POLICY_DIRECTION_INGRESS: Direction.INGRESS,
    policy_pb2.POLICY_DIRECTION_EGRESS: Direction.EGRESS,
}
PORT = 81
"""Where nobody listens: who gets there is refused."""


def printed(space: Path, *command: str) -> str:
    """What a command prints in a namespace."""
    done = subprocess.run(inside(space, command), check=True, capture_output=True, text=True)
    return done.stdout


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

    async def told(self, node: str) -> Sequence[sync_rules_pb2.RuleResource]:
        said = await self.driver.call("GetNodeRules", {"node": node, "pageSize": 1000})
        return list(ParseDict(said, policy_api.GetNodeRulesResponse()).resources)

    async def in_kernel(self, node: str) -> policy_api.GetKernelRulesResponse:
        """What the node's agent says that its kernel has."""
        said = await self.driver.call("GetKernelRules", {"node": node})
        return ParseDict(said, policy_api.GetKernelRulesResponse())

    async def compared(self, node: str) -> KernelBesideTold[RuleInKernel]:
        return rules_beside_told(await self.told(node), await self.in_kernel(node))

    async def until_kernel(
        self, node: str, condition: Callable[[KernelBesideTold[RuleInKernel]], bool], what: str
    ) -> KernelBesideTold[RuleInKernel]:
        """Asks until the agent says so; it may be starting."""
        found: KernelBesideTold[RuleInKernel] | None = None

        async def holds() -> bool:
            nonlocal found
            with contextlib.suppress(Refused):
                found = await self.compared(node)
                return condition(found)
            return False

        await poll(holds, 60, what=what)
        assert found is not None
        return found

    async def romana(self, *words: str) -> tuple[int | None, str]:
        """Exit code of the command, and all that it prints."""
        process = await asyncio.create_subprocess_exec(
            *inside(self.cluster.path(CONTROL), [*COMMAND, *words]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**environment(), **ENVIRONMENT},
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    @contextlib.contextmanager
    def taken_away(self, node: str, note: str) -> Iterator[None]:
        """A rule is deleted by hand, and the table is somebody else's: the agent, which starts
        anew, cannot put it back meanwhile."""
        path = self.cluster.path(node)
        self.cluster.kill(node)  # while it runs nobody else may
        listed = json.loads(printed(path, "nft", "-aj", "list", "table", "inet", "romana"))[
            "nftables"
        ]
        rules = [each["rule"] for each in listed if "rule" in each]
        rule = next(each for each in rules if each.get("comment", "").endswith(f" {note}"))
        where = "inet", "romana", rule["chain"], "handle", str(rule["handle"])
        printed(path, "nft", "delete", "rule", *where)
        other = call(path, Nft)
        try:
            other.apply(Changes(counters={"somebody"}))
            self.cluster.start(node)
            yield
        finally:
            other.close()

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
    told, answer = await named.told("n1"), await named.in_kernel("n1")
    names = {each.endpoint.name for each in told if each.HasField("endpoint")}
    assert names == {"wary", "shut"}
    policies = {each.rules.policy for each in told if each.HasField("rules")}
    assert {"nothing-bad", "closed"} <= policies
    found = rules_beside_told(told, answer)
    assert found.agrees, found
    assert not answer.kernel.differences
    assert ("nothing-bad", "yes") in {(one.rule.policy, one.kernel) for one in found.items}
    # what the agent says is what nft says
    said = {
        counter(PolicyName(one.policy), DIRECTIONS[one.direction], one.rule)
        for one in answer.kernel.rules
    }
    assert said == await named.counters("n1")


@pytest.mark.parametrize("named", [["wary"]], indirect=True)
async def test_a_rule_that_somebody_deletes_is_missed_until_the_agent_has_put_it_back(
    named: Site,
) -> None:
    await named.attach("n1", "wary", "t", {"app": "wary"})
    await named.realized()

    def lacks_one(found: KernelBesideTold[RuleInKernel]) -> bool:
        # it is made of a rule for each family, and for addresses and for blocks
        return [one.kernel for one in found.items if one.rule.policy == "nothing-bad"] == ["3 of 4"]

    with named.taken_away("n1", "nothing-bad ingress 0"):
        found = await named.until_kernel("n1", lacks_one, "what is missing")
        assert not found.agrees
        assert {"missing", "strange"} == {one.how for one in found.differences}
        assert any("nothing-bad ingress 0" in one.what for one in found.differences)
        done, out = await named.romana("node", "rules", "n1", "--kernel")
        assert done == 1
        assert "Its kernel is not as it was told" in out
        assert "nothing-bad ingress 0" in out
    await named.until_kernel("n1", lambda found: found.agrees, "the rule to be put back")
    done, out = await named.romana("node", "rules", "n1", "--kernel")
    assert done == 0
    assert "Its kernel has all of this." in out


@pytest.mark.parametrize("named", [["wary"]], indirect=True)
async def test_a_node_whose_agent_is_not_there_says_so_and_what_it_is_told(named: Site) -> None:
    await named.attach("n1", "wary", "t", {"app": "wary"})
    await named.realized()
    named.cluster.kill("n1")
    try:

        async def is_away() -> bool:
            done, out = await named.romana("node", "rules", "n1", "--kernel")
            return bool(done) and "the agent of n1 has no stream" in out

        await poll(is_away, 60, what="the agent to be away")
        done, out = await named.romana("node", "rules", "n1")
        assert done == 0
        assert "nothing-bad" in out
    finally:
        named.cluster.start("n1")
        await named.cluster.agent("n1").ready()


@pytest.mark.parametrize("named", [["near", "far"]], indirect=True)
async def test_the_routes_of_a_node_are_those_that_its_kernel_has(named: Site) -> None:
    await named.attach("n1", "near", "t")
    await named.attach("n2", "far", "t")
    said: list[str] = []

    async def has_it() -> bool:
        done, out = await named.romana("node", "routes", "n1", "--kernel")
        said[:] = [out]
        return done == 0 and "n2" in out

    await poll(has_it, 60, what="the route to n2")
    (line,) = [line.split() for line in said[0].splitlines() if " n2 " in line]
    network, prefix, node, next_hop, kernel, interface = line
    assert (network, node, next_hop, kernel) == ("pods", "n2", "10.78.0.252", "yes")
    shown = await asyncio.to_thread(
        printed, named.cluster.path("n1"), "ip", "route", "show", "table", "all", prefix
    )
    assert f"via {next_hop} dev {interface}" in shown
    done, out = await named.romana("node", "routes", "n1")
    assert done == 0
    assert prefix in out
