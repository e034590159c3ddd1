"""Endpoints that move to another node while they run (DESIGN.md, section 7), over a lab."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.moving_site import CLOSED, PEERS, PORT, VM, Probing, Site, streams, traces

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

GUARDING = f"""
policies:
  - name: guarded
    targets: [{{endpoints: {{tenants: [t], segments: [vm, guarded]}}}}]
    ingress:
      - ports: [{{protocol: tcp, port: {PORT}}}]
    egress:
      - ports: [{{protocol: tcp, port: {PORT}}}]
"""


@contextlib.asynccontextmanager
async def guarding(site: Site, folder: Path) -> AsyncIterator[None]:
    file = folder / "guarding.yaml"
    file.write_text(GUARDING)
    await site.romana("policy", "apply", str(file), "--wait", "60")
    try:
        yield
    finally:
        await site.romana("policy", "delete", "guarded", "--yes", "--wait", "60")


async def test_connections_survive_a_move_by_the_guests_own_word(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    async with streams(site, PEERS) as found:
        for stream in found.values():
            await stream.talk()
        await site.prepare("n2")
        for stream in found.values():
            await stream.talk()  # nothing has changed
        assert not site.holds("n2")
        async with Probing(site, "plain", VM, site.guest.address) as probing:
            await probing.first_after(time.monotonic())
            site.guest.run_on("n2")
            switched = time.monotonic()
            site.guest.announce()
            gap = await probing.first_after(switched)
        await site.only_on("n2")
        for stream in found.values():
            await stream.talk(answer_first=True)
        assert await site.state() == ("SETTLED", "n2", "")
    with capsys.disabled():
        print(f"\nfrom the guest's RARP to the first packet: {gap * 1000:.0f} ms")  # noqa: T201


async def test_a_guest_goes_on_by_the_gateway_that_it_was_told(site: Site) -> None:
    """The nodes' interfaces have MAC addresses of their own here, as other machines' do."""
    site.guest.route_by(site.guest.family.told)
    async with streams(site, PEERS) as found:
        await site.prepare("n2")
        site.guest.run_on("n2")
        site.guest.announce()
        await site.only_on("n2")
        for stream in found.values():
            await stream.talk(answer_first=True, seconds=20)


async def test_a_source_may_let_go_before_the_guest_is_heard(site: Site) -> None:
    """As libvirt before 10.5, whose hook is not told that a guest has migrated when it ends."""
    async with streams(site, PEERS) as found:
        for stream in found.values():
            await stream.talk()
        await site.prepare("n2")
        site.guest.run_on("n2")
        letting_go = asyncio.create_task(site.detach("n1"))
        await asyncio.sleep(0.5)  # it would have let go by now
        site.guest.announce()
        await letting_go
        await site.only_on("n2")
        for stream in found.values():
            await stream.talk(answer_first=True)


async def test_what_its_node_lets_go_of_is_where_it_is_ready(site: Site) -> None:
    """Nobody announces it."""
    await site.prepare("n2")
    site.guest.run_on("n2")
    await site.detach("n1")
    await site.only_on("n2")
    async with streams(site, PEERS) as found:
        for stream in found.values():
            await stream.talk()


async def test_a_guarded_guest_keeps_its_connections_and_nothing_else_passes(
    site: Site, tmp_path: Path
) -> None:
    """Whoever speaks first after the switch, and whoever began."""
    guest, plain = site.guest, (await site.cluster.host("plain")).address
    async with guarding(site, tmp_path), contextlib.AsyncExitStack() as stack:
        closed = [
            Probing(site, peer, VM, guest.address, port)
            for peer, port in (("plain", CLOSED), ("same", CLOSED + 1), ("left", CLOSED + 2))
        ]
        closed.append(Probing(site, VM, "plain", str(plain), CLOSED))
        for each in closed:
            await stack.enter_async_context(each)
        found = await stack.enter_async_context(streams(site, PEERS))
        for stream in found.values():
            await stream.talk()
        for to, answer_first in (("n2", True), ("n1", False)):
            await site.prepare(to)
            guest.run_on(to)
            guest.announce()
            await site.only_on(to)
            for stream in found.values():
                await stream.talk(answer_first=answer_first)
        assert not any(each.arrived for each in closed)


async def test_what_is_forbidden_meanwhile_does_not_go_on(site: Site, tmp_path: Path) -> None:
    async with streams(site, ["peer"]) as found:
        stream = found[f"peer to {VM}"]
        await stream.talk()
        await site.prepare("n2")
        file = tmp_path / "closed.yaml"
        file.write_text(GUARDING.replace(f"port: {PORT}", f"port: {CLOSED}"))
        await site.romana("policy", "apply", str(file), "--wait", "60")
        try:
            site.guest.run_on("n2")
            site.guest.announce()
            await site.only_on("n2")
            with pytest.raises(TimeoutError):
                await stream.talk(seconds=2)
        finally:
            await site.romana("policy", "delete", "guarded", "--yes", "--wait", "60")


@pytest.mark.parametrize("step", ["prepared", "attached", "ready"])
async def test_an_aborted_move_leaves_no_trace(site: Site, step: str) -> None:
    before = traces(site.cluster, [site.guest.address])
    async with streams(site, PEERS) as found:
        await site.romana("endpoint", "move", VM, "--to", "n2")
        if step != "prepared":
            await site.attach("n2")
        if step == "ready":
            await site.ready("n2")
        await site.romana("endpoint", "move", VM, "--abort")
        await site.only_on("n1")

        async def gone() -> bool:
            return traces(site.cluster, [site.guest.address]) == before

        await site.until(gone)
        for stream in found.values():
            await stream.talk()
        error = await site.romana("endpoint", "move", VM, "--to", "n2", "--activate", code=4)
        assert "NOT_MOVING" in error
