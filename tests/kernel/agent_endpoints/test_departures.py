"""Interfaces that leave: heard of by name, and nothing else is."""

from __future__ import annotations

import asyncio

from services.agent.kernel.departures import Departures
from tests.support.netns import Namespaces, enter

SECONDS = 10.0


async def test_a_deleted_interface_is_heard_of_and_a_bridge_port_that_leaves_is_not() -> None:
    with Namespaces() as made:
        home = made.new("home")

        def listen() -> list[bool]:
            async def work() -> list[bool]:
                departures = Departures()
                first, second = departures.expect("one"), departures.expect("two")
                home.run("ip link add bridge0 type bridge")
                for name in ("one", "two"):
                    home.run(f"ip link add {name} type veth peer name {name}-x")
                    home.run(f"ip link set {name} master bridge0")
                    home.run(f"ip link set {name} nomaster")
                home.run("ip link del one")
                await asyncio.wait_for(first, SECONDS)
                found = [first.done(), second.done()]
                home.run("ip link del two")
                await asyncio.wait_for(second, SECONDS)
                departures.close()
                return found

            enter(home.path)
            return asyncio.run(work())

        assert await asyncio.to_thread(home.call, listen) == [True, False]
