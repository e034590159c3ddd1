from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.netns import Namespaces, missing


@pytest.fixture
def made() -> Iterator[Namespaces]:
    """Namespaces, removed at the end."""
    lack = missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with Namespaces() as namespaces:
        yield namespaces
