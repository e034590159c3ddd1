"""All interfaces of this namespace, to look at.

They are read after every attach and every few seconds, and a node has hundreds, so by messages of
our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from services.agent.kernel import rtnetlink, sysctls
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.state import Interface, InterfaceAddress, Look
from services.common.model.network import Address


def own_addresses(kernel: Netlink) -> frozenset[Address]:
    """All addresses of this namespace; raises KernelUnavailable."""
    return frozenset(address.ip for _, address in rtnetlink.addresses(kernel))


class Interfaces:
    """As they were when they were looked at last. Raises KernelUnavailable."""

    def __init__(
        self, kernel: Netlink, before: Callable[[str], str | None] = lambda _: None
    ) -> None:
        """`before`: what a sysctl was before it was ours; None: it is not."""
        self._kernel = kernel
        self._before = before
        self._known: dict[str, Interface] | None = None

    def read(self, look: Look | None = None) -> Mapping[str, Interface]:
        """All, by name. `look`: only these are looked at; the others are as they were when all
        were."""
        if look is None or self._known is None:
            self._known = self._all()
            return self._known
        found = {name: item for name, item in self._known.items() if name not in look.gone}
        for name in look.at:
            link = rtnetlink.link(self._kernel, name)
            if link is not None:
                found[name] = self._interface(link, ())  # an endpoint's: it has none that matter
            else:
                found.pop(name, None)
        self._known = found
        return found

    def _all(self) -> dict[str, Interface]:
        addresses: dict[int, list[InterfaceAddress]] = {}
        for index, address in rtnetlink.addresses(self._kernel):
            addresses.setdefault(index, []).append(address)
        return {
            link.name: self._interface(link, tuple(addresses.get(link.index, ())))
            for link in rtnetlink.links(self._kernel)
        }

    def _interface(self, link: Link, addresses: tuple[InterfaceAddress, ...]) -> Interface:
        return Interface(
            name=link.name,
            index=link.index,
            up=link.up,
            mtu=link.mtu,
            alias=link.alias,
            kind=link.kind,
            parent=link.parent,
            vlan_id=link.vlan_id,
            group=link.group,
            addresses=addresses,
            accept_ra=self._accept_ra(link.name, addresses),
        )

    def _accept_ra(self, name: str, addresses: Iterable[InterfaceAddress]) -> int:
        """As it would be without us; not looked up for endpoints' links, which are many and have
        link-local addresses only."""
        if all(address.ip.is_link_local for address in addresses):
            return 0
        own = f"net/ipv6/conf/{name}"
        value = self._before(f"{own}/accept_ra") or _sysctl(f"{own}/accept_ra")
        if value == "1":
            forwards = self._before("net/ipv6/conf/all/forwarding") or _sysctl(f"{own}/forwarding")
            return int(forwards == "0")
        return 2 if value == "2" else 0


def _sysctl(path: str) -> str:
    """Its value; empty: it is not there."""
    try:
        return (sysctls.ROOT / path).read_text().strip()
    except OSError:
        return ""
