"""Real processes that are started, told to stop, or fail."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.process.lifecycle import Lifecycle

ROOT = Path(__file__).parents[3]
IN_ORDER = ["HAND_OVER", "NOT_SERVING", "DRAIN", "loop", "LOOPS", "RELEASE", "CLOSE"]


@dataclass
class Process:
    process: asyncio.subprocess.Process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def end(self) -> tuple[list[str], list[dict[str, object]], int | None]:
        """Words said, lines logged, status."""
        out, logged = await self.process.communicate()
        lines = [json.loads(line) for line in logged.decode().splitlines()]
        return out.decode().split(), lines, self.process.returncode


@asynccontextmanager
async def started(case: str, *, stop_timeout: float = 30, loop: str = "") -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contract.common.process", case, str(stop_timeout), loop),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["", "uvloop"])
async def test_a_signal_stops_the_process_in_order(number: signal.Signals, loop: str) -> None:
    async with started("serves", loop=loop) as process:
        assert await process.line() == "ready"
        process.process.send_signal(number)
        words, lines, status = await process.end()

    assert words == IN_ORDER
    assert status == 0
    assert {"event": "stop_requested", "reason": number.name}.items() <= lines[0].items()


@pytest.mark.parametrize(("case", "event"), [("ends", "task_ended"), ("fails", "task_failed")])
async def test_a_task_that_ends_stops_the_process_in_order_with_an_error(
    case: str, event: str
) -> None:
    async with started(case) as process:
        assert await process.line() == "ready"
        words, lines, status = await process.end()

    assert words == IN_ORDER
    assert status == 1
    assert event in {line["event"] for line in lines}


async def test_a_step_that_takes_too_long_is_passed_over() -> None:
    async with started("stuck", stop_timeout=0.1) as process:
        assert await process.line() == "ready"
        process.process.terminate()
        words, lines, status = await process.end()

    assert words == ["HAND_OVER", "NOT_SERVING", "stuck", *IN_ORDER[2:]]
    assert status == 1
    assert "stop_step_timed_out" in {line["event"] for line in lines}


async def test_a_step_that_breaks_does_not_keep_the_others_from_running() -> None:
    async with started("broken") as process:
        assert await process.line() == "ready"
        process.process.terminate()
        words, lines, status = await process.end()

    assert words == IN_ORDER
    assert status == 1
    assert "stop_step_failed" in {line["event"] for line in lines}


async def test_a_second_signal_ends_it_at_once() -> None:
    async with started("stuck") as process:
        assert await process.line() == "ready"
        process.process.terminate()
        assert await process.line() == "HAND_OVER"
        assert await process.line() == "NOT_SERVING"
        assert await process.line() == "stuck"
        process.process.terminate()
        words, _, status = await process.end()

    assert words == []
    assert status == 128 + signal.SIGTERM


async def test_a_refusal_to_start_is_one_line_without_a_traceback() -> None:
    async with started("refuses") as process:
        words, lines, status = await process.end()

    assert words == IN_ORDER
    assert status == 1
    (line,) = [line for line in lines if line["event"] == "start_failed"]
    assert (line["message"], line["reason"]) == ("bad settings", "BAD_SETTINGS")
    assert "exception" not in line


async def test_a_bug_at_the_start_is_logged_with_its_traceback() -> None:
    async with started("bug") as process:
        _, lines, status = await process.end()

    assert status == 1
    (line,) = [line for line in lines if line["event"] == "start_failed"]
    assert "bug in main" in str(line["exception"])


async def test_a_signal_during_a_slow_start_stops_it() -> None:
    async with started("slow") as process:
        assert await process.line() == "ready"
        process.process.terminate()
        words, _, status = await process.end()

    assert words == IN_ORDER
    assert status == 0


async def test_a_task_cannot_be_started_outside_of_a_running_lifecycle() -> None:
    async def work() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="main"):
        Lifecycle().start("work", work())
