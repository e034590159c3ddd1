"""`make compose-test`: what somebody changes, kills or stops on a running cluster, and what stays.

In this order, on the cluster of checks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from tests.compose.engine import COMPOSE, COMPOSE_TIMEOUT, DOCKER, Engine, figures
from tests.compose.running import (
    ENDPOINTS,
    ROMANA,
    allocate,
    given,
    query,
    reaches,
    romana,
    services,
    there,
    until,
    unwell,
    up,
)


def test_an_address_that_somebody_has_is_set_aside_and_counted(cluster: Engine) -> None:
    address = "10.20.200.7"
    shown = json.loads(cluster.inside("router", "ip", "-json", "address"))
    interface = next(
        link["ifname"]
        for link in shown
        for item in link["addr_info"]
        if item["local"] == "10.20.0.1"
    )
    cluster.inside("router", "ip", "address", "add", f"{address}/32", "dev", interface)
    cluster.inside("shared-1", "ip", "netns", "add", "t9")
    attach = ["romana", "endpoint", "attach", "t9", "--netns", "/proc/1/root/run/netns/t9"]
    refused = cluster.attempt_inside(
        "agent-shared-1", [*attach, "--tenant", "test", "--address", address]
    )
    assert "DUPLICATE_ADDRESS" in refused.stderr
    listed = romana(cluster, "reservation", "list")
    assert isinstance(listed, list)
    assert f"conflict-{address}" in {item["name"] for item in listed}
    until(
        "Prometheus knows of the conflict",
        lambda: sum(query(cluster, "romana_agent_address_conflicts_total").values()) == 1,
    )


def test_what_somebody_changes_is_repaired_and_counted(cluster: Engine) -> None:
    routes = cluster.inside("test-1", "ip", "route", "show", "table", "all", "proto", "114")
    victim = next(line for line in routes.splitlines() if line.startswith("unreachable"))
    words = victim.split()
    cluster.inside("test-1", "ip", "route", "del", "unreachable", words[1], "table", words[3])
    until(
        "the route is back",
        lambda: (
            victim.split()[1] in cluster.inside("test-1", "ip", "route", "show", "table", words[3])
        ),
    )
    until(
        "Prometheus knows of the repair",
        lambda: sum(query(cluster, "romana_agent_repaired_objects_total").values()) >= 1,
    )


def test_a_support_bundle_of_a_node_is_whole(cluster: Engine) -> None:
    metrics = ["--metrics", "ipam=ipam:9621", "--metrics", "agent=shared-1:9641"]
    shown = cluster.inside(
        *("agent-shared-1", "env", "ROMANA_INSECURE=true", "ROMANA_TOPOLOGY=topology:9610"),
        *("ROMANA_IPAM=ipam:9620", "ROMANA_POLICY=policy:9630", "ROMANA_PASSWORD=hunter2"),
        *("romana", "support-bundle", "--file", "/tmp/b.tar.gz", "-o", "json", *metrics),
        timeout=120,
    )
    # where the services are not on this machine, nor is the table of sysctls' program in the image
    missing = set(json.loads(shown)["problems"])
    assert missing <= {"metrics/topology.txt", "metrics/policy.txt", "kernel/sysctls.txt"}
    text = cluster.inside("agent-shared-1", "tar", "xzOf", "/tmp/b.tar.gz")
    assert "hunter2" not in text
    for word in (
        "datacenter",
        "romana_agent_ready 1.0",
        "romana_ipam_active",
        "proto 114",
        "grpcio",
    ):
        assert word in text, word


def kill(engine: Engine, service: str) -> float:
    """Kills a container's process; returns the seconds until it is back and healthy.

    Not `docker kill`, after which Docker takes the container for stopped on purpose.
    """
    before = engine.container(service)
    state = before["State"]
    assert isinstance(state, dict)
    begun = time.monotonic()
    os.kill(int(state["Pid"]), signal.SIGKILL)

    def back() -> bool:
        found = engine.container(service)
        now = found["State"]
        assert isinstance(now, dict)
        return (
            int(str(found["RestartCount"])) > int(str(before["RestartCount"]))
            and now["Status"] == "running"
            and now["Health"]["Status"] == "healthy"
        )

    until(f"{service} is back", back)
    return time.monotonic() - begun


@pytest.mark.parametrize("service", ["etcd", "topology", "ipam", "policy"])
def test_a_killed_service_comes_back_with_nothing_lost(cluster: Engine, service: str) -> None:
    before = given(cluster)
    figures.append(f"{service} killed, healthy again: {kill(cluster, service):.1f} s")
    until("everything is healthy", lambda: not unwell(cluster))
    assert given(cluster) == before
    cluster.outside(ROMANA, "ipam", "check", *there(cluster))
    name = f"after-{service}"

    def allocated() -> bool:
        with contextlib.suppress(AssertionError):
            allocate(cluster, name, "test-1", "test")
            return True
        return False

    # a replica that was killed is the elected one until its lease ends
    until("an address is given", allocated)
    assert given(cluster).keys() == before.keys() | {name}


def test_a_killed_agent_loses_no_packet(cluster: Engine) -> None:
    address = given(cluster)["t3"]
    pinging = subprocess.Popen(
        [
            *(DOCKER, "compose", "exec", "-T", "test-1", "ip", "netns", "exec", "t1"),
            *("ping", "-n", "-q", "-i", "0.02", "-c", "400", address),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=COMPOSE,
        env=cluster.environment,
    )
    figures.append(
        f"agent killed, healthy again: {kill(cluster, 'agent-test-1'):.1f} s, "
        "400 packets meanwhile, none lost"
    )
    shown = pinging.communicate(timeout=60)[0]
    assert "400 packets transmitted, 400 received" in shown
    assert reaches(cluster, "t3", "t1") == "ttl=62"


def test_a_second_replica_takes_over(cluster: Engine) -> None:
    replicas = ("ipam-2", "policy-2")
    cluster.compose("up", "-d", "--no-build", "--no-recreate", *services(cluster), *replicas)
    until("everything is healthy", lambda: not unwell(cluster))
    until("Prometheus sees two", lambda: len(query(cluster, "romana_ipam_active")) == 2)
    assert sum(query(cluster, "romana_ipam_active").values()) == 1
    before = given(cluster)
    assert query(cluster, "romana_ipam_active").keys() == {"ipam-1", "ipam-2"}
    # writes through either: a standby passes them on to the other
    allocate(cluster, "by-0", "qa-1", "qa", 1)
    allocate(cluster, "by-1", "qa-1", "qa", 2)
    assert given(cluster).keys() == before.keys() | {"by-0", "by-1"}
    cluster.do(DOCKER, "stop", "romana-ipam-1")
    allocate(cluster, "by-2", "qa-1", "qa", 2)
    cluster.compose("up", "-d", "--no-build", *services(cluster))
    cluster.compose("rm", "-s", "-f", *replicas)
    until("everything is healthy", lambda: not unwell(cluster))
    assert given(cluster).keys() == before.keys() | {"by-0", "by-1", "by-2"}


def test_down_and_up_keeps_every_allocation(cluster: Engine) -> None:
    before = given(cluster)
    ports = published(cluster)
    assert set(ENDPOINTS) <= set(before)
    cluster.compose("down")
    up(cluster, "from volumes")
    assert given(cluster) == before
    assert published(cluster) == ports
    assert reaches(cluster, "t1", "t3") == "ttl=62"
    assert reaches(cluster, "t1", "q1") == "filtered by the router"


def published(engine: Engine) -> list[str]:
    """Where ports of all containers are on this machine."""
    names = engine.compose("ps", "--format", "{{.Name}}").split()
    found = []
    for container in engine.inspect(*names):
        settings = container["NetworkSettings"]
        assert isinstance(settings, dict)
        if settings["Ports"]:
            found.append(f"{container['Name']} {settings['Ports']}")
    return sorted(found)


def test_the_first_compose_runs_it_too(cluster: Engine) -> None:
    before = given(cluster)
    cluster.compose("down")
    first = ("docker-compose", "up", "-d", "--no-build", "--no-color")
    cluster.do(*first, *services(cluster), timeout=COMPOSE_TIMEOUT)
    names = ("etcd_1", "topology_1", "ipam_1", "prometheus_1", "agent-shared-1_1")

    def healthy() -> bool:
        found = cluster.inspect(*(f"romana_{name}" for name in names))
        return all(item["State"]["Health"]["Status"] == "healthy" for item in found)  # type: ignore[index]

    try:
        until("everything is healthy", healthy)
        assert given(cluster) == before
    finally:
        cluster.do("docker-compose", "down", timeout=COMPOSE_TIMEOUT)
