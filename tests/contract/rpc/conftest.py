from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.rpc.probe import Running, start_probe


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = await start_probe()
    yield running
    await running.close()
