"""One engine for all checks: it takes a minute to build for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.compose.engine import DOCKER, FOLDER, TARGETS, Engine, figures
from tests.compose.running import up


@pytest.fixture(scope="session", autouse=True)
def report() -> Iterator[None]:
    yield
    print("\n\n" + "\n".join(figures))  # noqa: T201


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Has built everything, and runs in a network namespace."""
    made = Engine()
    made.start(running=False)
    try:
        made.make_base()
        for target in TARGETS:
            begun = time.monotonic()
            made.build(target)
            figures.append(f"build of {target}: {time.monotonic() - begun:.1f} s")
    finally:
        made.stop()
    made.start(running=True)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def cluster(engine: Engine) -> Iterator[Engine]:
    """Everything runs, from empty volumes."""
    engine.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    try:
        up(engine, "from nothing")
        yield engine
    finally:
        logs = engine.attempt(DOCKER, "compose", "logs", "--no-color").stdout
        (FOLDER / "containers.log").write_text(logs)
        everything = ("--profile", "*", "down", "--volumes", "--remove-orphans")
        engine.attempt(DOCKER, "compose", *everything)
