"""`make compose-test`: compose.yaml on a real Docker engine. In this order, on one cluster.

Not found by `make test`, by its name: it builds images, which takes a minute, and needs an engine.
Durations are printed at the end, not asserted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.engine import BASE, COMPOSE, DOCKER, FOLDER, TARGETS, Engine, figures

ROOT = COMPOSE.parent
ROMANA = str(ROOT / ".venv" / "bin" / "romana")
LIMITS = {"service": 200, "agent": 250}
"""Megabytes above the base."""
ENDPOINTS = ("t1", "t2", "t3", "q1", "q2", "p1", "a1")
NODE = {"t1": "test-1", "t2": "test-1", "q1": "qa-1"} | dict.fromkeys(
    ("t3", "q2", "p1", "a1"), "shared-1"
)
NODES = ("test-1", "qa-1", "shared-1")
WAIT = 60.0


@pytest.fixture(scope="session")
def cluster(engine: Engine) -> Iterator[Engine]:
    """Everything runs, from empty volumes."""
    engine.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    try:
        up(engine, "from nothing")
        yield engine
    finally:
        logs = engine.attempt(DOCKER, "compose", "logs", "--no-color").stdout
        (FOLDER / "containers.log").write_text(logs)
        everything = ("--profile", "*", "down", "--volumes", "--remove-orphans")
        engine.attempt(DOCKER, "compose", *everything)


def services(engine: Engine) -> list[str]:
    return engine.compose("config", "--services").split()


def up(engine: Engine, how: str, *options: str) -> None:
    """Starts everything and waits until it is healthy and the endpoints are attached."""
    begun = time.monotonic()
    engine.compose("up", "-d", "--no-build", *options, *services(engine))
    until("everything is healthy", lambda: not unwell(engine))
    figures.append(f"up {how} to healthy: {time.monotonic() - begun:.1f} s")
    until("the endpoints are attached", lambda: ended(engine, "endpoints"))
    figures.append(f"up {how} to endpoints attached: {time.monotonic() - begun:.1f} s")


def unwell(engine: Engine) -> list[str]:
    """Containers that are not healthy, or not running."""
    found = json.loads(
        "[" + ",".join(engine.compose("ps", "--all", "--format", "json").splitlines()) + "]"
    )
    return [
        item["Name"]
        for item in found
        if item["Service"] not in {"apply", "endpoints", "certificates"}
        and (item["State"] != "running" or item["Health"] not in {"", "healthy"})
    ]


def ended(engine: Engine, service: str) -> bool:
    """A one-shot service is through; it must have succeeded."""
    state = engine.container(service)["State"]
    assert isinstance(state, dict)
    if state["Status"] != "exited":
        return False
    assert state["ExitCode"] == 0, engine.compose("logs", service)
    return True


def until(what: str, condition: Callable[[], object], within: float = WAIT) -> None:
    """Waits for a condition."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.2)


def romana(engine: Engine, *arguments: str) -> object:
    """The command, from outside, over a published port; what it printed as JSON."""
    return json.loads(engine.outside(ROMANA, *arguments, *there(engine), "-o", "json"))


def there(engine: Engine, number: int = 1) -> tuple[str, str]:
    """Where a replica of ipam is published."""
    return "--ipam-address", {1: "127.0.0.1:9620", 2: "127.0.0.1:9622"}[number]


def allocate(engine: Engine, name: str, node: str, tenant: str, replica: int = 1) -> None:
    """Allocates an address from outside."""
    wanted = ("address", "allocate", name, "--node", node, "--tenant", tenant)
    engine.outside(ROMANA, *wanted, *there(engine, replica))


def given(engine: Engine) -> dict[str, str]:
    """Addresses by name."""
    listed = romana(engine, "address", "list")
    assert isinstance(listed, list)
    return {item["name"]: item["address"] for item in listed}


def in_endpoint(engine: Engine, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in an endpoint."""
    return engine.attempt_inside(NODE[name], ["ip", "netns", "exec", name, *command])


def reaches(engine: Engine, source: str, destination: str) -> str:
    """What becomes of a ping: its TTL when it is answered, which tells the hops; else why not."""
    address = given(engine)[destination]
    shown = in_endpoint(engine, source, "ping", "-n", "-c1", "-W2", address).stdout
    if found := re.search(r"ttl=(\d+)", shown):
        return found[0]
    return "filtered by the router" if "Packet filtered" in shown else shown


def query(engine: Engine, expression: str) -> dict[str, float]:
    """Value by instance, or by the first label there is."""
    shown = engine.outside(
        *("promtool", "query", "instant", "-o", "json", "http://127.0.0.1:9090", expression)
    )
    found = {}
    for item in json.loads(shown):
        labels = item["metric"]
        name = labels.get("instance") or next(iter(labels.values()), "")
        found[name] = float(item["value"][1])
    return found


def ask_prometheus(engine: Engine, path: str) -> dict[str, object]:
    code = (
        "import sys, urllib.request as r;"
        "sys.stdout.write(r.urlopen('http://127.0.0.1:9090/api/v1/'+sys.argv[1]).read().decode())"
    )
    answer = json.loads(engine.outside("python3", "-c", code, path))
    assert answer["status"] == "success"
    found: dict[str, object] = answer["data"]
    return found


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


def policy_there(engine: Engine) -> tuple[str, str]:
    return "--policy-address", "127.0.0.1:9630"


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


# --- things happen --------------------------------------------------------------------------------


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
    assert set(ENDPOINTS) < set(before)
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
    cluster.do(*first, *services(cluster), timeout=120)
    names = ("etcd_1", "topology_1", "ipam_1", "prometheus_1", "agent-shared-1_1")

    def healthy() -> bool:
        found = cluster.inspect(*(f"romana_{name}" for name in names))
        return all(item["State"]["Health"]["Status"] == "healthy" for item in found)  # type: ignore[index]

    try:
        until("everything is healthy", healthy)
        assert given(cluster) == before
    finally:
        cluster.do("docker-compose", "down", timeout=120)


# --- with TLS -------------------------------------------------------------------------------------


@pytest.fixture
def with_tls(cluster: Engine, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Everything runs anew, with tls.yaml; the environment of an operator on this machine."""
    cluster.compose("down", "--volumes")
    cluster.environment["COMPOSE_FILE"] = "compose.yaml:tls.yaml"
    try:
        up(cluster, "with TLS")
        cluster.compose("cp", "certificates:/tls/operator", str(tmp_path / "operator"))
        files = {"CA": "ca.pem", "CERT": "own.pem", "KEY": "own.key"}
        yield {
            f"ROMANA_TLS_{name}": str(tmp_path / "operator" / file) for name, file in files.items()
        }
    finally:
        cluster.compose("--profile", "*", "down", "--volumes")
        del cluster.environment["COMPOSE_FILE"]


def test_with_tls_it_does_the_same_for_whom_has_a_certificate(
    cluster: Engine, with_tls: dict[str, str]
) -> None:
    asking = (*cluster.prefix(), ROMANA, "address", "list", "-o", "json")
    refused = cluster.attempt(*asking)
    assert refused.returncode != 0
    assert "TLS" in refused.stderr
    cluster.environment |= with_tls
    try:
        assert set(ENDPOINTS) == set(given(cluster))
        states = romana(cluster, "status")
        assert isinstance(states, list)
        assert {item["health"] for item in states} == {"serving"}
        assert reaches(cluster, "t1", "t3") == "ttl=62"
        assert reaches(cluster, "t1", "q1") == "filtered by the router"
        replicas = ("ipam-2", "policy-2")
        cluster.compose("up", "-d", "--no-build", "--no-recreate", *services(cluster), *replicas)
        until("everything is healthy", lambda: not unwell(cluster))
        allocate(cluster, "by-0", "qa-1", "qa", 1)
        allocate(cluster, "by-1", "qa-1", "qa", 2)
        assert {"by-0", "by-1"} <= given(cluster).keys()
    finally:
        for name in with_tls:
            del cluster.environment[name]


def test_a_container_has_no_key_but_its_own(cluster: Engine, with_tls: dict[str, str]) -> None:
    assert with_tls
    shown = cluster.inside("agent-qa-1", "sh", "-c", "cat /tls/own.pem; ls /tls /authority || true")
    assert set(re.findall(r"(?m)^\S+\.(?:pem|key)$", shown)) == {"ca.pem", "own.pem", "own.key"}
    etcd = ("etcdctl", "get", "--prefix", "--keys-only", "/romana")
    assert "/romana" in cluster.inside("etcd", *etcd)
    stranger = cluster.attempt_inside("etcd", ["env", "ETCDCTL_CERT=", "ETCDCTL_KEY=", *etcd])
    assert stranger.returncode != 0
