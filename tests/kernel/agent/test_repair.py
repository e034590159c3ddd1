"""The kernel stays equal to what is wanted, whatever others do to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import threading
from pathlib import Path

import pytest

from services.agent.kernel.heard import ALL
from services.agent.model import Remote
from services.agent.routing.reconcile import Timing
from services.agent.routing.reconcile_round import Outcome
from services.agent.streams.answering import Kind
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Mode
from tests.kernel.agent.site import DEADLINE, Net, Site, TestNode, settle, until
from tests.support.netns import Namespace, Namespaces

QUICK = Timing(full=1.0, quick=0.5)
PROTOCOL = 114
NET = NetworkName("v")


@pytest.fixture
def node(made: Namespaces) -> TestNode:
    """An on-link network, so that there is something of every kind."""
    site = Site(made, {"v": Net("v", "10.3.0.0/24", "10.3.0.0/24", Mode.ONLINK)})
    node = site.node("n1", 2, {"v": "10.3.0.16/28"})
    site.node("n2", 3, {"v": "10.3.0.32/28"})
    node.endpoint("e1", v="10.3.0.17")
    settle(node.namespace)
    return node


def everything(namespace: Namespace) -> dict[str, str]:
    """What the kernel holds, ours or not, without counters and lifetimes."""
    return {
        command: namespace.run(command)
        for command in (
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip -4 rule",
            "ip -6 rule",
            "ip nexthop",
            "ip neigh show proxy",
            "ip -6 neigh show proxy",
            "ip -o link",
            "sysctl -n net.ipv4.ip_forward net.ipv4.neigh.e-v.proxy_delay",
        )
    }


@pytest.mark.parametrize(
    "damage",
    [
        "ip route del 10.3.0.17 table main proto 114",
        "ip -4 rule del pref 11420",
        "ip nexthop flush proto 114",
        "ip neigh del proxy 10.3.0.17 dev e-v",
        "sysctl -q -w net.ipv4.neigh.e-v.proxy_delay=80",
        "ip route add 10.9.0.0/24 dev e-v proto 114",
        "ip -4 rule del pref 11440",
        "ip -4 rule del pref 11415",
        "ip rule add from 10.9.0.1 lookup 77 pref 11430 protocol 114",
    ],
)
async def test_damage_is_repaired(node: TestNode, tmp_path: Path, damage: str) -> None:
    async with node.running(tmp_path, QUICK):
        before = everything(node.namespace)
        node.namespace.run(damage)
        assert everything(node.namespace) != before
        with contextlib.suppress(TimeoutError):
            await until(lambda: everything(node.namespace) == before)
        assert everything(node.namespace) == before


@pytest.mark.parametrize(
    ("damage", "kind", "what"),
    [
        (
            "ip route del 10.3.0.32/28 table {table}",
            Kind.MISSING,
            "route 10.3.0.32/28 of network v",
        ),
        ("ip -4 rule del pref 11420", Kind.MISSING, "rule 11420 of IPv4: lookup"),
        (
            "ip neigh del proxy 10.3.0.17 dev e-v",
            Kind.MISSING,
            "answering for 10.3.0.17 (endpoint/e1)",
        ),
        (
            "sysctl -q -w net.ipv4.neigh.e-v.proxy_delay=80",
            Kind.CHANGED,
            "sysctl net.ipv4.neigh.e-v.proxy_delay",
        ),
        (
            "ip route add 10.9.0.0/24 dev e-v proto 114",
            Kind.STRANGE,
            "route 10.9.0.0/24 in table 254",
        ),
    ],
)
async def test_damage_is_told_until_it_is_repaired(
    node: TestNode, tmp_path: Path, damage: str, kind: Kind, what: str
) -> None:
    async with node.running(tmp_path, Timing(full=3600, quick=3600)) as reconciler:
        whole = await reconciler.in_kernel()
        assert whole is not None
        assert whole.differences == ()
        route = next(one for one in whole.routes if one.node == "n2")
        assert (str(route.prefix), str(route.next_hop), route.interface) == (
            *("10.3.0.32/28", "10.3.0.3", "e-v"),
        )
        assert all(one.there for one in whole.routes if one.kept)
        (table,) = reconciler._part.desired.networks  # type: ignore[union-attr]
        may_go_on = threading.Event()
        # the thread in which it would be repaired does something else, then looks, then repairs
        busy = asyncio.create_task(reconciler._kernel.run(lambda: may_go_on.wait(DEADLINE)))
        await asyncio.sleep(0)
        asking = asyncio.create_task(reconciler.in_kernel())
        await asyncio.sleep(0)
        node.namespace.run(damage.format(table=table))
        may_go_on.set()
        assert await busy
        found = await asking
        assert found is not None
        assert [one.kind for one in found.differences] == [kind], found.differences
        assert what in found.differences[0].object
        lost = {str(one.prefix) for one in found.routes if one.kept and not one.there}
        assert lost == ({"10.3.0.32/28"} if "10.3.0.32/28" in damage else set())

        async def is_whole() -> bool:
            again = await reconciler.in_kernel()
            return again is not None and not again.differences

        reconciler._inputs.read(ALL)  # of some of it the kernel says nothing
        reconciler._loop.touch()
        await until(is_whole)


async def test_an_interface_that_went_down_gets_its_routes_back(
    node: TestNode, tmp_path: Path
) -> None:
    async with node.running(tmp_path) as reconciler:
        before = node.namespace.run("ip route show table all proto 114")
        node.namespace.run("ip link set e-v down")
        await until(lambda: not reconciler.ready)
        node.namespace.run("ip link set e-v up")
        await until(lambda: reconciler.ready)
        await until(lambda: node.namespace.run("ip route show table all proto 114") == before)


async def test_routes_by_a_node_move_with_its_address(node: TestNode, tmp_path: Path) -> None:
    async with node.running(tmp_path) as reconciler:
        remote = reconciler.remote
        moved = {**remote.peers, (NET, NodeName("n2")): ipaddress.ip_address("10.3.0.4")}
        routes = node.namespace.run("ip route show table all proto 114 10.3.0.32/28")
        assert "via 10.3.0.3" in routes
        reconciler.set_remote(dataclasses.replace(remote, peers=moved), ())
        assert not await reconciler.reached()
        routes = node.namespace.run("ip route show table all proto 114 10.3.0.32/28")
        assert "via 10.3.0.4" in routes


async def test_a_restart_without_memory_removes_what_is_stale_after_it_is_in_sync(
    node: TestNode, tmp_path: Path
) -> None:
    async with node.running(tmp_path / "one"):
        pass
    before = everything(node.namespace)
    assert "10.3.0.32/28" in before["ip -4 route show table all"], "a stopped agent removes nothing"

    reconciler = node.reconciler(tmp_path / "two")
    task = asyncio.create_task(reconciler.run())
    for endpoint in node.endpoints.values():
        reconciler.put_endpoint(endpoint)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await reconciler.reached()
    assert everything(node.namespace) == before
    assert not reconciler.ready

    remote = node.site.remote
    fewer = {key: value for key, value in remote.routes.items() if value != "n2"}
    reconciler.set_remote(
        Remote(remote.networks, {k: v for k, v in remote.peers.items() if k[1] != "n2"}, fewer)
    )
    assert not await reconciler.reached()
    assert reconciler.ready
    now = everything(node.namespace)
    assert "10.3.0.32/28" not in now["ip -4 route show table all"]
    assert "10.3.0.3" not in now["ip nexthop"]
    assert "10.3.0.17" in now["ip -4 route show table all"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_with_nothing_to_change_writes_nothing(
    node: TestNode, tmp_path: Path
) -> None:
    async with node.running(tmp_path):
        pass
    seen: list[int] = []

    class Observer:
        def reconciled(self, outcome: Outcome, _: float) -> None:
            seen.append(sum(outcome.operations.values()))

        def failed(self) -> None:
            seen.append(-1)

    reconciler = node.reconciler(tmp_path, observer=Observer())
    task = asyncio.create_task(reconciler.run())
    reconciler.put_endpoint(next(iter(node.endpoints.values())))
    reconciler.set_remote(node.site.remote)
    await reconciler.reached()
    assert set(seen) == {0}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
