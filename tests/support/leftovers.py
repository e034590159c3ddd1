"""A test that leaves something running fails itself, not a later one. A plugin of pytest.

Whatever a test starts has its name in the environment: so have all processes that come of it,
wherever they end up. What a fixture of a wider scope starts belongs to that fixture, and has to be
gone when the fixture ends; so has what tests start while such fixtures are there, since they may
have stopped and started what is the fixture's. (A session's fixture says so itself, by `owner`.)

What is left is ended, so that it disturbs nobody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest

VARIABLE = "TEST_OWNER"
NAMESPACES = Path("/run/netns")
_RUN = uuid.uuid4().hex[:8]
ENDING_SECONDS = float(os.environ.get("LEFTOVERS_SECONDS", "10"))
"""A process that was told to end may take a moment."""


def owner() -> dict[str, str]:
    """For the environment of what its maker starts later: it belongs to whoever made the maker."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def processes_of(name: str) -> dict[int, str]:
    """What runs and belongs to an owner: command lines by process id."""
    mark = f"{VARIABLE}={name}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").strip()
                if line and int(process.name) != os.getpid():  # else a zombie, or ourselves
                    found[int(process.name)] = line.decode(errors="replace")
    return found


def end_processes_of(name: str) -> list[str]:
    """Ends what an owner left running, and says what it was. Gives it time to end by itself."""
    end = time.monotonic() + ENDING_SECONDS
    while (left := processes_of(name)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"process {pid}: {line}" for pid, line in left.items()]


def network_namespaces() -> frozenset[str]:
    """Names of all there are."""
    with contextlib.suppress(OSError):
        return frozenset(path.name for path in NAMESPACES.iterdir())
    return frozenset()


@contextlib.contextmanager
def owned_by(name: str) -> Iterator[None]:
    """What is started meanwhile belongs to an owner."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


class Leftovers:
    """Looks after each test and each fixture."""

    def __init__(self) -> None:
        self._namespaces: dict[str, frozenset[str]] = {}
        """By the fixtures of a wider scope that are there: network namespaces that they made."""
        self._owners: set[str] = set()
        """Whose processes have to be gone when the last of these fixtures ends."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Names the owner of what is started."""
        with owned_by(_name(item.nodeid)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """The last that happens to a test, and perhaps to fixtures."""
        owner = _name(item.nodeid)
        try:
            return (yield)
        finally:
            if self._namespaces:
                self._owners.add(owner)
            else:
                _fail("it", end_processes_of(owner))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        """What a fixture of a wider scope starts outlives the test that happens to be first."""
        if fixturedef.scope == "function":
            return (yield)
        name = _name_of(fixturedef)
        before = network_namespaces()
        with owned_by(name):
            try:
                return (yield)
            finally:
                if fixturedef.scope != "session":
                    self._namespaces[name] = network_namespaces() - before
                    self._owners.add(name)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        """What a fixture made has to be gone when it ends, and all else when the last one does."""
        made = self._namespaces.pop(_name_of(fixturedef), None)
        if made is None:
            return
        left = [f"network namespace {name}" for name in sorted(made & network_namespaces())]
        if not self._namespaces:
            owners, self._owners = self._owners, set()
            left += [line for owner in sorted(owners) for line in end_processes_of(owner)]
        _fail(f"fixture {fixturedef.argname!r}, or a test that uses it", left)


def pytest_configure(config: pytest.Config) -> None:
    """Registers what looks."""
    config.pluginmanager.register(Leftovers(), "leftovers")


def _fail(who: str, left: Sequence[str]) -> None:
    if left:
        pytest.fail(f"{who} left something running:\n  " + "\n  ".join(left), pytrace=False)


def _name_of(fixturedef: pytest.FixtureDef[object]) -> str:
    return _name(f"{fixturedef.baseid}::{fixturedef.argname}")


def _name(text: str) -> str:
    """Of an owner on this machine, since several runs may go on beside each other."""
    return f"{_RUN}/{text}"
