"""The cluster of compose.yaml while it runs: start it, ask it, wait for it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable

from tests.compose.engine import COMPOSE, Engine, figures

ROOT = COMPOSE.parent
ROMANA = str(ROOT / ".venv" / "bin" / "romana")
NODE = {"t1": "test-1", "t2": "test-1", "q1": "qa-1"} | dict.fromkeys(
    ("t3", "q2", "p1", "a1"), "shared-1"
)
ENDPOINTS = ("t1", "t2", "t3", "q1", "q2", "p1", "a1")
WAIT = 60.0


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


def policy_there(engine: Engine) -> tuple[str, str]:
    return "--policy-address", "127.0.0.1:9630"


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
