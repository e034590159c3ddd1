"""Rounds on the fake kernel: they reach what is planned, whatever was there before."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.kernel.diff import diff
from services.agent.kernel.endpoint_names import host_interface
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import Interface, KernelState, Kind
from services.agent.model import EndpointAddress, LocalEndpoint, Myself, Remote
from services.agent.routing.plan import Planner, Wanted, plan
from services.agent.routing.reconcile_round import Outcome, Task, perform
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment
from tests.fakes.kernel import FakeKernel

ME = NodeName("n0")
NODES = [NodeName(f"n{number}") for number in range(4)]
CIDRS = {"a": "10.1.0.0/24", "b": "10.2.0.0/24", "c": "fd01::/120"}
LINKS = {"a": "192.168.1.{}", "b": "192.168.2.{}", "c": "fd00::{}"}


@st.composite
def remotes(draw: st.DrawFn) -> Remote:
    networks, peers, routes = {}, {}, {}
    for text in draw(st.sets(st.sampled_from(sorted(CIDRS)))):
        name = NetworkName(text)
        cidr = ipaddress.ip_network(CIDRS[text])
        gateway = draw(st.sampled_from([None, ipaddress.ip_address(LINKS[text].format(1))]))
        mode = draw(st.sampled_from(list(Mode)))
        networks[name] = Network(name, cidr, cidr.max_prefixlen - 3, gateway=gateway, mode=mode)
        for node in draw(st.sets(st.sampled_from(NODES))) | {ME}:
            number = draw(st.integers(10, 13)) if node != ME else 9
            peers[name, node] = ipaddress.ip_address(LINKS[text].format(number))
        blocks = list(cidr.subnets(prefixlen_diff=4))
        for block in draw(st.sets(st.sampled_from(blocks), max_size=6)):
            routes[name, block] = draw(st.sampled_from(NODES))
    return Remote(networks, peers, routes)


@st.composite
def endpoint_sets(draw: st.DrawFn) -> dict[EndpointName, LocalEndpoint]:
    found = {}
    for number in draw(st.sets(st.integers(0, 4))):
        name = EndpointName(f"e{number}")
        networks = draw(st.sets(st.sampled_from(sorted(CIDRS)), min_size=1))
        addresses = tuple(
            EndpointAddress(ipaddress.ip_network(CIDRS[net])[number + 17], NetworkName(net))
            for net in sorted(networks)
        )
        found[name] = LocalEndpoint(
            name, Tenant("t"), Segment(""), f"h{draw(st.integers(0, 5))}", addresses
        )
    return found


def kernel() -> FakeKernel:
    own = ("192.168.1.9/24", "192.168.2.9/24", "fd00::9/64")
    interfaces = [
        Interface("e0", 2, addresses=tuple(ipaddress.ip_interface(text) for text in own)),
        *(Interface(f"h{number}", 10 + number) for number in range(5)),  # h5 is missing
    ]
    return FakeKernel(interfaces)


ATTACHMENTS = st.sampled_from(
    [
        (),
        (Attachment(NetworkName("a"), "e0.5", None, 5, "e0"),),
        (
            Attachment(NetworkName("a"), "e0.5", None, 5, "e0"),
            Attachment(NetworkName("b"), "e0.6", None, 6, "e0"),
        ),
    ]
)


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    return Wanted(
        Myself(ME, draw(ATTACHMENTS)),
        draw(remotes()),
        draw(endpoint_sets()),
        {},
        Numbers.none(),
    )


def run(
    fake: FakeKernel,
    wanted: Wanted,
    memory: Planner | None = None,
    last: Outcome | None = None,
) -> Outcome:
    task = Task(
        replace(wanted, numbers=last.numbers if last else wanted.numbers),
        None,
        frozenset() if last else frozenset(Kind),
        frozenset(),
        last.actual if last else KernelState(),
        last.desired if last else None,
        frozenset(),
    )
    return perform(fake, task, memory or Planner(), lambda _: None)


@given(wishes())
@settings(max_examples=300, deadline=None)
def test_a_round_reaches_the_plan_and_another_does_nothing(wanted: Wanted) -> None:
    fake = kernel()
    outcome = run(fake, wanted)
    assert not outcome.refused
    assert fake.ours == outcome.desired.state == outcome.actual
    steps = len(fake.steps)
    again = run(fake, wanted)
    assert len(fake.steps) == steps
    assert again.desired.state == outcome.desired.state


@given(st.lists(wishes(), min_size=2, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_end_does_not_depend_on_the_way(wanted: list[Wanted]) -> None:
    fake, memory = kernel(), Planner()
    last = None
    for one in wanted:
        last = run(fake, one, memory, last)
        assert not last.refused
        assert fake.ours == last.actual == last.desired.state
    assert last is not None
    fresh = kernel()
    final = replace(wanted[-1], numbers=last.numbers)
    desired = plan(replace(final, interfaces=fake.interfaces()))
    run(fresh, final)
    assert fake.ours == desired.state
    assert fresh.ours.rules == fake.ours.rules


@given(st.lists(wishes(), min_size=2, max_size=2))
@settings(max_examples=200, deadline=None)
def test_what_stays_is_there_all_the_time(wanted: list[Wanted]) -> None:
    fake = kernel()
    last = run(fake, wanted[0])
    before = fake.ours
    fake.steps.clear()
    run(fake, wanted[1], last=last)
    after = fake.ours
    for _, during in fake.steps:
        for kind in Kind:
            # Routes by a VLAN link that goes away are gone with it, whatever replaces them later.
            stays = before.of(kind).keys() & after.of(kind).keys()
            assert stays <= during.of(kind).keys() or before.links != after.links


@given(wishes(), wishes())
@settings(max_examples=200, deadline=None)
def test_diff_from_one_state_to_another_leads_there(one: Wanted, two: Wanted) -> None:
    first, second = (run(kernel(), wanted).actual for wanted in (one, two))
    reached = {kind: dict(first.of(kind)) for kind in Kind}
    for step in diff(second, first):
        objects = reached[step.kind]
        assert not step.additions.keys() & objects.keys()
        objects.update(step.additions)
        assert step.replacements.keys() <= objects.keys()
        objects.update(step.replacements)
        for key in step.removals:
            del objects[key]
    assert reached == {kind: dict(second.of(kind)) for kind in Kind}
    assert diff(second, second) == ()


@given(wishes())
@settings(max_examples=100, deadline=None)
def test_an_interface_that_was_made_anew_gets_everything_back(wanted: Wanted) -> None:
    fake = kernel()
    last = run(fake, wanted)
    fake.renumber("e0")
    task = Task(
        replace(wanted, numbers=last.numbers),
        (),
        frozenset({Kind.LINK, Kind.NEXTHOP, Kind.PROXY}),
        frozenset({2}),
        last.actual,
        last.desired,
        frozenset(),
    )
    outcome = perform(fake, task, Planner(), lambda _: None)
    assert fake.ours == outcome.desired.state


@given(wishes())
@settings(max_examples=50, deadline=None)
def test_links_stay_while_it_is_not_known_who_wants_them(wanted: Wanted) -> None:
    fake = kernel()
    last = run(fake, wanted)
    forgotten = replace(wanted, myself=Myself(ME, ()), numbers=last.numbers)
    task = Task(
        forgotten,
        None,
        frozenset(Kind),
        frozenset(),
        KernelState(),
        None,
        frozenset(),
        keep_links=True,
    )
    perform(fake, task, Planner(), lambda _: None)
    assert fake.ours.links == last.desired.state.links
    run(fake, forgotten)
    assert fake.ours.links == {}


PAIRS = {name: host_interface(name) for name in map(EndpointName, ("w0", "w1", "w2", "w3"))}


@st.composite
def moments(draw: st.DrawFn) -> tuple[dict[EndpointName, LocalEndpoint], set[str], set[str]]:
    """Endpoints that come and go, by name; pairs that are there; prefixes that are another node's.

    Two may have the same address: one that came before the other went.
    """
    found = {}
    for name in draw(st.sets(st.sampled_from(sorted(PAIRS)))):
        number = draw(st.integers(0, 3))
        item = EndpointAddress(ipaddress.ip_network(CIDRS["a"])[number + 17], NetworkName("a"))
        found[name] = LocalEndpoint(
            name,
            Tenant("t"),
            Segment(""),
            PAIRS[name],
            (item,),
            create_time=draw(st.integers(0, 1)),
        )
    there = draw(st.sets(st.sampled_from(sorted(PAIRS.values()))))
    return found, there, draw(st.sets(st.sampled_from(["10.1.0.64/28", "10.1.0.80/28"])))


@given(st.sampled_from(list(Mode)), st.lists(moments(), min_size=2, max_size=6))
@settings(max_examples=200, deadline=None)
def test_what_little_has_changed_is_done_as_if_all_were_looked_at(
    mode: Mode, many: list[tuple[dict[EndpointName, LocalEndpoint], set[str], set[str]]]
) -> None:
    fake, planner, last = kernel(), Planner(), None
    gateway = ipaddress.ip_address(LINKS["a"].format(1))
    net = Network(
        NetworkName("a"), ipaddress.ip_network(CIDRS["a"]), 29, gateway=gateway, mode=mode
    )
    peers = {(net.name, ME): ipaddress.ip_address(LINKS["a"].format(9))}
    peers[net.name, NODES[1]] = ipaddress.ip_address(LINKS["a"].format(11))
    here: set[str] = set()
    held: set[str] = set()
    index = 100
    for endpoints, there, prefixes in many:
        down = {fake.interfaces()[name].index for name in here - there}
        for name in here - there:
            fake.remove_interface(name)
        for name in there - here:
            index += 1
            fake.add_interface(Interface(name, index))
        here = there
        routes = {(net.name, ipaddress.ip_network(text)): NODES[1] for text in prefixes}
        remote = Remote({net.name: net}, peers, routes)
        changed = {(net.name, ipaddress.ip_network(text)) for text in held ^ prefixes}
        held = prefixes
        numbers = last.numbers if last else Numbers.none()
        task = Task(
            Wanted(Myself(ME, ()), remote, endpoints, {}, numbers),
            changed if last else None,
            frozenset() if last else frozenset(Kind),
            frozenset(down),
            last.actual if last else KernelState(),
            last.desired if last else None,
            frozenset(),
        )
        last = perform(fake, task, planner, lambda _: None)
        fresh = plan(replace(task.wanted, numbers=last.numbers, interfaces=fake.interfaces()))
        assert not last.refused
        assert last.desired.state == fresh.state == last.actual == fake.ours
        assert (last.desired.problems, last.desired.owners) == (fresh.problems, fresh.owners)
