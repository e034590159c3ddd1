"""Of endpoints' interfaces only those are looked at that can have changed; of others all."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from services.agent.kernel import endpoint_names
from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.heard import Heard
from services.agent.kernel.state import Kind, Look
from services.agent.kernel.watch import Watch
from services.agent.model import Myself, Remote
from services.agent.routing.reconcile import Reconciler
from services.common.model.names import EndpointName, NodeName
from tests.support.netns import Namespace, Namespaces, enter

SECONDS = 10.0
MOST = 100
"""Rounds in a moment."""
OURS = endpoint_names.host_interface(EndpointName("web-1"))
LATER = endpoint_names.host_interface(EndpointName("web-2"))


def _names(home: Namespace, folder: Path, looks: list[tuple[str, Look | None]]) -> list[set[str]]:
    """Which interfaces are known after each command and look."""

    def work() -> list[set[str]]:
        async def run() -> list[set[str]]:
            kernel = KernelDrivers(folder)
            await kernel.start()
            found = []
            for command, look in looks:
                if command:
                    home.run(command)
                seen = await kernel.run(lambda look=look: kernel.interfaces(look))
                found.append(set(seen) - {"lo"})
            await kernel.close()
            return found

        enter(home.path)
        return asyncio.run(run())

    return home.call(work)


def _look(*at: str, gone: tuple[str, ...] = ()) -> Look:
    return Look(frozenset(at), frozenset(gone))


async def test_a_look_at_one_sees_it_come_and_go_and_no_other(tmp_path: Path) -> None:
    with Namespaces() as made:
        home = made.new("home")
        found = await asyncio.to_thread(
            _names,
            home,
            tmp_path,
            [
                ("", None),
                (f"ip link add {OURS} type veth peer name x0", _look(OURS)),
                ("ip link add other0 type veth peer name other1", _look(LATER)),
                (f"ip link del {OURS}", _look(OURS)),
                ("", None),
            ],
        )
        assert found == [set(), {OURS}, {OURS}, set(), {"other0", "other1"}]


async def test_one_that_nobody_needs_is_forgotten_while_it_is_there(tmp_path: Path) -> None:
    with Namespaces() as made:
        home = made.new("home")
        home.run(f"ip link add {OURS} type veth peer name x0")
        looks = [("", None), ("", _look(gone=(OURS,))), ("", None)]
        found = await asyncio.to_thread(_names, home, tmp_path, looks)
        assert found == [{OURS, "x0"}, {"x0"}, {OURS, "x0"}]


def _heard(home: Namespace, commands: list[str]) -> Heard:
    """What is heard of some commands, all together."""

    def work() -> Heard:
        async def run() -> Heard:
            kinds: set[Kind] = set()
            down: set[int] = set()
            endpoints, last = False, asyncio.Event()

            def note(heard: Heard) -> None:
                nonlocal endpoints
                kinds.update(heard.kinds - {Kind.RULE})
                down.update(heard.down)
                endpoints = endpoints or heard.endpoints
                if Kind.RULE in heard.kinds:
                    last.set()

            watch = Watch({1})
            watch.start(note)
            for command in [*commands, "ip rule add pref 5000 lookup 77"]:
                home.run(command)
            async with asyncio.timeout(SECONDS):
                await last.wait()
            watch.close()
            return Heard(frozenset(kinds), frozenset(down), endpoints)

        enter(home.path)
        return asyncio.run(run())

    return home.call(work)


async def test_what_endpoints_links_do_is_no_reason_to_read_links() -> None:
    with Namespaces() as made:
        home, pod = made.new("home"), made.new("pod")
        commands = [
            f"ip link add {OURS} type veth peer name eth0 netns {Path(pod.path).name}",
            f"ip link set {OURS} up",
        ]
        assert await asyncio.to_thread(_heard, home, commands) == Heard(endpoints=True)


async def test_an_endpoints_link_that_goes_is_heard_of_with_its_index() -> None:
    with Namespaces() as made:
        home, pod = made.new("home"), made.new("pod")
        home.run(
            f"ip link add {OURS} index 77 type veth peer name eth0 netns {Path(pod.path).name}"
        )
        home.run(f"ip link set {OURS} up")
        heard = await asyncio.to_thread(_heard, home, [f"ip link del {OURS}"])
        assert heard == Heard(down=frozenset({77}), endpoints=True)


async def test_what_any_other_link_does_is_a_reason_to_read_links() -> None:
    with Namespaces() as made:
        home = made.new("home")
        heard = await asyncio.to_thread(
            _heard, home, ["ip link add other0 type veth peer name other1"]
        )
        assert heard == Heard(kinds=frozenset({Kind.LINK}))


async def test_a_link_that_comes_before_ipam_has_said_anything_does_not_keep_the_loop_busy(
    tmp_path: Path,
) -> None:
    def work() -> int:
        async def run() -> int:
            rounds, begun = 0, asyncio.Event()

            def ended() -> None:
                nonlocal rounds
                rounds += 1
                begun.set()
                if rounds == MOST:  # an end, where nobody else would get a turn
                    reconciler.set_remote(Remote())

            reconciler = Reconciler(KernelDrivers(tmp_path), Myself(NodeName("n1"), ()))
            reconciler.on_change(ended)
            task = asyncio.create_task(reconciler.run())
            await begun.wait()
            home.run("ip link add other0 type veth peer name other1")
            await asyncio.sleep(0.3)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return rounds

        enter(home.path)
        return asyncio.run(run())

    with Namespaces() as made:
        home = made.new("home")
        rounds = await asyncio.to_thread(lambda: home.call(work))
        assert rounds < MOST
