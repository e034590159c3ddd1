"""Tries what the agent asks of the kernel, by the agent's drivers, in a namespace of its own.

Nothing outside of that namespace changes, but that the kernel loads modules that it has not yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from services.agent.doctor.facts import (
    NEXTHOP,
    PROXY,
    RULE,
    TABLES,
    TRACKING,
    VETH,
    VLAN,
    Feature,
)
from services.agent.kernel import marks, namespace, rtnetlink
from services.agent.kernel.conntrack import Conntrack
from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems
from services.agent.kernel.iproute import Routing
from services.agent.kernel.neighbours import Neighbours
from services.agent.kernel.netlink import Netlink, Problem
from services.agent.kernel.nexthops import Nexthops
from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.nftables.table import Found
from services.agent.kernel.nftables.table_diff import diff
from services.agent.kernel.numbers import FIRST_NEXTHOP, FIRST_PRIORITY, FIRST_TABLE
from services.agent.kernel.rules import Rules
from services.agent.kernel.state import Key, Kind, Nexthop, Proxy, Rule, Value
from services.agent.rules.compose import Composer
from services.common.errors import RomanaError
from services.common.model.failsafe import Failsafe

_PAIR: Final = ("doctor0", "doctor1")
_GATEWAY: Final = ip_address("192.0.2.1")


def features() -> tuple[Feature, ...]:
    """All of them; raises OSError where a namespace cannot be made."""
    return namespace.apart(lambda: tuple(_tried()))


def _tried() -> Iterator[Feature]:
    routing = Routing()
    try:
        with Netlink() as kernel:
            yield _feature(VETH, lambda: _veth(routing))
            link = rtnetlink.link(kernel, _PAIR[0])
            index = link.index if link is not None else 1
            yield _feature(VLAN, lambda: _vlan(routing, index))
            nexthop = KindChange(Kind.NEXTHOP, {FIRST_NEXTHOP: Nexthop(index, _GATEWAY)}, {}, {})
            yield _feature(NEXTHOP, lambda: _first(Nexthops(kernel).apply(nexthop)))
            yield _feature(RULE, lambda: _rules(routing))
            proxy = KindChange(Kind.PROXY, {Proxy(index, _GATEWAY): None}, {}, {})
            yield _feature(PROXY, lambda: _first(Neighbours(kernel).apply(proxy)))
        yield _feature(TABLES, _table)
        yield _feature(TRACKING, _tracking)
    finally:
        routing.close()


def _feature(name: str, work: Callable[[], object]) -> Feature:
    try:
        problem = work()
    except RomanaError as error:
        return Feature(name, error.message)
    except OSError as error:
        return Feature(name, error.strerror or str(error))
    return Feature(name, "" if problem is None else str(problem))


def _first(problems: Problems) -> Problem | None:
    return next(iter(problems.values()), None)


def _veth(routing: Routing) -> Problem | None:
    here, there = _PAIR
    return routing.attempt(
        lambda ip: ip.link("set", ifname="lo", state="up"),
        lambda ip: ip.link("add", ifname=here, kind="veth", peer={"ifname": there}),
        lambda ip: ip.link("set", ifname=here, state="up"),
        lambda ip: ip.link("set", ifname=there, state="up"),
    )


def _vlan(routing: Routing, parent: int) -> Problem | None:
    return routing.attempt(
        lambda ip: ip.link("add", ifname="doctor2", kind="vlan", link=parent, vlan_id=2)
    )


def _rules(routing: Routing) -> Problem | None:
    wanted: dict[Key, Value] = {
        Rule(4, FIRST_PRIORITY, FIRST_TABLE, ip_network("192.0.2.0/24"), suppressed=0): None,
        Rule(4, FIRST_PRIORITY + 1, FIRST_TABLE, mark=0, mask=marks.OURS): None,
    }
    return _first(Rules(routing).apply(KindChange(Kind.RULE, wanted, {}, {})))


def _table() -> None:
    """The table of a node without endpoints: it has every kind of set and rule but few of them."""
    composer = Composer(Failsafe(), None)
    composer.refresh()
    nft = Nft()
    try:
        nft.apply(diff(composer.image(), Found()))
    finally:
        nft.close()


def _tracking() -> None:
    tracking = Conntrack()
    try:
        list(tracking.find([_GATEWAY]))
    finally:
        tracking.close()
