"""Kubernetes' NetworkPolicy on real kernels: documents in, connections tried."""

from __future__ import annotations

import pytest

from tests.kernel.conformance.cases import CASES, Case
from tests.kernel.conformance.site import Site

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_who_reaches_whom(site: Site, case: Case) -> None:
    for number, step in enumerate(case.steps):
        await site.take(step)
        wrong = await site.pods.check(step.expected, step.protocols)
        assert not wrong, f"step {number}: {len(wrong)} are wrong, such as {wrong[:8]}"
