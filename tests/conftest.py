"""Fixtures for everybody: a real etcd, and a corner of it for each test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.support.netns import isolate

pytest_plugins = ("tests.support.fault_table", "tests.support.leftovers")

# What is compiled for one of the many processes that tests start serves the next.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# On a busy machine an example takes as long as it takes.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

FOLDERS = ("docs", "e2e", "kernel", "contract", "property", "unit")
"""By how long a file takes, the longest first: what runs beside each other ends together."""


def pytest_configure() -> None:
    """Workers of a parallel run share no port, nor what else there is one of on a machine.

    SIGINT ends what tests start, also where it was ignored on entry (`nohup make test &`).
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        isolate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        here = Path(__file__).parent
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else "docs"
        return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)

    items.sort(key=place)


@dataclass(frozen=True, slots=True)
class Store:
    """A store of its own for one test, as far as the test can tell."""

    client: EtcdClient
    keys: Keys
    endpoint: str


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEtcd]:
    """An etcd that all tests share: leave it running."""
    server = LocalEtcd(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    yield server
    server.stop()


@pytest.fixture
async def store(shared_etcd: LocalEtcd) -> AsyncIterator[Store]:
    """A client of the shared etcd and keys below a root that nobody else uses."""
    keys = Keys(root=f"/test-{uuid.uuid4().hex[:12]}")
    async with EtcdClient([shared_etcd.endpoint]) as client:
        yield Store(client, keys, shared_etcd.endpoint)


@pytest.fixture
async def etcd_server(tmp_path: Path) -> AsyncIterator[LocalEtcd]:
    """An etcd of its own, for tests that stop it."""
    server = LocalEtcd(tmp_path / "etcd")
    await server.start()
    yield server
    server.stop()
