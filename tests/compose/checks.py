"""`make compose-test`: compose.yaml on a real Docker engine: its images, what runs, what is seen.

Not found by `make test`, by its name: it builds images, which takes a minute, and needs an engine.
Durations are printed at the end, not asserted. In this order, on one cluster, which goes on in
checks_of_faults and checks_with_tls.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.compose.engine import BASE, COMPOSE, DOCKER, TARGETS, Engine, figures
from tests.compose.running import (
    NODE,
    ROMANA,
    ask_prometheus,
    given,
    in_endpoint,
    policy_there,
    query,
    reaches,
    romana,
    there,
    until,
)

LIMITS = {"service": 200, "agent": 250}
"""Megabytes above the base."""
NODES = ("test-1", "qa-1", "shared-1")


# --- before anything runs -------------------------------------------------------------------------


def test_the_file_is_valid_for_both_composes(engine: Engine) -> None:
    everything = engine.compose("--profile", "full", "config", "--services").split()
    both = ("docker-compose", "-f", "compose.yaml", "-f", "tls.yaml", "config", "--services")
    assert set(engine.do("docker-compose", "config", "--services").split()) >= set(everything)
    assert set(engine.do(*both).split()) >= {*everything, "certificates"}
    assert not {"grafana", "ipam-2", "policy-2"} & set(everything)
    minimal = engine.compose("--profile", "minimal", "config", "--services").split()
    assert {"etcd", "topology", "ipam", "apply"} <= set(minimal)
    assert not {"router", "prometheus", "grafana", "agent-qa-1"} & set(minimal)


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_is_small(engine: Engine, name: str) -> None:
    base = image_size(engine, BASE)
    more = image_size(engine, f"romana/{name}:dev") - base
    figures.append(f"image {name}: {more:.0f} MB above the base of {base:.0f} MB")
    assert more < LIMITS.get(name, 1000)


@pytest.mark.parametrize("name", ["service", "agent"])
def test_an_image_holds_no_tools_and_nothing_of_the_build(engine: Engine, name: str) -> None:
    image = f"romana/{name}:dev"
    run = (DOCKER, "run", "--rm", "--network=none", "--entrypoint=sh", image, "-c")
    assert engine.do(*run, "command -v gcc cc make pip pip3 git curl || true") == ""
    history = engine.do(DOCKER, "history", "--no-trunc", image)
    assert "PIP_" not in history
    assert "/run/secrets" not in history
    # what tells a scanner which packages there are
    assert "romana-" in engine.do(
        *run, "ls -d /opt/romana/lib/python3.11/site-packages/*.dist-info"
    )
    assert "Package: " in engine.do(*run, "head -1 /var/lib/dpkg/status")


def test_only_the_agent_is_root(engine: Engine) -> None:
    users = {name: config(engine, f"romana/{name}:dev")["User"] for name in TARGETS}
    assert users.pop("agent") == ""
    assert users == {"service": "romana", "etcd": "etcd", "prometheus": "prometheus"}


def config(engine: Engine, image: str) -> dict[str, object]:
    found = engine.inspect(image)[0]["Config"]
    assert isinstance(found, dict)
    return found


def image_size(engine: Engine, image: str) -> float:
    return int(str(engine.inspect(image)[0]["Size"])) / 1e6


# --- it runs --------------------------------------------------------------------------------------


def test_services_are_healthy_and_in_sync(cluster: Engine) -> None:
    states = romana(cluster, "status", *policy_there(cluster))
    assert isinstance(states, list)
    assert {item["service"]: item["health"] for item in states} == dict.fromkeys(
        (item["service"] for item in states), "serving"
    )
    for node in NODES:
        cluster.inside(f"agent-{node}", "romana", "agent", "status")  # exit code 1: not ready


def test_nothing_is_privileged_or_published_beyond_loopback(cluster: Engine) -> None:
    names = cluster.compose("ps", "--all", "--format", "{{.Name}}").split()
    for found in cluster.inspect(*names):
        host = found["HostConfig"]
        assert isinstance(host, dict)
        assert not host["Privileged"]
        assert host["CapDrop"] == ["ALL"]
        for bindings in (host["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
    listening = cluster.outside("ss", "-Hltn").splitlines()
    assert listening
    for line in listening:
        assert line.split()[3].startswith(("127.0.0.", "[::1]")), line


def test_addresses_are_allocated_from_outside(cluster: Engine) -> None:
    cluster.outside(ROMANA, "address", "allocate", "outside-1", "--node", "qa-1", "--tenant", "qa")
    assert given(cluster)["outside-1"].startswith("10.30.")
    refused = cluster.attempt(
        *cluster.prefix(),
        *(ROMANA, "address", "allocate", "x", "--node", "qa-1", "--tenant", "test"),
        *there(cluster),
    )
    assert refused.returncode == 4
    assert "ADDRESSES_EXHAUSTED" in refused.stderr


def test_endpoints_of_one_vlan_reach_each_other_across_agents(cluster: Engine) -> None:
    for source, destination in (("t1", "t3"), ("t3", "t2"), ("q1", "q2"), ("q2", "q1")):
        assert reaches(cluster, source, destination) == "ttl=62", (source, destination)
    assert reaches(cluster, "t1", "t2") == "ttl=63"  # on one node


def test_between_vlans_only_what_the_router_allows(cluster: Engine) -> None:
    # by way of the router, even where both are on shared-1
    for source, destination in (("q1", "t1"), ("q2", "t3"), ("a1", "p1"), ("a1", "q1")):
        assert reaches(cluster, source, destination) == "ttl=61", (source, destination)
    for source, destination in (("t1", "q1"), ("t3", "q2"), ("q2", "p1"), ("p1", "a1")):
        assert reaches(cluster, source, destination) == "filtered by the router"


def test_qa_reaches_production_by_one_port_alone(cluster: Engine) -> None:
    address = given(cluster)["p1"]
    listen(cluster, "p1", "8080", "8443")
    assert connects(cluster, "q2", address, "8443")
    assert not connects(cluster, "q2", address, "8080")


def listen(engine: Engine, name: str, *ports: str) -> None:
    """Starts TCP servers in an endpoint, and waits until they listen."""
    for port in ports:
        engine.compose(
            *("exec", "-T", "-d", NODE[name], "ip", "netns", "exec", name),
            *("python3.11", "-m", "http.server", port),
        )
    until(
        f"{name} listens",
        lambda: in_endpoint(engine, name, "ss", "-Hltn").stdout.count("LISTEN") == len(ports),
    )


def connects(engine: Engine, source: str, address: str, port: str) -> bool:
    """Whether a TCP connection comes about."""
    code = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    return not in_endpoint(engine, source, "python3.11", "-c", code, address, port).returncode


def test_the_example_policies_are_applied(cluster: Engine) -> None:
    listed = romana(cluster, "policy", "list", *policy_there(cluster))
    assert isinstance(listed, list)
    assert {item["name"] for item in listed} == {"compose/no-telnet"}


def test_policy_is_enforced_within_a_vlan(cluster: Engine) -> None:
    address = given(cluster)["t3"]
    listen(cluster, "t3", "2323", "8080")
    assert connects(cluster, "t1", address, "8080")
    until("port 2323 is closed", lambda: not connects(cluster, "t1", address, "2323"))
    assert connects(cluster, "t1", address, "8080")


def test_the_console_shows_the_cluster(cluster: Engine) -> None:
    address = cluster.compose("port", "console", "9660").strip()

    def read(path: str) -> dict[str, Any]:
        code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
        found: dict[str, Any] = json.loads(
            cluster.outside("python3", "-c", code, f"http://{address}/api/{path}")
        )
        return found

    def shown() -> bool:
        overview = read("overview")
        serving = {each["service"] for each in overview["services"] if each["serving"]}
        names = {each["name"] for each in overview["networks"]}
        return serving == {"topology", "ipam", "policy"} and {"test", "qa"} <= names

    until("the console shows everything", shown)
    assert read("denied")["known"]


# --- it is watched --------------------------------------------------------------------------------


def test_prometheus_has_every_target_up(cluster: Engine) -> None:
    wanted = {"prometheus": 1, "etcd": 1, "topology": 1, "ipam": 1, "policy": 1}
    wanted |= {"console": 1, "agent": 3}

    def all_up() -> bool:
        found = query(cluster, "sum by (job) (up)")
        return found == {job: float(count) for job, count in wanted.items()}

    until("every target is up", all_up)
    assert set(query(cluster, 'up{job="agent"}')) == set(NODES)


def test_its_rules_are_loaded_and_healthy(cluster: Engine) -> None:
    cluster.inside("prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    groups = ask_prometheus(cluster, "rules")["groups"]
    assert isinstance(groups, list)
    rules = [rule for group in groups for rule in group["rules"]]
    files = (COMPOSE / "prometheus" / "rules").glob("*.yml")
    declared = re.findall(
        r"(?m)^ +- (?:alert|record): (\w.*)$", "".join(map(Path.read_text, files))
    )
    assert {rule["name"] for rule in rules} == set(declared)
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


ABSENT = (
    "romana_certificate_",
    "romana_policy_device_",
    "romana_agent_policy_device_",
    "romana_agent_policy_led_",
)
"""Here is neither TLS nor a device."""


def test_every_series_that_rules_and_dashboards_read_is_there(cluster: Engine) -> None:
    from tests.unit.compose.test_expressions import EXPRESSIONS, RECORDED

    wanted = {name for item in EXPRESSIONS for name in item.series()} - {"ALERTS"}
    wanted = {name for name in wanted if not name.startswith(ABSENT)}
    missing = wanted

    def nothing_missing() -> bool:
        nonlocal missing
        there = ask_prometheus(cluster, "label/__name__/values")
        missing = wanted - set(there)
        return not missing - RECORDED

    try:
        until("all series", nothing_missing, 30)
    except AssertionError:
        pytest.fail(f"not in Prometheus: {sorted(missing)}")
