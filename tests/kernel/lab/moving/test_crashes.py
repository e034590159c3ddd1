"""Whatever dies at whatever step of a move: one node has the endpoint, and its connections live."""

from __future__ import annotations

import pytest

from tests.support.moving_site import VM, Site, streams

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("killed", ["n1", "n2", "ipam"])
@pytest.mark.parametrize("step", ["prepared", "attached", "ready", "switched"])
async def test_one_node_has_it_after_a_crash(site: Site, step: str, killed: str) -> None:
    async with streams(site, ["peer", "plain"]) as found:
        await site.romana("endpoint", "move", VM, "--to", "n2")
        if step != "prepared":
            await site.attach("n2")
        if step in {"ready", "switched"}:
            await site.ready("n2")
        if step == "switched":
            site.guest.run_on("n2")
            await site.romana("endpoint", "move", VM, "--to", "n2", "--activate")
        site.cluster.kill(killed)
        await site.restart(killed)
        if step != "switched":
            await site.ipam_serves()
            assert (await site.state())[1:] == ("n1", "n2")
            assert site.holds("n1")
            assert not site.holds("n2")
            for stream in found.values():
                await stream.talk()
            assert await site.attach("n2") == site.guest.address
            await site.ready("n2")
            site.guest.run_on("n2")
            await site.romana("endpoint", "move", VM, "--to", "n2", "--activate")
        await site.only_on("n2")
        for stream in found.values():
            await stream.talk()
        assert await site.state() == ("SETTLED", "n2", "")


@pytest.mark.parametrize("killed", ["n1", "n2"])
async def test_who_was_down_when_a_move_was_aborted_learns_of_it(site: Site, killed: str) -> None:
    await site.prepare("n2")
    site.cluster.kill(killed)
    await site.romana("endpoint", "move", VM, "--abort")
    await site.restart(killed)
    await site.only_on("n1")


async def test_who_was_down_at_the_switch_lets_go(site: Site) -> None:
    async with streams(site, ["peer", "plain"]) as found:
        await site.prepare("n2")
        site.cluster.kill("n1")
        site.guest.run_on("n2")
        site.guest.announce()

        async def switched() -> bool:
            return await site.state() == ("SETTLED", "n2", "")

        await site.until(switched)
        await site.restart("n1")
        await site.only_on("n2")
        for stream in found.values():
            await stream.talk()
