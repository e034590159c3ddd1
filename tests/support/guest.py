"""A machine behind an interface of a node that learns by DHCP who it is, with the clients that
Debian has: udhcpc for IPv4, dhclient for IPv6. The kernel heeds router advertisements."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.netns import Namespace

MAC = "02:00:00:00:00:01"

_SCRIPT_4 = """#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
env > {out}
ip addr flush dev $interface scope global
ip addr replace $ip/32 dev $interface
set -- $staticroutes
while [ $# -gt 1 ]; do
  if [ $2 = 0.0.0.0 ]; then ip route replace $1 dev $interface; else ip route replace $1 via $2; fi
  shift 2
done
"""
_SCRIPT_6 = """#!/bin/sh
env > {out}.$reason
[ "$reason" = BOUND6 ] || exit 0
ip -6 addr replace $new_ip6_address/$new_ip6_prefixlen dev $interface nodad
"""


def missing() -> str:
    """Which program lacks; empty: none."""
    for program, package in (
        ("dnsmasq", "dnsmasq-base"),
        ("busybox", "busybox-static"),
        ("dhclient", "isc-dhcp-client"),
    ):
        if shutil.which(program) is None:
            return f"{program} (Debian package {package})"
    return ""


class Guest:
    """In a namespace of its own."""

    def __init__(self, home: Namespace, folder: Path, interface: str = "eth0") -> None:
        self.home = home
        self._interface = interface
        self._folder = folder / f"guest-{home.name}"
        self._folder.mkdir()
        for name, text in (("four", _SCRIPT_4), ("six", _SCRIPT_6)):
            script = self._folder / f"{name}.sh"
            script.write_text(text.format(out=self._folder / name))
            script.chmod(0o755)

    def plug(self, node: Namespace, interface: str) -> None:
        """Gives it its interface, whose other end is the node's."""
        node.run(f"ip link add {interface} type veth peer name eth0 netns {self.home.name}")
        for name, value in (
            ("accept_dad", 0),
            ("accept_ra", 1),
            ("router_solicitation_interval", 1),
            ("router_solicitations", -1),
        ):
            self.home.sysctl(f"net.ipv6.conf.eth0.{name}", value)
        self.start(MAC)

    def start(self, mac: str) -> None:
        """Starts it anew, with nothing that it knew before."""
        self.home.run("ip link set eth0 down")
        self.home.run("ip addr flush dev eth0")
        self.home.run(f"ip link set eth0 address {mac} up")

    def ask_4(self, tries: int = 10) -> dict[str, str]:
        """What it is told by DHCPv4; empty: nothing."""
        out = self._folder / "four"
        out.unlink(missing_ok=True)
        self.home.run(
            f"busybox udhcpc -f -q -n -t {tries} -T 1 -A 1 -O 121 -O mtu -O search -O dns "
            f"-i {self._interface} -s {self._folder / 'four.sh'}",
            check=False,
        )
        return _read(out)

    def ask_6(self, seconds: int = 20) -> dict[str, str]:
        """What it is told by DHCPv6; empty: nothing."""
        files = {name: self._folder / name for name in ("leases6", "dhclient.pid", "six.BOUND6")}
        for path in files.values():
            path.unlink(missing_ok=True)
        files["leases6"].touch()
        process = self.home.start(
            shlex.split(
                f"timeout {seconds} dhclient -6 -1 -v -cf /dev/null -lf {files['leases6']} "
                f"-pf {files['dhclient.pid']} -sf {self._folder / 'six.sh'} {self._interface}"
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process.wait(seconds + 10)
        if files["dhclient.pid"].exists():
            number = files["dhclient.pid"].read_text().strip()
            subprocess.run(["kill", number], check=False, capture_output=True)
        return _read(files["six.BOUND6"])

    def addresses(self) -> set[str]:
        """Those that it has, but link-local ones."""
        shown = json.loads(self.home.run("ip -j addr show dev eth0"))
        return {
            f"{item['local']}/{item['prefixlen']}"
            for item in shown[0]["addr_info"]
            if item["scope"] == "global"
        }

    def default_routes_6(self) -> set[str]:
        """Gateways that it has heard of."""
        shown = json.loads(self.home.run("ip -6 -j route show default"))
        return {item["gateway"] for item in shown if "gateway" in item}


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = [line.partition("=") for line in path.read_text().splitlines()]
    return {name: value for name, _, value in lines}
