"""The real romana-cni executable, as a runtime starts it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from services.agent.kernel.endpoint_names import file_name
from services.common.model.names import EndpointName
from tests.support.agent_node import PLUGINS, Node


@pytest.fixture(autouse=True, params=PLUGINS, ids=lambda path: path.name)
def plugin(node_: Node, request: pytest.FixtureRequest) -> Path:
    """Whatever a runtime starts, the compiled one or the script."""
    node_.plugin = request.param
    return node_.plugin


async def cni(node: Node, *arguments: object, **options: object) -> tuple[int, object]:
    return await asyncio.to_thread(lambda: node.cni(*arguments, **options))  # type: ignore[arg-type]


async def test_add_check_del(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    status, result = await cni(node_, "ADD", "c1", pod.path, config={"dns": {"domain": "x"}})
    assert status == 0, result
    host, inside = result["interfaces"]
    assert node_.links() == [host["name"]]
    assert host["mac"] == "ee:ee:ee:ee:ee:ee"
    (link,) = json.loads(pod.run("ip -j link show eth0"))
    assert inside == {
        "name": "eth0",
        "mac": link["address"],
        "sandbox": pod.path,
        "mtu": link["mtu"],
    }
    assert result["ips"] == [{"address": "10.1.0.0/32", "gateway": "169.254.1.1", "interface": 1}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]
    assert result["dns"] == {"domain": "x"}
    assert result["cniVersion"] == "1.1.0"
    previous = {"prevResult": result}
    assert await cni(node_, "CHECK", "c1", pod.path, config=previous) == (0, None)
    pod.run("ip addr del 10.1.0.0/32 dev eth0")
    status, error = await cni(node_, "CHECK", "c1", pod.path, config=previous)
    assert (status, error["code"]) == (1, 105)
    for _ in range(2):
        assert await cni(node_, "DEL", "c1", pod.path, config=previous) == (0, None)
    assert await node_.addresses() == []
    assert node_.links() == []
    assert node_.records() == []


async def test_add_again_gives_the_same(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    first = await cni(node_, "ADD", "c1", pod.path)
    assert first[0] == 0
    assert await cni(node_, "ADD", "c1", pod.path) == first


async def test_del_without_a_namespace_or_any_state(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    assert await cni(node_, "DEL", "never") == (0, None)
    assert (await cni(node_, "ADD", "c1", pod.path))[0] == 0
    pod.delete()
    assert await cni(node_, "DEL", "c1", "") == (0, None)
    assert await cni(node_, "DEL", "c1", "") == (0, None)
    assert await node_.addresses() == []
    assert node_.records() == []


async def test_add_after_a_failed_add(node_: Node) -> None:
    status, error = await cni(node_, "ADD", "c1", "/run/netns/nowhere")
    assert (status, error["code"]) == (1, 3)
    assert await node_.addresses() == []
    pod = node_.namespaces.new("pod")
    assert (await cni(node_, "ADD", "c1", pod.path))[0] == 0


async def test_many_adds_and_dels_at_once(node_: Node) -> None:
    pods = [node_.namespaces.new(f"p{number}") for number in range(16)]
    answers = await asyncio.gather(
        *(cni(node_, "ADD", f"c{number}", pod.path) for number, pod in enumerate(pods))
    )
    assert [status for status, _ in answers] == [0] * 16
    assert len({result["ips"][0]["address"] for _, result in answers}) == 16
    assert len(node_.links()) == 16
    answers = await asyncio.gather(
        *(cni(node_, "DEL", f"c{number}", pod.path) for number, pod in enumerate(pods))
    )
    assert answers == [(0, None)] * 16
    assert await node_.addresses() == []
    assert node_.links() == []


async def test_gc_detaches_what_the_runtime_does_not_name(node_: Node) -> None:
    pods = [node_.namespaces.new(f"p{number}") for number in range(3)]
    for number, pod in enumerate(pods):
        assert (await cni(node_, "ADD", f"c{number}", pod.path))[0] == 0
    other = node_.namespaces.new("other")
    await node_.attach("pods/by-hand/eth0", other)
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    assert await cni(node_, "GC", config=valid) == (0, None)
    assert len(node_.links()) == 2
    assert (await node_.check("pods/c1/eth0")).problems == []
    assert (await node_.check("pods/by-hand/eth0")).problems == []


async def test_gc_goes_on_when_one_cannot_be_detached(node_: Node) -> None:
    for number in range(3):
        pod = node_.namespaces.new(f"p{number}")
        assert (await cni(node_, "ADD", f"c{number}", pod.path))[0] == 0
    record = node_.folder / "state/endpoints" / file_name(EndpointName("pods/c0/eth0"))
    record.unlink()
    record.mkdir()  # nothing removes that
    code, answer = await cni(node_, "GC", config={"cni.dev/valid-attachments": []})
    assert code == 1
    assert "journal" in answer["msg"]
    assert node_.links() == []
    assert len(node_.records()) <= 1


async def test_status_and_version(node_: Node) -> None:
    assert await cni(node_, "STATUS") == (0, None)
    status, answer = await cni(node_, "VERSION")
    assert status == 0
    assert answer["supportedVersions"][-1] == "1.1.0"
    node_.kill()
    status, error = await cni(node_, "STATUS")
    assert (status, error["code"]) == (1, 50)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
async def test_without_an_agent_the_runtime_shall_try_again(node_: Node, command: str) -> None:
    pod = node_.namespaces.new("pod")
    node_.kill()
    status, error = await cni(node_, command, "c1", pod.path)
    assert (status, error["code"], error["cniVersion"]) == (1, 11, "1.1.0")
    assert "cannot be reached" in error["msg"]


async def test_without_permission_it_says_so(node_: Node, plugin: Path) -> None:
    pod = node_.namespaces.new("pod")
    copy = node_.folder / "romana-cni"
    await asyncio.to_thread(shutil.copy, plugin, copy)
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "--", str(copy)],
            input=json.dumps({"cniVersion": "1.0.0", "socket": str(node_.cni_socket)}).encode(),
            env={"CNI_COMMAND": "ADD", "CNI_NETNS": pod.path},
            capture_output=True,
            check=False,
        )
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert error["code"] == 5
    assert "no permission" in error["msg"]


async def test_what_is_wrong_is_said_in_the_specifications_codes(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    cases = [
        ({"interface": "x" * 16}, {}, 4),
        ({"container": "../x"}, {}, 4),
        ({"netns": ""}, {}, 4),
        ({"netns": "/etc/passwd"}, {}, 4),
        ({"args": ""}, {}, 7),
        ({"args": "nonsense"}, {}, 4),
        ({}, {"cniVersion": "9.9.9"}, 1),
        ({}, {"network": "nix"}, 102),
        ({}, {"mtu": 9000}, 7),
        ({}, {"mtu": "x"}, 7),
        ({}, {"name": "a/b"}, 7),
    ]
    for changes, config, code in cases:
        arguments = {"container": "c1", "netns": pod.path, **changes}
        status, error = await cni(node_, "ADD", config=config, **arguments)
        assert (status, error["code"]) == (1, code), (changes, config, error)
        assert error["msg"]
    assert await node_.addresses() == []
    assert node_.links() == []
