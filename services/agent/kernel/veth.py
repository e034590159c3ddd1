"""The link of an endpoint: a veth pair into its namespace, or a VM's tap that is there already.

Its ends are `services.agent.kernel.host_end` and `inner_end`. Routes to the endpoint are not made
here but by the reconciler.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from services.agent.kernel import endpoint_names, host_end, inner_end, namespace, rtnetlink
from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.departures import Departures
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.wiring import Difference, Wiring
from services.common.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    NotFound,
    RomanaError,
    WrongState,
)

_T = TypeVar("_T")

THREADS: Final = 4
"""The kernel makes one link at a time (RTNL), so more would only wait for each other."""
DELETING_THREADS: Final = 16
"""Of those that delete one: they wait for what the kernel does after it has let go of RTNL."""


class EndpointLinks:
    """Makes, deletes and reads back links of endpoints. Its errors are RomanaErrors."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="romana-links")
        self._deleting = ThreadPoolExecutor(DELETING_THREADS, thread_name_prefix="romana-unlink")
        self._departures = Departures()

    def close(self) -> None:
        """Ends the threads; what was begun is done."""
        self._departures.close()
        self._threads.shutdown()
        self._deleting.shutdown()

    async def make(self, wiring: Wiring) -> bool:
        """Makes the pair as it shall be; one of that name that is left over is replaced.

        Returns:
            Whether it is beside another default route, see `inner_end`.

        Raises:
            NotFound: There is no such namespace.
            InvalidInput: It is none.
            AlreadyExists: The interface inside it is taken.
            WrongState: The kernel refused.
        """
        return await self._run(lambda: _make(wiring))

    async def prepare(self, wiring: Wiring) -> None:
        """Makes the pair, down and without addresses; raises as `make` does."""
        await self._run(lambda: _prepare(wiring))

    async def complete(self, wiring: Wiring) -> bool:
        """Makes of a prepared pair what `make` makes; raises as it does, and leaves the pair."""
        return await self._run(lambda: _complete(wiring))

    async def adopt(self, wiring: Wiring) -> None:
        """Prepares an interface that is there already; NotFound if it is not."""
        await self._run(lambda: _adopt(wiring))

    async def delete(self, interface: str) -> bool:
        """Deletes a link of ours with both ends; False: there was none.

        Both are out of their namespaces when it returns; the kernel may not be done with them yet.
        """
        assert endpoint_names.is_host_interface(interface)
        gone = self._departures.expect(interface)
        answer = asyncio.get_running_loop().run_in_executor(
            self._deleting, lambda: _translated(lambda: _delete(interface))
        )
        try:
            await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else True
        finally:
            gone.cancel()
            answer.add_done_callback(_noted)

    async def disown(self, interface: str) -> None:
        """Undoes `adopt`; does nothing if the interface is gone."""
        await self._run(lambda: host_end.disown(interface))

    async def find(self, interface: str) -> Link | None:
        return await self._run(lambda: _find(interface))

    async def ours(self) -> list[Link]:
        """The host ends of all pairs that are ours, by name and kind."""
        return await self._run(_ours)

    async def all(self) -> dict[str, Link]:
        """All interfaces of the node's namespace, by name."""
        return await self._run(_all)

    async def differences(self, wiring: Wiring) -> list[Difference]:
        """What is not as it shall be."""
        return await self._run(lambda: _differences(wiring))

    async def mend(self, wiring: Wiring) -> None:
        """Puts right what can be without making the link anew."""
        await self._run(lambda: _mend(wiring))

    async def leads_to(self, wiring: Wiring) -> bool:
        """Whether a pair's other end is where it shall be, in a namespace that is still there."""
        return await self._run(lambda: _leads_to(wiring))

    async def unroute(self, wiring: Wiring) -> None:
        """Removes what a link leaves in its namespace, if that is there.

        That is only for one that was beside another default route: all else goes with the link.
        """
        await self._run(lambda: _unroute(wiring))

    async def routed(self, path: str) -> frozenset[int]:
        """The families that have a default route in a namespace."""
        return await self._run(lambda: _routed(path))

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await in_thread(lambda: _translated(work), self._threads)


def _noted(answer: asyncio.Future[bool]) -> None:
    """Whoever waited has the error too, unless the interface was gone before it."""
    if not answer.cancelled():
        answer.exception()


def _translated(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except RomanaError:
        raise
    except PermissionError as error:
        raise Forbidden(
            "the kernel does not let the agent do that: it needs CAP_NET_ADMIN and CAP_SYS_ADMIN",
            "NO_CAPABILITY",
        ) from error
    except OSError as error:
        raise WrongState(f"the kernel refused: {error.strerror}", "KERNEL_REFUSED") from error


def _make(wiring: Wiring) -> bool:
    _prepare(wiring)
    try:
        return _complete(wiring)
    except BaseException:
        _withdraw(wiring)
        raise


def _prepare(wiring: Wiring) -> None:
    with namespace.opened(wiring.namespace) as there, Netlink() as host:
        pair = rtnetlink.new_veth(
            name=wiring.host_interface,
            mac=endpoint_names.HOST_MAC,
            peer=wiring.interface,
            peer_mac=wiring.mac,
            mtu=wiring.mtu,
            namespace=there,
        )
        for _ in range(2):
            code, _ = host.attempt(
                [
                    pair,
                    rtnetlink.set_alias(wiring.host_interface, endpoint_names.alias(wiring.name)),
                ]
            )
            if code != errno.EEXIST or host.attempt(
                [rtnetlink.delete_link(wiring.host_interface)]
            ) == [errno.ENODEV]:
                break
        _made(code, wiring)
    try:
        host_end.configure(wiring)
    except BaseException:
        _withdraw(wiring)
        raise


def _complete(wiring: Wiring) -> bool:
    with namespace.opened(wiring.namespace) as there, Netlink() as host:
        beside = namespace.inside(there, lambda: inner_end.fill(wiring))
        link = rtnetlink.link(host, wiring.host_interface)
        if link is None or beside is None:  # a pair that was just made
            raise NotFound(f"{wiring.namespace} went away meanwhile", "NAMESPACE_NOT_FOUND")
        host.do([rtnetlink.set_up(link.index), *host_end.addresses(link.index, wiring)])
        return beside


def _withdraw(wiring: Wiring) -> None:
    """Deletes a pair that could not be finished."""
    with contextlib.suppress(OSError), Netlink() as host:
        host.attempt([rtnetlink.delete_link(wiring.host_interface)])


def _made(code: int, wiring: Wiring) -> None:
    """Raises what a refused pair means."""
    if code == errno.EEXIST:
        raise AlreadyExists(
            f"{wiring.namespace} has an interface {wiring.interface!r} already",
            "INTERFACE_TAKEN",
            {"interface": wiring.interface, "namespace": wiring.namespace[:200]},
        )
    if code in {errno.EINVAL, errno.ERANGE}:
        raise InvalidInput.at(
            "spec",
            f"the kernel takes no interface {wiring.interface!r} with an MTU of {wiring.mtu}",
        )
    if code:
        raise OSError(code, errno.errorcode.get(code, str(code)))


def _adopt(wiring: Wiring) -> None:
    interface = wiring.host_interface
    with Netlink() as host:
        link = rtnetlink.link(host, interface)
        if link is None:
            raise NotFound(
                f"there is no interface {interface!r}", "INTERFACE_NOT_FOUND", {"name": interface}
            )
        host_end.adopt(host, link, wiring)


def _delete(interface: str) -> bool:
    with Netlink() as host:
        (code,) = host.attempt([rtnetlink.delete_link(interface)])
    if code not in {0, errno.ENODEV}:
        raise OSError(code, errno.errorcode.get(code, str(code)))
    return code == 0


def _find(interface: str) -> Link | None:
    with Netlink() as host:
        return rtnetlink.link(host, interface)


def _ours() -> list[Link]:
    with Netlink() as host:
        return [
            link
            for link in rtnetlink.links(host)
            if link.kind == "veth" and endpoint_names.is_host_interface(link.name)
        ]


def _all() -> dict[str, Link]:
    with Netlink() as host:
        return {link.name: link for link in rtnetlink.links(host)}


def _differences(wiring: Wiring) -> list[Difference]:
    found = list(host_end.differences(wiring))
    if wiring.namespace:
        try:
            with namespace.opened(wiring.namespace) as there:
                found += namespace.inside(there, lambda: list(inner_end.differences(wiring)))
        except RomanaError as error:
            found.append(Difference(error.message))
    return found


def _mend(wiring: Wiring) -> None:
    host_end.mend(wiring)
    if wiring.namespace:
        with namespace.opened(wiring.namespace) as there:
            namespace.inside(there, lambda: inner_end.mend(wiring))


def _leads_to(wiring: Wiring) -> bool:
    if _find(wiring.host_interface) is None:
        return False
    try:
        with namespace.opened(wiring.namespace) as there:
            return namespace.inside(there, lambda: inner_end.is_there(wiring))
    except (NotFound, InvalidInput):
        return False


def _routed(path: str) -> frozenset[int]:
    with namespace.opened(path) as there:
        return namespace.inside(there, inner_end.routed)


def _unroute(wiring: Wiring) -> None:
    with (
        contextlib.suppress(NotFound, InvalidInput),
        namespace.opened(wiring.namespace) as there,
    ):
        namespace.inside(there, lambda: inner_end.unroute(wiring.addresses))
