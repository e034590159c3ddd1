"""Rules that lead through devices, and whether a device sees what they say and nothing else."""

from __future__ import annotations

from collections import Counter

from services.common.model.devices import DeviceGroupName
from services.common.model.rules import Action, CompiledRule, Direction, PortMatch, Protocol
from tests.kernel.policy.rules import rules
from tests.kernel.steering.firewall import Flow, capture, heard_of, outgoing
from tests.kernel.steering.site import GROUP, Fleet, Talk, datagrams
from tests.support.netns import Namespace
from tests.support.waiting import becomes

TCP, UDP = Protocol.TCP, Protocol.UDP
STEERED, DIRECT = 80, 81


def via(*ports: PortMatch, group: DeviceGroupName = GROUP) -> CompiledRule:
    return CompiledRule(0, Action.ALLOW, any_peer=True, ports=ports, via=group)


def ports(protocol: Protocol, number: int) -> PortMatch:
    return PortMatch(protocol, number, number)


ANY_OTHER = CompiledRule(1, Action.ALLOW, any_peer=True)
TO_80 = (via(ports(TCP, STEERED), ports(UDP, STEERED)), ANY_OTHER)
EVERYTHING = (via(),)


def inside(fleet: Fleet, name: str) -> Namespace:
    return next(a.insides[name] for a in fleet.agents.values() if name in a.insides)


def address_of(fleet: Fleet, name: str, version: int) -> str:
    endpoint = next(
        a.node.endpoints[name] for a in fleet.agents.values() if name in a.node.endpoints
    )
    return next(str(one.address) for one in endpoint.addresses if one.address.version == version)


async def steer(fleet: Fleet, name: str, direction: Direction, *entries: CompiledRule) -> None:
    agent = next(a for a in fleet.agents.values() if name in a.insides)
    agent.give(name, rules("via", *entries, direction=direction))
    await fleet.settle()


def see(fleet: Fleet, version: int, source: str, target: str) -> None:
    """The one device sees every packet of what is for port STEERED, both directions, by TCP and
    UDP, and none of what is for DIRECT."""
    one, other = inside(fleet, source), inside(fleet, target)
    here, there = address_of(fleet, source, version), address_of(fleet, target, version)
    (device,) = fleet.devices
    device.seen()
    with Talk(one, other, there, DIRECT) as talk:
        assert talk.round_trip()
    assert not between(device.seen(), here, there)
    with one.call(lambda: capture("eth0")) as mine, other.call(lambda: capture("eth0")) as its:
        with Talk(one, other, there, STEERED) as talk:
            assert talk.round_trip()
            assert talk.round_trip()
            talk.finish()
        assert datagrams(one, other, there, STEERED, 20) == 20
        seen, sent = Counter[Flow](), Counter[Flow]()

        def all_seen() -> bool:
            seen.update(between(device.seen(), here, there))
            sent.update(between(outgoing(mine) + outgoing(its), here, there))
            return seen == sent

        assert becomes(all_seen), (seen, sent)
    assert seen[TCP_NUMBER, here, there] > 0
    assert seen[TCP_NUMBER, there, here] > 0
    assert (seen[UDP_NUMBER, here, there], seen[UDP_NUMBER, there, here]) == (20, 20)
    assert datagrams(one, other, there, DIRECT, 20) == 20
    assert not [flow for flow in device.seen() if flow[0] == UDP_NUMBER]
    assert device.invalid() == 0


def between(flows: Counter[Flow], here: str, there: str) -> Counter[Flow]:
    """Without what neighbours and routers say."""
    return Counter({flow: flows[flow] for flow in flows if {*flow[1:]} == {here, there}})


TCP_NUMBER, UDP_NUMBER = 6, 17


def ping(fleet: Fleet, version: int, source: str, target: str) -> None:
    """A ping passes the one device, both ways."""
    here, there = address_of(fleet, source, version), address_of(fleet, target, version)
    (device,) = fleet.devices
    one = inside(fleet, source)
    assert one.pings(there)  # the device gets to know its neighbours
    with one.call(lambda: capture("eth0")) as mine:
        device.seen()
        assert one.pings(there)
        seen, asked = Counter[Flow](), Counter[Flow]()

        def all_seen() -> bool:
            seen.update(between(device.seen(), here, there))
            asked.update(between(sum(heard_of(mine), Counter[Flow]()), here, there))
            return seen == asked

        assert becomes(all_seen), (seen, asked)
    protocol = 1 if version == 4 else 58
    assert {*seen} == {(protocol, here, there), (protocol, there, here)}
    assert device.invalid() == 0
