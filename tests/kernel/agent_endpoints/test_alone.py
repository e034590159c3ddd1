"""One agent at a time: a second one, and uninstall, are refused before they touch anything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from romana.agent.v1 import agent_service_pb2 as pb

from tests.support.agent_node import ROOT, RealNode


def run(node: RealNode, module: str, **settings: Path) -> tuple[int, str]:
    """Runs a module in the node's namespace with these settings of its agent."""
    variables = [f"ROMANA_AGENT__{name}={value}" for name, value in settings.items()]
    words = ["env", *variables, sys.executable, "-m", module]
    process = node.home.start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said.decode()


def held(node: RealNode) -> str:
    """What the kernel has of ours."""
    return "".join(
        node.home.run(command)
        for command in ("ip rule", "ip route show table all proto 114", "ip -o link")
    )


async def test_uninstall_beside_an_agent_touches_nothing(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    await real.attach("a", pod)
    real.home.run("ip tuntap add tap0 mode tap")
    settings_of_tap = "sysctl -n net.ipv4.conf.tap0.proxy_arp net.ipv6.conf.tap0.proxy_ndp"
    assert real.home.run(settings_of_tap).split() == ["0", "0"]
    spec = real.spec("vm", "/x", network="net")
    spec.target.interface.interface = "tap0"
    await real.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)
    assert real.home.run(settings_of_tap).split() == ["1", "1"]
    (real.folder / "state/devices.json").write_text("{}")
    before = held(real)
    state, elsewhere = real.folder / "state", real.folder / "elsewhere"
    for settings in (
        {"STATE_DIR": state, "SOCKET": elsewhere, "CNI_SOCKET": elsewhere},
        {"STATE_DIR": elsewhere, "SOCKET": real.folder / "agent.sock", "CNI_SOCKET": elsewhere},
        {"STATE_DIR": elsewhere, "SOCKET": elsewhere, "CNI_SOCKET": real.cni_socket},
    ):
        status, said = await asyncio.to_thread(
            lambda: run(real, "services.agent.uninstall", **settings)  # noqa: B023
        )
        assert (status, "an agent runs" in said) == (1, True), said
    assert held(real) == before
    assert (await real.check("a")).problems == []

    real.kill()
    settings = {"STATE_DIR": state, "SOCKET": real.folder / "agent.sock"}
    settings["CNI_SOCKET"] = real.cni_socket
    status, said = await asyncio.to_thread(
        lambda: run(real, "services.agent.uninstall", **settings)
    )
    assert status == 0, said
    assert real.links() == []
    assert real.home.run(settings_of_tap).split() == ["0", "0"]
    left = {path.name for path in state.iterdir() if path.is_file()}
    assert left == {"lock"}


async def test_a_second_agent_does_not_start(real: RealNode) -> None:
    before = held(real)
    other = real.folder / "other"
    settings = {"STATE_DIR": real.folder / "state", "SOCKET": other, "CNI_SOCKET": other}
    status, said = await asyncio.to_thread(lambda: run(real, "services.agent.main", **settings))
    assert (status, "an agent runs with" in said) == (1, True), said
    assert held(real) == before
