"""A bridge with a container behind NAT on a node, as Docker makes it, and TCP to try it with."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

from tests.support.netns import Namespace, Namespaces

PUBLISHED = 8080
INSIDE = 80

_SERVER = """
import socket, sys
family = socket.AF_INET6
listening = socket.create_server(("::", int(sys.argv[1])), family=family, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    there, peer = listening.accept()
    with there:
        there.sendall(peer[0].removeprefix("::ffff:").encode())
"""


class Bridge:
    """docker0 and one container on a node, with both families."""

    subnets = ("172.17.0.0/16", "fd17::/64")
    gateways = ("172.17.0.1", "fd17::1")
    addresses = ("172.17.0.2", "fd17::2")

    def __init__(self, made: Namespaces, node: Namespace) -> None:
        self.container = made.new("dock")
        node.run("ip link add docker0 type bridge")
        node.run("ip link set docker0 up")
        node.link(self.container, "vdock", "eth0")
        node.run("ip link set vdock master docker0")
        rules = []
        for family, subnet, gateway, address, length in zip(
            ("ip", "ip6"), self.subnets, self.gateways, self.addresses, (16, 64), strict=True
        ):
            nodad = " nodad" if family == "ip6" else ""
            node.run(f"ip addr add {gateway}/{length} dev docker0{nodad}")
            self.container.run(f"ip addr add {address}/{length} dev eth0{nodad}")
            self.container.run(f"ip route add default via {gateway}")
            rules.append(
                f"table {family} dk {{\n"
                "chain pre { type nat hook prerouting priority dstnat;\n"
                f"fib daddr type local tcp dport {PUBLISHED} dnat to "
                f"{address if family == 'ip' else f'[{address}]'}:{INSIDE}\n"
                "}\n"
                "chain post { type nat hook postrouting priority srcnat;\n"
                f'{family} saddr {subnet} oifname != "docker0" masquerade\n'
                "}\n}\n"
            )
        node.run("nft -f -", stdin="".join(rules))
        node.sysctl("net.ipv4.ip_forward", 1)
        node.sysctl("net.ipv6.conf.all.forwarding", 1)


@contextlib.contextmanager
def serving(namespace: Namespace, port: int) -> Iterator[None]:
    """Listens for TCP on all addresses of a namespace, and tells each caller who it is."""
    process = namespace.start(
        [sys.executable, "-c", _SERVER, str(port)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def caller(namespace: Namespace, address: str, port: int, seconds: float = 3.0) -> str:
    """Whom a server sees calling from a namespace; empty: it cannot be reached."""

    def call() -> str:
        try:
            with socket.create_connection((address, port), timeout=seconds) as there:
                return there.recv(100).decode()
        except OSError:
            return ""

    return namespace.call(call)
