"""Whole agents and the policy service: what groups and rules hold, and who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import Counter
from collections.abc import Callable

import pytest

from lab.namespaces import open_socket
from tests.kernel.conformance.driver import Refused
from tests.kernel.steering.cluster_site import (
    DIRECT,
    ENDS,
    FIREWALLS,
    PORT,
    Client,
    Server,
    Site,
    spoken,
    until,
)
from tests.kernel.steering.firewall import Flow, came_of, incoming

TCP = socket.IPPROTO_TCP
OUTSIDE = "10.78.0.244"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


def _device(*addresses: str, on: str = "pods") -> dict[str, object]:
    """One that is wrong."""
    return {"name": "x", "addresses": [{"network": on, "address": one} for one in addresses]}


@pytest.mark.parametrize("target", ENDS)
async def test_one_device_sees_all_of_a_connection(site: Site, target: str) -> None:
    async with Server(site, target, PORT), Server(site, target, DIRECT):
        client, direct = Client(site, target, PORT), Client(site, target, DIRECT)
        with contextlib.closing(client), contextlib.closing(direct):
            assert await direct.connect()
            assert await direct.talk()
            assert not site.through(direct)
            assert await client.connect()
            assert await client.talk()
            seen = [one.of(client) for one in site.firewalls]
    here, there = site.addresses["ask"], site.addresses[target]
    assert [bool(one[TCP, here, there]) for one in seen].count(True) == 1
    assert [bool(one[TCP, there, here]) for one in seen] == [
        bool(one[TCP, here, there]) for one in seen
    ]
    assert not any(one.has_part(client) for one in site.firewalls)


async def test_only_the_connections_of_a_device_that_goes_are_moved(site: Site) -> None:
    async with Server(site, "web", PORT):
        clients = [Client(site, "web", PORT) for _ in range(30)]
        try:
            devices = {}
            for client in clients:
                assert await client.connect()
                assert await client.talk()
                (devices[client],) = site.through(client)
            assert set(devices.values()) == set(FIREWALLS)
            gone = devices[clients[0]]
            site.kill(gone)
            await site.become("down", gone)
            for client, device in devices.items():
                if device != gone:
                    assert await client.talk()
                    assert site.through(client) == [device]
            fresh = [Client(site, "web", PORT) for _ in range(5)]
            clients += fresh
            for client in fresh:
                assert await client.connect()
                assert await client.talk()
                (devices[client],) = site.through(client)
            site.revive(gone)
            await site.become("up", gone)
            for one in site.firewalls:
                one.drain()
            for client in (*fresh, *(one for one in clients if devices[one] != gone)):
                assert await client.talk()
                assert site.through(client) == [devices[client]]
        finally:
            for client in clients:
                client.close()


async def test_when_all_are_down_closed_lets_nothing_through(site: Site) -> None:
    async with Server(site, "web", PORT), Server(site, "near", PORT):
        with (
            contextlib.closing(site.capture("web")) as web,
            contextlib.closing(site.capture("near")) as near,
        ):
            site.kill(*FIREWALLS)
            ports: set[int] = set()
            probing = asyncio.create_task(_probe(site, ports, "web", "near"))
            try:
                await site.become("down", *FIREWALLS)
                client = Client(site, "web", PORT)
                with contextlib.closing(client):
                    assert not await client.connect(1)
            finally:
                probing.cancel()
            assert len(ports) > 1
            for wire in (web, near):
                assert not came_of(wire, client.port, *ports)


async def test_when_all_are_down_open_goes_directly(site: Site) -> None:
    await site.group(whenDown="DEVICE_WHEN_DOWN_OPEN")
    async with Server(site, "web", PORT), Server(site, "near", PORT):
        site.kill(*FIREWALLS)
        await site.become("down", *FIREWALLS)
        for target in ENDS:
            client = Client(site, target, PORT)
            with contextlib.closing(client):
                assert await client.connect()
                assert await client.talk()


async def test_no_packet_goes_another_way_without_agent_and_policy(site: Site) -> None:
    here, there = site.addresses["ask"], site.addresses["web"]
    async with Server(site, "web", PORT):
        client = Client(site, "web", PORT)
        with (
            contextlib.closing(client),
            contextlib.closing(site.capture("ask")) as asked,
            contextlib.closing(site.capture("web")) as answered,
        ):
            assert await client.connect()
            assert await client.talk()
            first = {one: one.of(client) for one in site.firewalls}
            (device,) = (one for one, flows in first.items() if flows[TCP, here, there])
            seen, got = first[device], Counter[Flow]()
            await until(site.remembered)

            def read() -> None:
                """Before captures are full; what has come to an end has passed the device."""
                got.update(incoming(asked, client.port) + incoming(answered, client.port))
                seen.update(device.of(client))

            for name in ("policy", "n1", "n2"):
                site.cluster.kill(name)
                assert await client.talk()
            for name in ("policy", "n1", "n2"):
                site.cluster.start(name)
            beside = asyncio.create_task(_talk(client, read))
            await until(site.again)
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside
            assert await client.talk()
            read()
            for flow in ((TCP, here, there), (TCP, there, here)):
                assert 0 < got[flow] <= seen[flow]
            fresh = Client(site, "web", PORT)
            with contextlib.closing(fresh):
                assert await fresh.connect()
                assert site.through(fresh)
            assert not device.has_part(client)


async def test_of_a_device_with_two_arms_both_are_asked(site: Site) -> None:
    here, there = site.addresses["ask"], site.addresses["web"]
    firewall = site.firewall("fw-1")
    one = {"network": "pods", "address": "10.78.0.241", "outside": {"address": OUTSIDE}}
    with firewall.owning(OUTSIDE):
        await site.group(devices=[{"name": "fw-1", "addresses": [one]}])
        await site.become("up", "fw-1")
        async with Server(site, "web", PORT):
            client = Client(site, "web", PORT)
            with contextlib.closing(client):
                assert await client.connect()
                assert await client.talk()
        seen = firewall.of(client)
        assert seen[TCP, here, there]
        assert seen[TCP, there, here]
        assert not firewall.has_part(client)
        connection = {
            "source": {"endpoint": "ask"},
            "destination": {"endpoint": "web"},
            "port": PORT,
        }
        asked = await site.driver.call("Explain", {"connection": connection})
        led = asked["explanations"][0]["steering"]
        assert led["devices"][0]["outside"]["address"] == OUTSIDE
        assert "group firewalls, outside to inside" in led["hops"]
    await site.become("down", "fw-1")
    assert "outside" in (await site.reasons())["fw-1"]


async def test_a_device_gets_copies(site: Site) -> None:
    here, there = site.addresses["ask"], site.addresses["web"]
    for one in site.firewalls:
        one.run("sysctl -qw net.ipv4.ip_forward=0")  # who gets copies hands nothing on
    try:
        await site.via(field="mirror")
        await until(lambda: _copied(site))
        direct, passes, _ = await spoken(site, "web", DIRECT)
        assert passes
        assert not site.through(direct)
        client, passes, talk = await spoken(site, "web", PORT)
        assert passes
        assert talk[TCP, here, there]
        assert talk[TCP, there, here]
        seen = Counter[Flow]()

        async def all_copied() -> bool:
            for one in site.firewalls:
                seen.update(one.of(client))
            return seen == talk

        await until(all_copied)
        connection = {
            "source": {"endpoint": "ask"},
            "destination": {"endpoint": "web"},
            "port": PORT,
        }
        said = await site.driver.call("Explain", {"connection": connection})
        (copied,) = said["explanations"][0]["mirrors"]
        assert (copied["group"], copied["node"]) == ("firewalls", "n2")
    finally:
        for one in site.firewalls:
            one.run("sysctl -qw net.ipv4.ip_forward=1")


async def _copied(site: Site) -> bool:
    """Whether n2 can make copies: that is in another transaction than rules."""
    return "romana_copies4" in site.tables("n2")


async def test_a_connection_goes_directly_when_its_rule_is_gone(site: Site) -> None:
    async with Server(site, "web", PORT):
        client = Client(site, "web", PORT)
        with contextlib.closing(client):
            assert await client.connect()
            assert await client.talk()
            await site.via("")
            assert await client.talk()
            for one in site.firewalls:
                one.drain()
            assert await client.talk()
            assert not site.through(client)


async def test_a_drained_device_keeps_its_connections(site: Site) -> None:
    async with Server(site, "web", PORT):
        old, new = Client(site, "web", PORT), Client(site, "web", PORT)
        with contextlib.closing(old), contextlib.closing(new):
            assert await old.connect()
            assert await old.talk()
            (device,) = (one for one in site.firewalls if one.sees(old))
            drained = {"group": "firewalls", "device": device.name, "drain": True}
            await site.driver.call("DrainDevice", drained)
            await site.realized()
            assert await old.talk()
            assert device.sees(old)
            assert await new.connect()
            assert await new.talk()
            assert not device.sees(new)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"devices": []}, "group.devices"),
        ({"networks": ["pods", "pods"]}, "group.networks[1]"),
        ({"networks": ["none"], "devices": [_device("10.78.0.9", on="none")]}, "group.networks[0]"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT"}, "group.next"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT", "next": "firewalls"}, "group.next"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT", "next": "none"}, "group.next"),
        ({"devices": [_device("10.79.0.1")]}, "group.devices[0].addresses[0].address"),
        ({"devices": [_device("10.78.0.241", "10.78.0.242")]}, "addresses[1].network"),
        (
            {
                "devices": [
                    {
                        "name": "x",
                        "addresses": [
                            {
                                "network": "pods",
                                "address": "10.78.0.241",
                                "outside": {"address": "10.79.0.1"},
                            }
                        ],
                    }
                ]
            },
            "group.devices[0].addresses[0].outside.address",
        ),
    ],
)
async def test_what_is_wrong_is_refused_with_its_place(
    site: Site, wrong: dict[str, object], path: str
) -> None:
    with pytest.raises(Refused, match=re.escape(path)):
        await site.group(**wrong)


async def test_rules_and_groups_hold_each_other(site: Site) -> None:
    with pytest.raises(Refused, match=re.escape("ingress[0].via")):
        await site.via("none")
    with pytest.raises(Refused, match="policy through"):
        await site.driver.call("DeleteDeviceGroup", {"name": "firewalls"})


async def _talk(client: Client, each: Callable[[], None]) -> None:
    while True:
        assert await client.talk()
        each()


async def _probe(site: Site, ports: set[int], *targets: str) -> None:
    """Tries to connect again and again, from ports that are told."""
    while True:
        for target in targets:
            wire = open_socket(site.cluster.path("ask"), socket.AF_INET, socket.SOCK_STREAM)
            with wire:
                wire.setblocking(False)  # noqa: FBT003
                wire.connect_ex((site.addresses[target], PORT))
                ports.add(wire.getsockname()[1])
        await asyncio.sleep(0.02)
