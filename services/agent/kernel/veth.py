"""The link of an endpoint: a veth pair into its namespace, or a VM's tap that is there already.

Inside the namespace: the addresses as /32 and /128, and per family one default route by way of
169.254.1.1 or fe80::1, on-link, with a permanent neighbour entry for it (the host end's MAC is the
same everywhere). So nothing in there depends on the network's real gateway, no address of the
subnet is taken for a neighbour, and no packet waits for ARP; Calico does the same with 169.254.1.1.
The host end answers ARP for everything it has a route to (`proxy_arp`, without the delay that the
kernel has for it), which is what a VM needs, whose guest configures itself.

Routes to the endpoint are not made here but by the reconciler.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from services.agent.kernel import endpoint_names, namespace, rtnetlink
from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.departures import Departures
from services.agent.kernel.rtnetlink import Link, RtSocket
from services.common.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    NotFound,
    RomanaError,
    WrongState,
)
from services.common.model.names import EndpointName
from services.common.model.network import Address

_T = TypeVar("_T")

GATEWAY_4: Final = IPv4Address("169.254.1.1")
GATEWAY_6: Final = IPv6Address("fe80::1")
THREADS: Final = 4
"""The kernel makes one link at a time (RTNL), so more would only wait for each other."""
DELETING_THREADS: Final = 16
"""Of those that delete one: they wait for what the kernel does after it has let go of RTNL."""

_NET: Final = "/proc/sys/net/"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the link of a container shall be."""

    name: EndpointName
    host_interface: str
    namespace: str
    """Path."""
    interface: str
    """Inside the namespace."""
    mac: str
    mtu: int
    """Bytes."""
    addresses: tuple[Address, ...]


def gateway_of(address: Address) -> Address:
    """The next hop inside an endpoint for an address' family."""
    return GATEWAY_4 if isinstance(address, IPv4Address) else GATEWAY_6


class Links:
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

    async def make(self, wiring: Wiring) -> None:
        """Makes the pair as it shall be; one of that name that is left over is replaced.

        Raises:
            NotFound: There is no such namespace.
            InvalidInput: It is none.
            AlreadyExists: The interface inside it is taken.
            WrongState: The kernel refused.
        """
        await self._run(lambda: _make(wiring))

    async def prepare(self, wiring: Wiring) -> None:
        """Makes the pair, down and without addresses; raises as `make` does."""
        await self._run(lambda: _prepare(wiring))

    async def complete(self, wiring: Wiring) -> None:
        """Makes of a prepared pair what `make` makes; raises as it does, and leaves the pair."""
        await self._run(lambda: _complete(wiring))

    async def adopt(self, interface: str, addresses: Sequence[Address]) -> Link:
        """Prepares an interface that is there already; NotFound if it is not."""
        return await self._run(lambda: _adopt(interface, addresses))

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
        await self._run(lambda: _settings(interface, _host_settings(on=False)))

    async def find(self, interface: str) -> Link | None:
        """An interface of the node's namespace."""
        return await self._run(lambda: _find(interface))

    async def ours(self) -> list[Link]:
        """The host ends of all pairs that are ours, by name and kind."""
        return await self._run(_ours)

    async def problems(self, wiring: Wiring) -> list[str]:
        """What is missing or different, for people; empty: nothing."""
        return await self._run(lambda: _problems(wiring))

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


def _make(wiring: Wiring) -> None:
    _prepare(wiring)
    try:
        _complete(wiring)
    except BaseException:
        _withdraw(wiring)
        raise


def _prepare(wiring: Wiring) -> None:
    with namespace.opened(wiring.namespace) as there, RtSocket() as host:
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
        _settings(wiring.host_interface, _host_settings(on=True))
    except BaseException:
        _withdraw(wiring)
        raise


def _complete(wiring: Wiring) -> None:
    with namespace.opened(wiring.namespace) as there, RtSocket() as host:
        namespace.inside(there, lambda: _fill(wiring))
        link = _there(host.link(wiring.host_interface), wiring)
        host.do([rtnetlink.set_up(link.index), *_host_addresses(link.index, wiring.addresses)])


def _withdraw(wiring: Wiring) -> None:
    """Deletes a pair that could not be finished."""
    with contextlib.suppress(OSError), RtSocket() as host:
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


def _there(link: Link | None, wiring: Wiring) -> Link:
    """A pair that was just made is gone only if its namespace is."""
    if link is None:
        raise NotFound(f"{wiring.namespace} went away meanwhile", "NAMESPACE_NOT_FOUND")
    return link


def _fill(wiring: Wiring) -> None:
    """Sets up the end inside the namespace, from inside it."""
    if any(isinstance(address, IPv6Address) for address in wiring.addresses):
        # before it is up: its link-local address is usable at once
        _write(f"ipv6/conf/{wiring.interface}/disable_ipv6", "0")
        _write(f"ipv6/conf/{wiring.interface}/accept_dad", "0")
    with RtSocket() as inner:
        link = _there(inner.link(wiring.interface), wiring)
        gateways = list(dict.fromkeys(gateway_of(address) for address in wiring.addresses))
        inner.do(
            [
                rtnetlink.set_up(link.index),
                *(
                    rtnetlink.add_address(link.index, address, address.max_prefixlen)
                    for address in wiring.addresses
                ),
                *(
                    rtnetlink.add_neighbour(link.index, gateway, endpoint_names.HOST_MAC)
                    for gateway in gateways
                ),
                *(rtnetlink.add_default(link.index, gateway) for gateway in gateways),
            ]
        )


def _adopt(interface: str, addresses: Sequence[Address]) -> Link:
    with RtSocket() as host:
        link = host.link(interface)
        if link is None:
            raise NotFound(
                f"there is no interface {interface!r}", "INTERFACE_NOT_FOUND", {"name": interface}
            )
        _settings(interface, _host_settings(on=True))
        host.do([rtnetlink.set_up(link.index), *_host_addresses(link.index, addresses)])
        return link


def _delete(interface: str) -> bool:
    with RtSocket() as host:
        (code,) = host.attempt([rtnetlink.delete_link(interface)])
    if code not in {0, errno.ENODEV}:
        raise OSError(code, errno.errorcode.get(code, str(code)))
    return code == 0


def _find(interface: str) -> Link | None:
    with RtSocket() as host:
        return host.link(interface)


def _ours() -> list[Link]:
    with RtSocket() as host:
        return [
            link
            for link in host.links()
            if link.kind == "veth" and endpoint_names.is_host_interface(link.name)
        ]


def _problems(wiring: Wiring) -> list[str]:
    found: list[str] = []
    with RtSocket() as host:
        link = host.link(wiring.host_interface)
    if link is None:
        found.append(f"the node has no interface {wiring.host_interface}")
    elif not link.up:
        found.append(f"{wiring.host_interface} is down")
    try:
        with namespace.opened(wiring.namespace) as there:
            found += namespace.inside(there, lambda: _problems_inside(wiring))
    except RomanaError as error:
        found.append(error.message)
    return found


def _problems_inside(wiring: Wiring) -> list[str]:
    with RtSocket() as inner:
        link = inner.link(wiring.interface)
        if link is None:
            return [f"{wiring.namespace} has no interface {wiring.interface}"]
        where = f"{wiring.interface} in {wiring.namespace}"
        found = [] if link.up else [f"{where} is down"]
        if link.mac != wiring.mac:
            found.append(f"{where} has the MAC address {link.mac}, not {wiring.mac}")
        if link.mtu != wiring.mtu:
            found.append(f"{where} has an MTU of {link.mtu}, not {wiring.mtu}")
        has = inner.addresses(link.index)
        found += [f"{where} lacks {address}" for address in wiring.addresses if address not in has]
        routes = inner.default_gateways(link.index)
        found += [
            f"{where} lacks the default route by way of {gateway}"
            for gateway in dict.fromkeys(gateway_of(address) for address in wiring.addresses)
            if gateway not in routes
        ]
        return found


def _host_addresses(index: int, addresses: Sequence[Address]) -> list[rtnetlink.Message]:
    """The gateway's address is that of the host end: only for IPv6, where it is link-local.

    169.254.1.1 is not given to it: the kernel would take it for the source of what the node itself
    sends to the endpoint.
    """
    if any(isinstance(address, IPv6Address) for address in addresses):
        return [rtnetlink.add_address(index, GATEWAY_6, 64)]
    return []


def _host_settings(*, on: bool) -> dict[str, str]:
    """The host end's settings below /proc/sys/net, with `*` for the interface.

    `rp_filter` is strict whatever the node has elsewhere: a packet with a source that is not the
    endpoint's own has no way back through this interface, and goes no further.
    """
    return {
        "ipv4/conf/*/rp_filter": "1" if on else "0",
        "ipv4/conf/*/proxy_arp": "1" if on else "0",
        "ipv4/neigh/*/proxy_delay": "0" if on else "80",
        "ipv4/conf/*/forwarding": "1",
        "ipv6/conf/*/accept_dad": "0" if on else "1",
        "ipv6/conf/*/accept_ra": "0",
        "ipv6/conf/*/forwarding": "1",
        "ipv6/conf/*/proxy_ndp": "1" if on else "0",
        "ipv6/neigh/*/proxy_delay": "0" if on else "80",
    }


def _settings(interface: str, values: dict[str, str]) -> None:
    for path, value in values.items():
        _write(path.replace("*", interface), value)


def _write(path: str, value: str) -> None:
    """Writes a setting below /proc/sys/net, by system calls: there are nine for every endpoint.

    A setting of IPv6 that is not there, on a kernel without it, is not missed.
    """
    try:
        descriptor = os.open(_NET + path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
