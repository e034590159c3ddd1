"""A site, alone and with the part of an agent that enforces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kernel.policy.enforcing import Agent, Connection, remove_table
from tests.kernel.policy.site import Site
from tests.support.netns import Namespaces, missing


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Site]:
    """One node with endpoints for all tests of a module: its HOSTS, or three."""
    lack = missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with Namespaces() as made:
        site = Site(made, getattr(request.module, "HOSTS", 3))
        yield site
        site.close()


@pytest.fixture
def site(shared: Site) -> Site:
    """The same, with all endpoints open to everything."""
    shared.reset()
    return shared


@pytest.fixture
async def agent(shared: Site) -> AsyncIterator[Agent]:
    """One with all endpoints open to everything."""
    made = Agent(shared)
    made.put(*shared.hosts)
    for host in shared.hosts:
        made.give(host)
    made.start()
    await made.settle()
    yield made
    await made.stop()
    shared.node.call(remove_table)


@pytest.fixture
def connection(agent: Agent) -> Iterator[Connection]:
    """From the first endpoint to the second, to port 7777."""
    first, second = agent.site.hosts[:2]
    made = Connection(first, second, 7777)
    assert made.passes(made.near, made.far)
    assert made.passes(made.far, made.near)
    yield made
    made.close()
