"""A machine that can move from one node to another, in each family."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab.cluster import Cluster
from tests.support.moving_site import IPV4, IPV6, Family, Guest, Site, cluster_of


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[IPV4, IPV6], ids=lambda item: item.name
)
async def family(request: pytest.FixtureRequest) -> Family:
    found = request.param
    assert isinstance(found, Family)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(family: Family) -> AsyncIterator[Cluster]:
    async with cluster_of(family) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def site(cluster: Cluster, family: Family) -> AsyncIterator[Site]:
    """The machine runs on n1."""
    made = Site(cluster, Guest(cluster, family))
    await made.begin()
    yield made
    await made.end()
