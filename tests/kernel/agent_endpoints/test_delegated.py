"""romana-ipam: reference plug-ins that make interfaces of their own, with addresses of ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.ctl.verbs.agent import install_cni
from tests.support.agent_node import PLUGINS, RealNode, run_plugin
from tests.support.ipam_process import IN_VM
from tests.support.netns import Namespace

REFERENCE = Path("/usr/lib/cni")
GATEWAY = "10.2.0.254"

pytestmark = pytest.mark.skipif(
    not (REFERENCE / "macvlan").exists(), reason="needs Debian's containernetworking-plugins"
)


@pytest.fixture
def outside(real: RealNode) -> Namespace:
    """The gateway of the VLAN."""
    namespace: Namespace = real.namespaces._made[1]
    namespace.run(f"ip addr add {GATEWAY}/24 dev up0")
    return namespace


class Runtime:
    """Starts a reference plug-in, which starts `romana-ipam`."""

    def __init__(self, node: RealNode) -> None:
        self._node = node
        self._bin = node.folder / "bin"
        install_cni(self._bin)

    async def call(
        self, command: str, pod: Namespace, config: dict[str, Any], *, interface: str = "eth0"
    ) -> tuple[int, Any]:
        return await asyncio.to_thread(self._call, command, pod, config, interface)

    def _call(
        self, command: str, pod: Namespace, config: dict[str, Any], interface: str
    ) -> tuple[int, Any]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": pod.path,
            "CNI_IFNAME": interface,
            "CNI_PATH": f"{self._bin}:{REFERENCE}",
        }
        done = subprocess.run(
            [
                *("ip", "netns", "exec", self._node.home.name, "env"),
                *(f"{key}={value}" for key, value in variables.items()),
                str(REFERENCE / config["type"]),
            ],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None


def config(node: RealNode, kind: str, own: dict[str, Any] | None = None, **rest: Any) -> Any:
    ipam = {"type": "romana-ipam", "tenant": "t", "network": "lan", "socket": str(node.cni_socket)}
    ipam |= own or {}
    return {"cniVersion": "1.0.0", "name": "storage", "type": kind, "ipam": ipam, **rest}


def lacks(node: RealNode, kind: str) -> bool:
    """Whether the kernel makes no such links."""
    more = {
        "vlan": "link up0 name probe type vlan id 3",
        "ipvlan": "link up0 name probe type ipvlan",
    }
    made = node.home.succeeds(f"ip link add {more[kind]}")
    node.home.succeeds("ip link del probe")
    return not made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["macvlan", "ipvlan", "bridge", "vlan"])
async def test_a_reference_plugin_takes_addresses_with_the_vlans_gateway_and_prefix(
    real: RealNode, outside: Namespace, kind: str
) -> None:
    if kind in {"vlan", "ipvlan"} and not IN_VM and lacks(real, kind):
        pytest.skip(f"needs a kernel with {kind}: `tests/vm/run` starts one")
    pod, runtime = real.namespaces.new("pod"), Runtime(real)
    more: dict[str, Any] = {"master": "up0"}
    if kind == "bridge":
        more = {"bridge": "br0"}
        real.home.run("ip link add br0 type bridge")
        real.home.run("ip link set br0 up")
        real.home.link(outside, "up1", "up1")
        real.home.run("ip link set up1 master br0")
        outside.run("ip addr del 10.2.0.254/24 dev up0")
        outside.run("ip addr add 10.2.0.254/24 dev up1")
    elif kind == "vlan":
        more["vlanId"] = 40
        outside.run("ip link add link up0 name up0.40 type vlan id 40")
        outside.run("ip addr del 10.2.0.254/24 dev up0")
        outside.run("ip addr add 10.2.0.254/24 dev up0.40")
        outside.run("ip link set up0.40 up")
    elif kind == "ipvlan":
        more["mode"] = "l2"
    asking = config(real, kind, **more)
    status, result = await runtime.call("ADD", pod, asking)
    assert status == 0, result
    (address,) = result["ips"]
    assert address["address"].endswith("/24")
    assert address["gateway"] == GATEWAY
    ip = address["address"].removesuffix("/24")
    assert await real.addresses() == [ip]
    assert pod.run("ip -4 route show default").split()[:3] == ["default", "via", GATEWAY]
    assert await asyncio.to_thread(pod.pings, GATEWAY)
    assert await asyncio.to_thread(outside.pings, ip)

    assert await runtime.call("CHECK", pod, {**asking, "prevResult": result}) == (0, None)
    for _ in range(2):
        assert (await runtime.call("DEL", pod, {**asking, "prevResult": result}))[0] == 0
    assert await real.addresses() == []


async def test_beside_another_default_route_there_is_none(
    real: RealNode, outside: Namespace
) -> None:
    pod, runtime = real.namespaces.new("pod"), Runtime(real)
    pod.link(real.namespaces.new("first"), "eth0", "eth0")
    pod.run("ip addr add 192.168.77.2/24 dev eth0")
    pod.run("ip route add default via 192.168.77.1")
    before = pod.run("ip route")
    own = {"routes": [{"dst": "192.168.0.0/24"}]}
    status, result = await runtime.call(
        "ADD", pod, config(real, "macvlan", own, master="up0"), interface="net1"
    )
    assert status == 0, result
    assert result["routes"] == [{"dst": "192.168.0.0/24", "gw": GATEWAY}]
    assert set(before.splitlines()) <= set(pod.run("ip route").splitlines())
    assert await asyncio.to_thread(pod.pings, "192.168.0.254")


@pytest.fixture(params=PLUGINS, ids=lambda path: path.name)
def plugin(real: RealNode, request: pytest.FixtureRequest) -> Path:
    """Whatever is installed under that name: the compiled one or the script."""
    link = real.folder / "romana-ipam"
    link.write_bytes(request.param.read_bytes())
    link.chmod(0o755)
    return link


async def ask(
    node: RealNode, plugin: Path, command: str, own: Any = None, container: str = "c1", **rest: Any
) -> tuple[int, Any]:
    netns = "/run/netns/" + node.namespaces._made[1].name
    document = {**config(node, "macvlan", own), "cniVersion": "1.1.0", **rest}
    return await asyncio.to_thread(
        lambda: run_plugin(command, document, container=container, netns=netns, plugin=plugin)
    )


async def test_the_same_again_and_by_the_older_form(real: RealNode, plugin: Path) -> None:
    first = await ask(real, plugin, "ADD")
    assert first[0] == 0, first
    assert await ask(real, plugin, "ADD") == first
    status, older = await ask(real, plugin, "ADD", cniVersion="0.3.1")
    assert status == 0
    assert older["ips"] == [{**first[1]["ips"][0], "version": "4"}]
    assert "interfaces" not in first[1]


async def test_gc_gives_back_what_is_not_named_and_nothing_of_others(
    real: RealNode, plugin: Path
) -> None:
    pod = real.namespaces.new("pod")
    ours = await asyncio.to_thread(
        lambda: real.cni("ADD", "c9", pod.path, config={"name": "storage"})
    )
    assert ours[0] == 0
    kept = (await ask(real, plugin, "ADD", container="c1"))[1]["ips"][0]["address"]
    assert (await ask(real, plugin, "ADD", container="c2"))[0] == 0
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    assert await ask(real, plugin, "GC", **valid) == (0, None)
    left = {kept.partition("/")[0], ours[1]["ips"][0]["address"].partition("/")[0]}
    assert set(await real.addresses()) == left
    status, error = await ask(real, plugin, "GC")
    assert (status, error["code"]) == (1, 7)


async def test_status_says_whether_ipam_answers(real: RealNode, plugin: Path) -> None:
    assert await ask(real, plugin, "STATUS") == (0, None)
    assert (await ask(real, plugin, "VERSION"))[1]["supportedVersions"][-1] == "1.1.0"
    real.ipam.kill()
    status, error = await ask(real, plugin, "STATUS")
    assert (status, error["code"]) == (1, 50)


async def test_what_is_wrong_is_refused_and_holds_nothing(real: RealNode, plugin: Path) -> None:
    cases: list[tuple[Any, dict[str, Any], int]] = [
        ({"network": "net"}, {}, 7),
        ({"network": "nix"}, {}, 102),
        ({"tenant": ""}, {}, 7),
        ({"routes": [{"dst": "fd00::/8"}]}, {}, 7),
        ({}, {"args": {"cni": {"addresses": ["10.9.0.1"]}}}, 100),
        (None, {"ipam": None, "socket": str(real.cni_socket)}, 7),
    ]
    for own, rest, code in cases:
        status, error = await ask(real, plugin, "ADD", own, **rest)
        assert (status, error["code"]) == (1, code), (own, rest, error)
    assert await real.addresses() == []
    status, error = await ask(real, plugin, "CHECK", prevResult={"ips": []})
    assert (status, error["code"]) == (1, 105)
