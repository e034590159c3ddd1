from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from lab.namespaces import missing as cluster_lacks
from tests.kernel.steering.cluster_site import FIREWALLS, Site, running
from tests.support.netns import Namespaces, missing


@pytest.fixture
def made() -> Iterator[Namespaces]:
    """Namespaces, removed at the end."""
    lack = missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with Namespaces() as namespaces:
        yield namespaces


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Site]:
    lack = cluster_lacks()
    if lack:
        pytest.skip(f"needs {lack}")
    async with running() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared: Site) -> AsyncIterator[Site]:
    """With a rule that leads through a group of its own, all of which is up."""
    await shared.group()
    await shared.become("up", *FIREWALLS)
    await shared.via()
    for one in shared.firewalls:
        one.forget()
    yield shared
    dead = [one.name for one in shared.firewalls if "dead" in one.run("nft list tables")]
    shared.revive(*dead)
    # devices that went more often than before would be held down
    await shared.via("")
    await shared.driver.call("DeleteDeviceGroup", {"name": "firewalls"})
