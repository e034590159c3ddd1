"""A process with a lifecycle, whose stop steps say when they run: for test_lifecycle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from services.common.errors import InvalidInput
from services.common.process.lifecycle import Lifecycle, Phase, run
from services.common.process.logs import configure_logs


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def step(word: str) -> Callable[[], Awaitable[None]]:
    async def action() -> None:
        say(word)

    return action


async def stuck() -> None:
    say("stuck")
    await asyncio.Event().wait()


async def broken() -> None:
    raise RuntimeError("step broke")


async def loop() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        say("loop")


async def ends() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("task broke")


async def main(life: Lifecycle) -> None:
    for phase in reversed(Phase):  # registered in the wrong order
        life.on_stop(phase, phase.name, step(phase.name))
    life.start("loop", loop())
    match sys.argv[1]:
        case "ends":
            life.start("ends", ends())
        case "fails":
            life.start("fails", fails())
        case "stuck":
            life.on_stop(Phase.DRAIN, "stuck", stuck)
        case "broken":
            life.on_stop(Phase.DRAIN, "broken", broken)
        case "refuses":
            raise InvalidInput("bad settings", "BAD_SETTINGS")
        case "bug":
            raise RuntimeError("bug in main")
        case "slow":
            say("ready")
            await asyncio.Event().wait()
    say("ready")


if __name__ == "__main__":
    configure_logs("process", format="json")
    sys.exit(run(main, uvloop="uvloop" in sys.argv, stop_timeout=float(sys.argv[2])))
