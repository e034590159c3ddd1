"""What runtimes do besides: a second interface, a container again under its id, a full disk."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.agent_endpoints.test_upkeep import is_whole
from tests.support.agent_node import RealNode
from tests.support.ipam_process import poll
from tests.support.netns import Namespace


async def cni(node: RealNode, *arguments: Any, **options: Any) -> Any:
    return await asyncio.to_thread(lambda: node.cni(*arguments, **options))


async def add(node: RealNode, pod: Namespace, interface: str = "eth0", **config: Any) -> Any:
    status, result = await cni(node, "ADD", "c1", pod.path, interface, config=config)
    assert status == 0, result
    return result


def addresses(result: Any) -> list[str]:
    return [item["address"].partition("/")[0] for item in result["ips"]]


def ways(pod: Namespace) -> str:
    """All that a namespace routes by, but for what the kernel adds by itself."""
    lines = [
        line
        for version in (4, 6)
        for command in (f"ip -{version} route show table all", f"ip -{version} rule")
        for line in pod.run(command).splitlines()
        if "proto kernel" not in line
    ]
    return "\n".join(sorted(lines))


@pytest.mark.parametrize("networks", [["net"], ["net", "six"]])
async def test_a_second_interface_leaves_the_first_as_it_is(
    dual: tuple[RealNode, Namespace], networks: list[str]
) -> None:
    node, gateway = dual
    pod = node.namespaces.new("pod")
    first = await add(node, pod, networks=networks)
    before = ways(pod)
    second = await add(node, pod, "eth1", name="second", networks=networks)
    assert (len(first["routes"]), second["routes"]) == (len(networks), [])
    for result in (first, second):
        for address in addresses(result):
            assert await asyncio.to_thread(gateway.pings, address)
    for name in ("pods/c1/eth0", "second/c1/eth1"):
        assert await is_whole(node, name)
    outside = {4: "192.168.0.254", 6: "fd00:ff::fe"}
    for address in addresses(second):
        there = outside[6 if ":" in address else 4]
        assert await asyncio.to_thread(lambda: pod.pings(there, source=address))  # noqa: B023

    config = {"name": "second", "networks": networks}
    assert (await cni(node, "DEL", "c1", pod.path, "eth1", config=config))[0] == 0
    assert ways(pod) == before
    for address in addresses(first):
        assert await asyncio.to_thread(gateway.pings, address)


async def test_when_the_first_interface_goes_the_second_has_the_default_route(
    dual: tuple[RealNode, Namespace],
) -> None:
    node, _ = dual
    pod = node.namespaces.new("pod")
    await add(node, pod)
    await add(node, pod, "eth1", name="second")
    assert (await cni(node, "DEL", "c1", pod.path, "eth0"))[0] == 0
    await poll(lambda: pod.pings("192.168.0.254"), 60)
    assert await is_whole(node, "second/c1/eth1")


async def test_another_plugins_default_route_stays(real: RealNode) -> None:
    pod, other = real.namespaces.new("pod"), real.namespaces.new("other")
    pod.link(other, "eth0", "eth0")
    pod.run("ip addr add 192.168.77.2/24 dev eth0")
    pod.run("ip route add default via 192.168.77.1 metric 100")
    before = pod.run("ip route")
    result = await add(real, pod, "net1")
    assert pod.run("ip route") == before
    assert await asyncio.to_thread(real.home.pings, addresses(result)[0])
    assert await asyncio.to_thread(real.namespaces._made[1].pings, addresses(result)[0])


async def test_a_container_that_starts_again_under_its_id_has_its_address(
    real: RealNode,
) -> None:
    old, new = real.namespaces.new("old"), real.namespaces.new("new")
    first = await add(real, old, labels={"run": "1"})
    status, error = await cni(real, "ADD", "c1", new.path)
    assert (status, error["code"]) == (1, 103), "the first one is still there"
    old.delete()
    again = await add(real, new, labels={"run": "2"})
    assert addresses(again) == addresses(first)
    assert await asyncio.to_thread(real.home.pings, addresses(again)[0])
    assert await is_whole(real, "pods/c1/eth0")
    assert await real.addresses() == addresses(first)

    new.delete()
    other = real.namespaces.new("other")
    moved = await add(real, other, network="lan")
    assert addresses(moved) != addresses(first)
    assert await real.addresses() == addresses(moved), "another network: the old address is free"


async def test_a_namespace_that_is_made_anew_under_its_path(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    first = await add(real, pod)
    pod.delete()
    pod.__init__(pod.name)  # type: ignore[misc]
    again = await add(real, pod)
    assert addresses(again) == addresses(first)
    assert await asyncio.to_thread(real.home.pings, addresses(again)[0])


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


@pytest.fixture
async def small(real: RealNode) -> AsyncIterator[tuple[RealNode, Path]]:
    """A node whose agent has a small disk for its state, and a file to fill it with."""
    state = real.folder / "state"
    real.stop()
    run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(state))
    try:
        real.start()
        await real.ready()
        yield real, state / "fill"
    finally:
        real.kill()
        run("umount", "-l", str(state))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


async def test_a_full_disk_keeps_no_container(small: tuple[RealNode, Path]) -> None:
    node, rest = small
    pod, other = node.namespaces.new("pod"), node.namespaces.new("other")
    await add(node, pod)
    assert (await cni(node, "ADD", "c2", other.path))[0] == 0
    fill(rest)
    status, error = await cni(node, "STATUS")
    assert (status, error["code"]) == (1, 50)
    assert "No space left" in error["msg"]
    status, error = await cni(node, "ADD", "c3", node.namespaces.new("third").path)
    assert (status, error["code"]) == (1, 101)
    assert await cni(node, "DEL", "c1", pod.path) == (0, None)
    assert len(node.links()) == len(await node.addresses()) == len(node.records()) == 1

    node.ipam.kill()
    assert await cni(node, "DEL", "c2", other.path) == (0, None)
    assert node.links() == []
    node.kill()
    node.ipam.start()
    await node.ipam.wait_until_active()
    assert len(await node.addresses()) == 1
    rest.unlink()
    node.start()
    await node.ready()

    async def released() -> bool:
        return not await node.addresses() and not node.records()

    await poll(released, 60)
    assert await cni(node, "STATUS") == (0, None)


@pytest.mark.parametrize(
    ("config", "dns"),
    [
        (
            {"networks": ["six", "net"]},
            {"nameservers": ["fd00:53::1", "10.0.0.53"], "search": ["corp.example"]},
        ),
        ({"networks": ["net"], "dns": {"domain": "x"}}, {"domain": "x"}),
    ],
    ids=["of the networks", "of the configuration"],
)
async def test_a_runtime_is_told_of_resolvers(
    dual: tuple[RealNode, Namespace], config: dict[str, Any], dns: object
) -> None:
    node, _ = dual
    pod = node.namespaces.new("pod")
    assert (await add(node, pod, **config))["dns"] == dns
