"""What becomes of connections that are established when rules change."""

from __future__ import annotations

from services.common.model.rules import GroupId, PortMatch, Protocol
from tests.kernel.policy.enforcing import Agent, Connection
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import Site, identity, pages
from tests.support.waiting import PATIENCE

HOSTS = 2
TCP = Protocol.TCP


async def test_what_is_established_and_forbidden_is_cut(
    agent: Agent, connection: Connection
) -> None:
    assert connection.passes(connection.near, connection.far)
    agent.give(agent.site.hosts[1], rules("none"))
    await agent.settle()
    assert connection.is_cut(connection.near, connection.far)


async def test_the_other_side_does_not_begin_a_cut_connection_anew(
    agent: Agent, connection: Connection
) -> None:
    agent.give(agent.site.hosts[1], rules("none"))  # which may send to whom it likes
    await agent.settle()
    assert connection.is_cut(connection.far, connection.near)
    assert connection.is_cut(connection.near, connection.far)


async def test_what_stays_allowed_is_not_cut(agent: Agent, connection: Connection) -> None:
    agent.give(agent.site.hosts[1], rules("some", allow(PortMatch(TCP, 7777, 7777))))
    await agent.settle()
    assert connection.passes(connection.near, connection.far)
    assert connection.passes(connection.far, connection.near)


async def test_what_was_cut_goes_on_when_it_is_allowed_again(
    agent: Agent, connection: Connection
) -> None:
    b = agent.site.hosts[1]
    agent.give(b, rules("none"))
    await agent.settle()
    connection.near.sendall(b"x")
    agent.give(b)
    await agent.settle()
    connection.near.settimeout(PATIENCE)
    connection.far.settimeout(PATIENCE)
    assert connection.far.recv(1) == b"x"


async def test_a_member_that_leaves_a_group_is_cut(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.take(*pages("friends", a.addresses))
    agent.give(b, rules("friends", allow(groups=(GroupId("friends"),))))
    await agent.settle()
    connection = Connection(a, b, 7778)
    try:
        assert connection.passes(connection.near, connection.far)
        agent.take(removed=tuple(identity(page) for page in pages("friends", a.addresses)))
        await agent.settle()
        assert connection.is_cut(connection.near, connection.far)
    finally:
        connection.close()


async def test_connections_of_an_address_end_with_its_endpoint(
    agent: Agent, connection: Connection
) -> None:
    b = agent.site.hosts[1]
    agent.enforcement.put(b.name, None)
    await agent.settle()
    assert "7777" not in _connections(agent.site)


def _connections(site: Site) -> str:
    """All connections to b, as text: by the driver, for want of a command."""

    def read() -> str:
        from services.agent.kernel.conntrack import Conntrack

        conntrack = Conntrack()
        found = list(conntrack.find({site.hosts[1].addresses[0]}))
        conntrack.close()
        return " ".join(str(one.opening.port) for one in found)

    return site.node.call(read)
