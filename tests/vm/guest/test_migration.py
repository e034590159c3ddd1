"""qemu's own live migration of a real guest between two nodes, by emulation.

One qemu is on the first node's tap, a second one waits on the other's, and the guest's memory goes
from the one to the other over a socket while it speaks with others. Each test begins on the node on
which the one before has left the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.namespaces import inside, name_of, run
from tests.support.moving_site import traces
from tests.support.netns import Namespace
from tests.vm.guest import image
from tests.vm.guest.asking import Probe, Probes
from tests.vm.guest.machine import Machine
from tests.vm.guest.probing import PATIENCE, REASON, agent, attach, renew, renew_6, romana, until
from tests.vm.guest.talking import Talk, begin, listen
from tests.vm.guest.watching import Frame, Watch

pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"needs {REASON}"),
    pytest.mark.timeout(900),
]

TEXT = """
name: {name}
strict_reverse_path: true
networks:
  - {{name: a, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1, mode: onlink}}
  - {{name: six, cidr: "fd00:60::/120", vlan_id: 60, gateway: "fd00:60::1", mode: onlink}}
topologies:
  - {{name: dc, networks: [a], groups: [{{name: rack}}]}}
  - {{name: dc6, networks: [six], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{a: 10.20.0.251, six: "fd00:60::f1"}}}}
  - {{name: n2, addresses: {{a: 10.20.0.252, six: "fd00:60::f2"}}}}
  - {{name: n3, addresses: {{a: 10.20.0.253, six: "fd00:60::f3"}}}}
endpoints:
  - {{name: one4, node: n1, network: a, tenant: shop, segment: front}}
  - {{name: two6, node: n2, network: six, tenant: shop, segment: front}}
  - {{name: three4, node: n3, network: a, tenant: shop, segment: front}}
  - {{name: three6, node: n3, network: six, tenant: shop, segment: front}}
  - {{name: denied4, node: n3, network: a, tenant: shop, segment: back}}
  - {{name: denied6, node: n2, network: six, tenant: shop, segment: back}}
machines:
  - {{name: plain4, network: a, address: 10.20.0.21}}
  - {{name: plain6, network: six, address: "fd00:60::21"}}
"""
POLICY = """
policies:
  - name: shop/vm
    targets: [{endpoints: {segments: [vm]}}]
    directions: [ingress, egress]
    ingress:
      - peers:
          - {endpoints: {segments: [front]}}
          - {cidr: {cidr: 10.20.0.21/32}}
          - {cidr: {cidr: "fd00:60::21/128"}}
        ports: [{protocol: tcp, port: 7}, {protocol: icmp}, {protocol: icmpv6}]
    egress:
      - peers:
          - {endpoints: {segments: [front]}}
          - {cidr: {cidr: 10.20.0.21/32}}
          - {cidr: {cidr: "fd00:60::21/128"}}
        ports: [{protocol: tcp, port: 7}]
"""
TAP, MAC, VM = "tap0", "02:00:00:00:00:05", "vm-1"
ECHO = 7
"""The port of whoever sends back what it gets."""
OURS = {"169.254.1.1/32", "fe80::1/64", "fd72:6f6d::1/64"}
DENIED = ("denied4", "denied6")
PINGING = ("plain4", "plain6")
GENEROUS = {"max_bandwidth": 1 << 30, "downtime_limit": 60_000}
"""Bytes a second, and milliseconds."""
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Site:
    cluster: Cluster
    machines: Mapping[str, Machine]
    """By nodes."""
    four: str
    six: str
    """The VM's addresses."""
    folder: Path
    here: str = "n1"
    """Where it runs."""

    @property
    def there(self) -> str:
        return {"n1": "n2", "n2": "n1"}[self.here]

    @property
    def machine(self) -> Machine:
        return self.machines[self.here]

    @property
    def target(self) -> Machine:
        return self.machines[self.there]

    def own(self, other: str) -> str:
        """Of the family that somebody else has."""
        return self.four if other.endswith("4") else self.six

    def address(self, other: str) -> str:
        return str(asyncio.run(self.cluster.host(other)).address)

    def move(self, *words: str, code: int = 0) -> Any:
        done = romana(self.cluster, "endpoint", "move", VM, *words, "-o", "json", check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)["move"] if code == 0 else done.stderr

    def state(self) -> tuple[str, str]:
        found = self.move()
        return found["state"].removeprefix("MOVE_STATE_"), found["node"]

    def attach(self, node: str) -> list[str]:
        return attach(self.cluster, VM, TAP, node)

    def prepare(self) -> Path:
        """Up to qemu's own part; returns where the other one expects the guest."""
        self.move("--to", self.there)
        assert self.attach(self.there) == [self.four, self.six]
        incoming = self.folder / "incoming.sock"
        self.target.expect(incoming)
        until(lambda: self.state() == ("READY", self.here))
        return incoming

    def settled(self, node: str) -> bool:
        """Whether exactly that node has it."""
        other = {"n1": "n2", "n2": "n1"}[node]
        return (
            self.state() == ("SETTLED", node)
            and VM in self.listed(node)
            and VM not in self.listed(other)
            and all(address in self.leads(node) for address in (self.four, self.six))
            and not any(address in self.leads(other) for address in (self.four, self.six))
            and self.has_ours(node) == OURS
            and not self.has_ours(other)
        )

    def listed(self, node: str) -> set[str]:
        said = romana(
            self.cluster, "endpoint", "list", "-o", "json", *agent(self.cluster, node)
        ).stdout
        found = json.loads(said)
        return {each["name"] for each in (found if isinstance(found, list) else found["endpoints"])}

    def probes(self) -> Sequence[Probe]:
        path, own, address = self.cluster.path, self.own, self.address
        return [
            *(Probe(path(other), address(other), own(other)) for other in PINGING),
            *(Probe(path(other), address(other), own(other), ECHO) for other in DENIED),
        ]

    def came_in(self, watch: Watch) -> list[Frame]:
        """What went to the guest of others, not of the node itself."""
        own = {self.four, self.six}
        return [frame for frame in watch.frames() if frame.outgoing and frame.destination in own]

    def has_ours(self, node: str) -> set[str]:
        """What its tap has of the addresses that guests are told by."""
        words = ["ip", "-br", "address", "show", "dev", TAP]
        return OURS & set(run(inside(self.cluster.path(node), words)).split())

    def traces(self) -> Mapping[str, object]:
        """What is there of it, on taps too."""
        found = traces(self.cluster, [self.four, self.six])
        return {**found, **{node: self.has_ours(node) for node in ("n1", "n2")}}

    def leads(self, node: str) -> str:
        """What its kernel has of ways to taps, and answers for on VLANs."""
        path, said = self.cluster.path(node), []
        for family in ("-4", "-6"):
            command = ["ip", family, "route", "show", "table", "all", "dev", TAP]
            said += run(inside(path, command)).split()
            said += run(inside(path, ["ip", family, "neigh", "show", "proxy"])).split()
        return " ".join(said)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("vm")
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(TEXT.format(name=name), folder=folder / "lab", guarded=True, patience=3.0)
    asyncio.run(cluster.up())
    try:
        (folder / "policy.yaml").write_text(POLICY)
        romana(cluster, "policy", "apply", str(folder / "policy.yaml"), "--wait", "60")
        made, seed, machines = image.build(folder), folder / "seed.iso", {}
        for node in ("n1", "n2"):
            place = Namespace(name_of(name, node), there=True)
            place.run(f"ip tuntap add {TAP} mode tap")
            (folder / node).mkdir()
            machines[node] = Machine(place, TAP, MAC, made, seed, folder / node)
        found = Site(cluster, machines, "", "", folder)
        found.four, found.six = found.attach("n1")
        romana(cluster, "endpoint", "cloud-init", VM, "--seed", str(seed), *agent(cluster))
        try:
            machines["n1"].start()
            both = {f"{found.four}/32", f"{found.six}/128"}
            until(lambda: both <= set(found.machine.says("ip addr").split()))
            found.machine.tell(f"setsid nc -ll -p {ECHO} -e cat &")
            until(lambda: f":{ECHO} " in found.machine.says("netstat -tln"))
            yield found
        finally:
            for machine in machines.values():
                machine.stop()
    finally:
        cluster.down()


@contextlib.contextmanager
def talks(site: Site) -> Iterator[Mapping[str, Talk]]:
    """Connections of both families, begun by both sides, that are in use all the time."""
    with contextlib.ExitStack() as stack:
        found = {}
        for other in ("one4", "two6", "three4", "three6", "plain4", "plain6"):
            path = site.cluster.path(other)
            found[f"{other} to {VM}"] = begin(path, site.own(other), ECHO)
            address = site.address(other)
            with listen(path, address, ECHO) as server:
                site.machine.tell(f"setsid nc {address} {ECHO} -e cat &")
                found[f"{VM} to {other}"] = Talk(server.accept()[0])
        for each in found.values():
            stack.enter_context(each)
        yield found


def all_go_on(found: Mapping[str, Talk]) -> None:
    """Waits until every one of them has gone on from now on."""
    deadline = time.monotonic() + PATIENCE
    wanted = {name: talk.count + 10 for name, talk in found.items()}
    while left := {
        name: talk.error for name, talk in found.items() if talk.count < wanted[name] or talk.error
    }:
        assert time.monotonic() < deadline, left
        assert not any(left.values()), left
        time.sleep(0.05)


def migrate(site: Site, incoming: Path) -> float:
    """Has qemu do it; seconds for which the guest ran nowhere."""
    source, target = site.machine.monitor, site.target.monitor
    source.ask("migrate-set-parameters", **GENEROUS)
    source.ask("migrate", uri=f"unix:{incoming}")
    while (found := source.ask("query-migrate"))["status"] not in ENDED:
        time.sleep(0.02)
    assert found["status"] == "completed", found
    return target.moment("RESUME") - source.moment("STOP")


def is_sound(site: Site) -> None:
    """Waits until nothing is left where it was before, and all is there where it is now."""
    left = site.machine
    site.here = site.there
    left.stop()
    until(lambda: site.settled(site.here))
    romana(site.cluster, "endpoint", "check", VM, *agent(site.cluster, site.here))
    romana(site.cluster, "ipam", "check")
    renew(site.machine)
    renew_6(site.machine)


def test_connections_survive_and_nobody_else_gets_in(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest's own word makes the switch."""
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(talks(site))
        all_go_on(found)
        stack.enter_context(Probes(site.probes()))
        source, target = (
            stack.enter_context(Watch(site.cluster.path(node), TAP))
            for node in (site.here, site.there)
        )
        incoming = site.prepare()
        assert not site.came_in(target)
        without = migrate(site, incoming)
        is_sound(site)
        all_go_on(found)
        for watch in (source, target):
            denied = {site.address(other) for other in DENIED}
            assert {frame.source for frame in site.came_in(watch)}.isdisjoint(denied)
        switched = next(frame.moment for frame in target.frames() if frame.is_rarp)
        first = {}
        for other in PINGING:
            address = site.address(other)
            frame = next(frame for frame in site.came_in(target) if frame.source == address)
            first[other] = frame.moment - switched
    with capsys.disabled():
        print(  # noqa: T201
            f"\nqemu's own downtime {without * 1000:.0f} ms; from the guest's RARP to the first "
            f"packet for it from {shown(first)}"
        )


def shown(first: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in first.items())


def test_an_operator_makes_the_switch_for_a_guest_that_is_not_announced(site: Site) -> None:
    with talks(site) as found:
        all_go_on(found)
        incoming = site.prepare()
        site.target.monitor.ask("migrate-set-parameters", announce_rounds=0)
        migrate(site, incoming)
        assert site.state() == ("READY", site.here)
        site.move("--to", site.there, "--activate")
        is_sound(site)
        all_go_on(found)


def test_one_that_is_aborted_leaves_no_trace(site: Site) -> None:
    before = site.traces()
    with talks(site) as found:
        all_go_on(found)
        incoming = site.prepare()
        source = site.machine.monitor
        source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
        source.ask("migrate", uri=f"unix:{incoming}")
        while source.ask("query-migrate").get("ram", {}).get("transferred", 0) < 1 << 20:
            time.sleep(0.02)
        source.ask("migrate_cancel")
        while source.ask("query-migrate")["status"] != "cancelled":
            time.sleep(0.02)
        site.target.stop()
        site.move("--abort")
        until(lambda: site.traces() == before)
        assert site.settled(site.here)
        all_go_on(found)
        romana(site.cluster, "ipam", "check")
    assert "NOT_MOVING" in site.move("--to", site.there, "--activate", code=4)
