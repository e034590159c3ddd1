"""Services of Kubernetes on VLANs: every client reaches every backend, and is seen as it shall be.

kube-proxy's rules are written as it writes them, host ports are made by the reference plug-in.
Reverse-path filtering is strict everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from services.agent.rules.compose import Composer, LocalInterface
from services.agent.rules.firewall import Firewall
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName
from services.common.model.rules import CidrBlock, EndpointRules, Profile
from tests.kernel.agent.cluster import PORT, PORTMAP, Cluster
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import identity
from tests.support.bridge import caller, serving
from tests.support.netns import Namespaces, enter

NODE = "the node"
"""Who is seen where the client's address is not kept: some address of a node."""
PODS = ("ca1", "cb1", "ba1", "bb1", "ca2", "cb2")
"""Endpoints that call: on this node, backends among them, and on the other; on either network."""
BEYOND = ("ma", "mb", "out")
"""Machines on both networks, and beyond the gateway."""
HERE = "n1"
"""The node itself, which is also the one whose addresses are called."""


class Call(NamedTuple):
    """What is tried."""

    what: str
    client: str
    address: str
    port: int
    seen: str
    """Whom the backend shall see."""


def to_cluster_addresses(cluster: Cluster) -> Iterator[Call]:
    """The gateway has a route to them by a node, as some sites do; of who is not a pod's address
    kube-proxy hides them."""
    for client in (*PODS, "out", HERE):
        for backend in cluster.backends:
            seen = cluster.addresses[client] if client in PODS and client != backend else NODE
            address = cluster.service_address(backend)
            yield Call(f"cluster address of {backend}", client, address, PORT, seen)


def to_node_ports(cluster: Cluster) -> Iterator[Call]:
    for by, client, address in _to_node(cluster):
        for backend in cluster.backends:
            port = cluster.node_port(backend, local=False)
            yield Call(f"node port of {backend} by {by}", client, address, port, NODE)


def to_local_node_ports(cluster: Cluster) -> Iterator[Call]:
    """kube-proxy lets the node and its pods reach backends elsewhere, too."""
    for by, client, address in _to_node(cluster):
        for backend in cluster.backends:
            if backend[-1] == "1" or client[-1] == "1":
                if client == "ops1" and backend[-1] != "1":
                    continue
                seen = NODE if client in {HERE, backend} else cluster.addresses[client]
                port = cluster.node_port(backend, local=True)
                yield Call(f"local node port of {backend} by {by}", client, address, port, seen)


def to_host_ports(cluster: Cluster) -> Iterator[Call]:
    for by, client, address in _to_node(cluster):
        for backend in ("ba1", "bb1"):
            seen = NODE if client in {HERE, backend} else cluster.addresses[client]
            port = cluster.host_port(backend)
            yield Call(f"host port of {backend} by {by}", client, address, port, seen)


def _to_node(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """An address of the node, and who reaches it: its third link leads to one machine alone."""
    for by, address in cluster.node_addresses(HERE).items():
        beyond = ("ops1",) if by == "mgmt" else (*BEYOND, "ca2", "cb2")
        for client in ("ca1", "cb1", "ba1", "bb1", HERE, *beyond):
            yield by, client, address


@pytest.fixture(params=(4, 6), ids=lambda version: f"ipv{version}")
def cluster(made: Namespaces, request: pytest.FixtureRequest) -> Cluster:
    if not shutil.which("iptables-restore") or not Path(PORTMAP).exists():
        pytest.skip("needs iptables and Debian's containernetworking-plugins")
    cluster = Cluster(made, request.param)
    cluster.publish()
    return cluster


@contextlib.asynccontextmanager
async def running(cluster: Cluster, state: Path) -> AsyncIterator[None]:
    with cluster.serving():
        async with (
            cluster.nodes["n1"].running(state / "n1"),
            cluster.nodes["n2"].running(state / "n2"),
        ):
            yield


async def wrong(cluster: Cluster, calls: list[Call]) -> list[str]:
    """Which calls do not come out as they shall."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(8) as pool:
        found = await asyncio.gather(
            *(
                loop.run_in_executor(
                    pool, caller, cluster.places[call.client], call.address, call.port
                )
                for call in calls
            )
        )
    nodes = {address for name in ("n1", "n2") for address in cluster.node_addresses(name).values()}
    return [
        f"{call.what} from {call.client}: {seen or 'nothing'}, not {call.seen or 'nothing'}"
        for call, seen in zip(calls, found, strict=True)
        if seen != call.seen and not (call.seen == NODE and seen in nodes)
    ]


@pytest.mark.parametrize(
    "calls", [to_cluster_addresses, to_node_ports, to_local_node_ports, to_host_ports]
)
async def test_every_client_reaches_every_backend(
    cluster: Cluster, tmp_path: Path, calls: Callable[[Cluster], Iterator[Call]]
) -> None:
    async with running(cluster, tmp_path):
        found = await wrong(cluster, list(calls(cluster)))
    assert not found, "\n".join(("", *found))


async def test_policy_sees_clients_and_the_pods_behind_a_service(
    cluster: Cluster, tmp_path: Path
) -> None:
    """On the node of the backend the client is known, also where the backend is not told of it."""
    allowed = ("out", "cb1")
    only = rules(
        "only",
        allow(
            blocks=tuple(
                CidrBlock(ipaddress.ip_network(cluster.addresses[client])) for client in allowed
            )
        ),
    )
    composer = Composer(Failsafe(), None)
    for endpoint, address in cluster.plan.endpoints.items():
        if endpoint[-1] == "1":
            name, addresses = EndpointName(endpoint), (ipaddress.ip_address(address),)
            composer.put_local(name, LocalInterface(f"h-{endpoint}", addresses))
            ingress = (only.id,) if endpoint == "bb1" else ()
            of = EndpointRules(name, addresses, Profile(ingress, ()))
            composer.update({identity(one): one for one in (only, of)}, ())
    path = cluster.nodes["n1"].namespace.path
    firewall = Firewall(enter=lambda: enter(path))
    await firewall.run(lambda: firewall.apply(composer.refresh().changes))
    calls = [
        Call(
            f"{kind} of bb1",
            client,
            cluster.node_addresses()[by] if by else cluster.service_address("bb1"),
            port,
            seen if client in allowed else "",
        )
        for kind, by, port, kept, clients in (
            ("cluster address", "", PORT, True, ("ca1", "cb1")),
            ("node port", "a", cluster.node_port("bb1", local=False), False, ("out", "ma", "ca1")),
            ("local node port", "a", cluster.node_port("bb1", local=True), True, ("out", "ma")),
            ("host port", "b", cluster.host_port("bb1"), True, ("out", "mb")),
        )
        for client in clients
        for seen in [cluster.addresses[client] if kept else NODE]
    ]
    try:
        async with running(cluster, tmp_path):
            found = await wrong(cluster, calls)
    finally:
        await firewall.close()
    assert not found, "\n".join(("", *found))


async def test_a_backend_on_the_node_itself_answers_by_where_it_was_asked(
    cluster: Cluster, tmp_path: Path
) -> None:
    own, node = cluster.node_addresses(), cluster.nodes[HERE].namespace
    family, host = ("ip", own["a"]) if cluster.version == 4 else ("ip6", f"[{own['a']}]")
    node.run(
        "nft -f -",
        stdin=f"""
        table {family} test {{
            chain pre {{
                type nat hook prerouting priority dstnat;
                {family} daddr {own["b"]} tcp dport 30300 dnat to {host}:81
            }}
        }}
        """,
    )
    with serving(node, 81):
        async with running(cluster, tmp_path):
            said = await asyncio.to_thread(caller, cluster.places["out"], own["b"], 30300)
    assert said == cluster.addresses["out"]
