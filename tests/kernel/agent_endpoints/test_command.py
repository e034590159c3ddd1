"""`romana endpoint` and `romana agent` against an agent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from tests.support.agent_node import Node


async def romana(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "services.ctl.main", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={**os.environ, "ROMANA_AGENT": node.socket, "NO_COLOR": "1"},
        )
    )


async def test_an_endpoints_life(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    words = ("endpoint", "attach", "web-1", "--netns", pod.name, "--tenant", "shop")
    made = await romana(node_, *words, "--network", "net", "--label", "a=b", "-o", "json")
    assert made.returncode == 0, made.stderr
    endpoint = json.loads(made.stdout)["endpoint"]
    assert endpoint["target"]["namespace"] == {"path": pod.path, "interface": "eth0"}
    again = await romana(node_, *words, "--network", "net", "--label", "a=b", "-o", "name")
    assert again.stdout.split() == [endpoint["addresses"][0]["address"]]
    assert "attached already" in again.stderr or again.stdout
    checked = await romana(node_, "endpoint", "check", "web-1")
    assert (checked.returncode, checked.stdout) == (0, "web-1: all is there.\n")
    shown = await romana(node_, "endpoint", "show", "web-1")
    assert endpoint["host_interface"] in shown.stdout
    pod.run("ip addr flush dev eth0")
    assert (await romana(node_, "endpoint", "check", "web-1")).returncode == 1
    gone = await romana(node_, "endpoint", "detach", "web-1")
    assert (gone.returncode, gone.stdout.count("10.1.0.")) == (0, 1)
    listed = await romana(node_, "endpoint", "list", "-o", "json")
    assert json.loads(listed.stdout) == []


async def test_failures_have_their_exit_codes(node_: Node) -> None:
    assert (await romana(node_, "agent", "status")).returncode == 0
    assert (await romana(node_, "endpoint", "show", "nix")).returncode == 3
    assert (await romana(node_, "endpoint", "attach", "a", "--tenant", "t")).returncode == 2
    nowhere = await romana(node_, "endpoint", "attach", "a", "--tenant", "t", "--netns", "nowhere")
    assert nowhere.returncode == 3
    assert "no network namespace" in nowhere.stderr
    node_.kill()
    away = await romana(node_, "agent", "status", "--timeout", "1")
    assert away.returncode == 5
    assert "does the agent run on this node" in away.stderr


async def test_the_plugins_are_installed(node_: Node) -> None:
    done = await romana(node_, "agent", "install-cni", "--bin-dir", str(node_.folder / "bin"))
    assert done.returncode == 0
    for name in ("romana-cni", "romana-ipam"):
        path = node_.folder / "bin" / name
        answer = await asyncio.to_thread(
            lambda path=path: subprocess.run(  # type: ignore[misc]
                [str(path)],
                input=b"{}",
                env={"CNI_COMMAND": "VERSION"},
                capture_output=True,
                check=True,
            )
        )
        assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]
