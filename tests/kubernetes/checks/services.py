"""kube-proxy's services and host ports on VLANs: who reaches whom, and whom pods see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from tests.kubernetes.hosts import HERE, OUTSIDE
from tests.kubernetes.objects import PORT, Pods, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import until

NODE: Final = "node-1"
NETWORKS: Final = ("pods", "blue", "green")
WIRES: Final = ("eth0", "blue", "green")
HIDDEN: Final = ""
"""Instead of the client's address: some address of the node is seen."""


def test_every_client_reaches_every_backend_by_every_address(pods: Pods, romana: Romana) -> None:
    hosts = romana.cluster.hosts
    backends = [_backend(network, 8000 + number) for number, network in enumerate(NETWORKS)]
    services = [
        _service(network, policy, 30100 + 10 * number + is_local)
        for number, network in enumerate(NETWORKS)
        for is_local, policy in enumerate(("Cluster", "Local"))
    ]
    clients = [
        pod(f"client-{network}-{node[-1]}", node=node, network=network)
        for network in NETWORKS
        for node in (NODE, "node-2")
    ]
    pods.run(*backends, *services, *clients)
    own = {str(hosts.address(NODE, wire)) for wire in WIRES}
    callers = {one["metadata"]["name"]: pods.address(one["metadata"]["name"]) for one in clients}
    for one in services:
        port = one["spec"]["ports"][0]["nodePort"]
        to = str(hosts.address(NODE))
        what = f"kube-proxy to serve {one['metadata']['name']}"
        until(what, lambda port=port, to=to: _ask(pods, romana, OUTSIDE, to, port))  # type: ignore[misc]
    wrong = []
    for client, backend, to, port, is_kept in _calls(pods, romana, list(callers)):
        seen = callers.get(client, HIDDEN) if is_kept else HIDDEN
        if is_kept and client == OUTSIDE:
            wire = next(one for one in WIRES if str(hosts.address(NODE, one)) == to)
            seen = str(hosts.address(OUTSIDE, wire))
        said = _ask(pods, romana, client, to, port)
        name, _, caller = said.partition(" ")
        if name != backend or (caller != seen if seen else caller not in own):
            wrong.append(f"{client} at {to}:{port}: {said!r}, not {backend} {seen or 'the node'}")
    assert not wrong, "\n".join(("", *wrong))


def _calls(
    pods: Pods, romana: Romana, clients: list[str]
) -> Iterator[tuple[str, str, str, int, bool]]:
    """Client, backend, address, port, and whether the client's address is kept."""
    for number, network in enumerate(NETWORKS):
        backend = f"web-{network}"
        address = pods.cluster.get("service", f"{backend}-cluster")["spec"]["clusterIP"]
        for client in (*clients, NODE):
            yield client, backend, address, PORT, client != NODE
        for wire in WIRES:
            to = str(romana.cluster.hosts.address(NODE, wire))
            for client in (*clients, NODE, OUTSIDE):
                yield client, backend, to, 30100 + 10 * number, False
                if client == OUTSIDE:
                    yield client, backend, to, 30101 + 10 * number, True
                yield client, backend, to, 8000 + number, client != NODE


def _ask(pods: Pods, romana: Romana, client: str, to: str, port: int) -> str:
    if client not in {NODE, OUTSIDE}:
        return pods.ask(client, to, port, timeout=3.0)
    probe = (sys.executable, HERE / "probe.py", "ask", "tcp", to, port, "--timeout", "3")
    return romana.cluster.run(client, *probe, check=False).stdout.rpartition("  (")[0]


def _backend(network: str, host_port: int) -> dict[str, Any]:
    made = pod(f"web-{network}", node=NODE, network=network)
    made["spec"]["containers"][0]["ports"] = [{"containerPort": PORT, "hostPort": host_port}]
    return made


def _service(network: str, policy: str, port: int) -> dict[str, Any]:
    name = f"web-{network}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-{policy.lower()}", "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "externalTrafficPolicy": policy,
            "selector": {"app": name},
            "ports": [{"port": PORT, "nodePort": port}],
        },
    }
