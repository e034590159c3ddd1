from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.policy.site import Site
from tests.support.netns import Namespaces, missing


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """One node with three endpoints for all tests of a module."""
    lack = missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with Namespaces() as made:
        site = Site(made, 3)
        yield site
        site.close()


@pytest.fixture
def site(shared: Site) -> Site:
    """The same, with all endpoints open to everything."""
    shared.reset()
    return shared
