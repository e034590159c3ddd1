"""What the tests of real VMs need, and how they ask and look."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable

from lab.cluster import Cluster
from tests.support.lab_command import attempt
from tests.support.netns import Namespace
from tests.vm.guest import image
from tests.vm.guest.machine import Machine

ASKED = "ROMANA_GUEST"
"""Set by `make test-vm`: beside all other tests an emulated machine is too slow."""
REASON = "make test-vm" if ASKED not in os.environ else image.missing()
PATIENCE = 90.0


def romana(
    cluster: Cluster, *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = attempt(cluster, *arguments)
    assert not check or done.returncode == 0, done.stderr
    return done


def agent(cluster: Cluster, node: str = "n1") -> list[str]:
    return ["--agent-socket", f"unix:{cluster.folder}/agent.{node}/agent.sock"]


def attach(cluster: Cluster, name: str, tap: str, node: str = "n1") -> list[str]:
    """Attaches a VM by DHCP with an address of each family; its addresses."""
    romana(
        cluster,
        *f"endpoint attach {name} --interface {tap} --tenant shop --segment vm --dhcp".split(),
        *["--want", "family=4", "--want", "family=6"],
        *agent(cluster, node),
    )
    return addresses(cluster, name, node)


def addresses(cluster: Cluster, name: str, node: str = "n1") -> list[str]:
    """A VM's addresses on a node."""
    done = romana(cluster, "endpoint", "show", name, "-o", "json", *agent(cluster, node))
    return [item["address"] for item in json.loads(done.stdout)["addresses"]]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, holds
        time.sleep(0.2)


def connects(place: Namespace, address: str, port: int, seconds: float = 3.0) -> bool:
    """Whether a connection comes about."""

    def connect() -> bool:
        try:
            with socket.create_connection((address, port), seconds):
                return True
        except (TimeoutError, ConnectionError, OSError):
            return False

    return place.call(connect)


def renew(machine: Machine) -> None:
    """Has its guest's DHCPv4 client ask again, which is answered."""
    count = machine.says("grep -c renew /four.events")

    def renewed() -> bool:
        machine.says("kill -USR1 $(cat /four.pid)")
        time.sleep(0.5)
        return machine.says("grep -c renew /four.events") != count

    until(renewed)


def renew_6(machine: Machine) -> None:
    """Has its DHCPv6 client ask the server of its lease, which is answered.

    It asks others only after most of the lease's time (RFC 8415, 18.2.5). A client that starts
    finds its lease confirmed; then it renews it, or gets one anew from who does not know it.
    """
    machine.says("kill $(cat /six.pid); sed -i 's/renew [0-9]*;/renew 1;/' /leases6")
    machine.says(f": >/six.events; {image.CLIENT_6} >/six.log 2>&1")

    def answered() -> bool:
        events = machine.says("cat /six.events").split()
        return "RENEW6" in events or events.count("BOUND6") > 1

    until(answered)
