"""A cluster for the console: real etcd and services as processes, agents without a kernel."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import endpoint_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.etcd.process import LOOPBACK, free_port
from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles
from tests.support.kept_kernel import KeptRoutes, KeptTable
from tests.support.leftovers import owner
from tests.support.policy_process import of_tenant, rules_agent
from tests.support.sync_agent import SyncAgent

START_SECONDS = 60.0
SERVICES = ("topology", "ipam", "policy")
HOSTILE = '<img src=x onerror="alert(1)"> \u05e9\u05dc\u05d5\u05dd \U0001f680 ' + "x" * 180
"""Markup, letters that run to the left, an emoji, and long."""
TOPOLOGY = """
networks:
  - {name: production, cidr: 10.40.0.0/16, block_length: 28, vlan_id: 40, gateway: 10.40.0.1}
  - {name: test, cidr: 10.20.0.0/16, vlan_id: 20}
topologies:
  - name: datacenter
    networks: [production, test]
    groups:
      - {name: rack-1, assignment: {rack: rack-1}}
      - {name: rack-2, assignment: {rack: rack-2}}
"""
NODES = {"n1": "rack-1", "n2": "rack-2", "n3": "rack-2"}
ENDPOINTS = {"front": "n1", "back": "n2"}


class Site:
    """Its parts can be ended and started again, on the same ports."""

    def __init__(
        self, etcd: str, root: str, folder: Path, tls: TlsFiles | None = None, **console: str
    ) -> None:
        """With `tls` all parts show that certificate; `shown` is the one that we show."""
        self._folder = folder
        self.shown = tls
        self._ports = {name: free_port() for name in (*SERVICES, "console")}
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{LOOPBACK}:{self._ports['console']}"
        self._environments = {
            name: {
                "ETCD__ENDPOINTS": etcd,
                "ETCD__ROOT": root,
                "LISTEN__ADDRESS": self.address(name),
                "METRICS__ADDRESS": f"{LOOPBACK}:0",
            }
            for name in SERVICES
        }
        self._environments["console"] = {
            "LISTEN__ADDRESS": self.address("console"),
            "METRICS__ADDRESS": f"{LOOPBACK}:0",
            **{name.upper(): self.address(name) for name in SERVICES},
            **console,
        }
        if tls is not None:
            files = {"CA": tls.ca, "CERTIFICATE": tls.certificate, "KEY": tls.key}
            for name, settings in self._environments.items():
                sections = ("LISTEN__TLS", "TLS") if name == "console" else ("LISTEN__TLS",)
                settings |= {
                    f"{section}__{field}": str(path)
                    for section in sections
                    for field, path in files.items()
                }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def address(self, name: str) -> str:
        """Where a part listens."""
        return f"{LOOPBACK}:{self._ports[name]}"

    def start(self, name: str) -> None:
        """Starts a part, and does not wait for it."""
        prefix = f"ROMANA_{name.upper()}__"
        named = {prefix + key: value for key, value in self._environments[name].items()}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"services.{name}.main"],
                env={**os.environ, **owner(), **named},
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        """Ends a part as a crash would."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        """What a part wrote."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def pid(self, name: str) -> int:
        """Of a part that runs."""
        return self._processes[name].pid

    def command(self, *arguments: str) -> str:
        """What `romana` prints."""
        where = {f"ROMANA_{name.upper()}": self.address(name) for name in SERVICES}
        return subprocess.run(
            [sys.executable, "-m", "services.ctl.main", *arguments],
            env={**os.environ, **owner(), **where},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def ask(self, path: str) -> httpx2.Response:
        """What the console answers."""
        with self._client() as client:
            return client.get(self.url + path)

    def get(self, path: str) -> Any:
        """What the console says; fails if that is an error."""
        answer = self.ask(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object) -> httpx2.Response:
        """As our page does it."""
        with self._client() as client:
            return client.post(self.url + path, json=body, headers={"X-Romana-Console": "1"})

    def _client(self) -> httpx2.Client:
        if self.shown is None:
            return httpx2.Client(timeout=60, trust_env=False)
        context = ssl.create_default_context(cafile=str(self.shown.ca))
        context.load_cert_chain(self.shown.certificate, self.shown.key)
        return httpx2.Client(timeout=60, trust_env=False, verify=context)

    def until(self, found: Any, what: str, seconds: float = START_SECONDS) -> Any:
        """Waits until `found` returns something; errors of connections count as nothing."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx2.HTTPError, AssertionError):
                if value := found():
                    return value
            assert time.monotonic() < end, f"waited for {what}"
            time.sleep(0.05)

    def is_known(self) -> bool:
        """The console has read everything."""
        overview = self.get("/api/overview")
        return overview["known"] and all(each["serving"] for each in overview["services"])


@contextlib.contextmanager
def running(
    etcd: str, root: str, folder: Path, tls: TlsFiles | None = None, **console: str
) -> Iterator[Site]:
    """All parts, until the block ends; the console knows everything."""
    site = Site(etcd, root, folder, tls, **console)
    try:
        for name in (*SERVICES, "console"):
            site.start(name)
        site.until(site.is_known, "the console to know everything")
        yield site
    finally:
        for name in ("console", *SERVICES):
            site.kill(name)


async def fill(site: Site) -> None:
    """Two networks, three nodes, two endpoints, an allocation with a hostile name."""
    async with (
        open_channel(site.address("topology")) as topology_channel,
        open_channel(site.address("ipam")) as ipam_channel,
        open_channel(site.address("policy")) as policy_channel,
    ):
        topology = TopologyServiceStub(topology_channel)
        document = topology_pb2.TopologyDocument(text=TOPOLOGY)
        await topology.ApplyTopology(topology_api.ApplyTopologyRequest(document=document))
        for number, (name, rack) in enumerate(NODES.items(), 1):
            node = node_pb2.Node(name=name, address=f"192.0.2.{number}", labels={"rack": rack})
            await topology.RegisterNode(topology_api.RegisterNodeRequest(node=node))
        ipam = IpamServiceStub(ipam_channel)
        found: dict[str, str] = {}
        for name, where in {**ENDPOINTS, HOSTILE: "n1"}.items():
            segment = name if name in ENDPOINTS else ""
            found[name] = await allocate(ipam, name, where, segment)
        policy = PolicyServiceStub(policy_channel)
        for name, where in ENDPOINTS.items():
            endpoint = endpoint_pb2.PolicyEndpoint(
                name=name,
                tenant="shop",
                segment=name,
                addresses=[found[name]],
                labels={"app": name},
            )
            await policy.ReportEndpoints(
                policy_api.ReportEndpointsRequest(node=where, attached=[endpoint])
            )


async def allocate(ipam: Any, name: str, node: str, segment: str = "") -> str:
    """An address of production; waits until ipam knows the node. A new segment needs a block."""
    spec = allocation_pb2.AllocationSpec(
        name=name,
        node=node,
        tenant="shop",
        segment=segment,
        addresses=[allocation_pb2.AddressSpec(network="production")],
    )
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = await ipam.AllocateAddress(ipam_api.AllocateAddressRequest(spec=spec))
        except grpc.aio.AioRpcError as error:
            if time.monotonic() > end or error.code() not in {
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.UNAVAILABLE,
            }:
                raise
        else:
            return str(answer.allocations[0].address)


@contextlib.asynccontextmanager
async def agents(
    site: Site, kernels: dict[str, tuple[KeptTable, KeptRoutes]] | None = None
) -> AsyncIterator[dict[str, SyncAgent]]:
    """Both streams of every node; they apply what comes at once. Those of n1 and n2 answer what is
    asked of their kernels; `kernels` gets what stands for these."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for name in NODES:
            table, ways = KeptTable(), KeptRoutes()
            answers = name != "n3"
            routes = SyncAgent(
                name, [site.address("ipam")], answering=ways.answering if answers else None
            )
            rules = rules_agent(
                name, [site.address("policy")], answering=table.answering if answers else None
            )
            table.held, ways.held = rules.kernel, routes.kernel
            found[name] = await stack.enter_async_context(routes)
            await stack.enter_async_context(rules)
            if kernels is not None:
                kernels[name] = table, ways
            await routes.until_in_sync()
            await rules.until_in_sync()
        yield found


REFUSED = policy_pb2.Policy(
    name="refused",
    tier=policy_pb2.POLICY_TIER_ADMIN,
    targets=[policy_pb2.Target(endpoints=of_tenant("shop", app="back"))],
    ingress=[
        policy_pb2.Rule(
            action=policy_pb2.RULE_ACTION_DENY,
            peers=[policy_pb2.Peer(endpoints=of_tenant("shop", app="front"))],
            ports=[policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_TCP, port=81)],
        ),
        policy_pb2.Rule(
            action=policy_pb2.RULE_ACTION_DENY,
            peers=[policy_pb2.Peer(cidr=policy_pb2.CidrBlock(cidr="198.51.100.0/24"))],
        ),
        policy_pb2.Rule(
            action=policy_pb2.RULE_ACTION_DENY,
            peers=[policy_pb2.Peer(any=policy_pb2.Anything())],
            ports=[policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_TCP, port=82)],
        ),
    ],
)
"""Denies little that anybody asks about."""


@contextlib.asynccontextmanager
async def refused(site: Site) -> AsyncIterator[None]:
    """That policy, for a while."""
    async with open_channel(site.address("policy")) as channel:
        stub = PolicyServiceStub(channel)
        await stub.CreatePolicy(policy_api.CreatePolicyRequest(policy=REFUSED))
        try:
            yield
        finally:
            await stub.DeletePolicy(policy_api.DeletePolicyRequest(name=REFUSED.name))
