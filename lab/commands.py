"""The `romana` command of a lab that the demo tells of: shown as typed, or asked for its answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.local import COMMAND
from lab.namespaces import inside
from lab.processes import environment
from lab.story import Story, Unexpected

ASK_TIMEOUT = 30.0
"""Seconds."""


class Commands:
    def __init__(self, story: Story, cluster: Cluster) -> None:
        self._story = story
        self._control = cluster.path(CONTROL)
        self._environment = {**environment(), **ENVIRONMENT}

    async def show(self, *arguments: str, ends: int = 0) -> None:
        """Runs it, and shows it with what it says; raises Unexpected for another exit code."""
        await self._story.romana(
            *arguments, environment=self._environment, namespace=self._control, ends=ends
        )

    async def ask(self, *arguments: str) -> dict[str, Any]:
        """What it says as JSON, which is not shown; raises Unexpected when it fails."""
        process = await asyncio.create_subprocess_exec(
            *inside(self._control, [*COMMAND, *arguments, "-o", "json"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                output, errors = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise Unexpected(f"romana {arguments[0]}: {errors.decode().strip()}")
        answer: dict[str, Any] = json.loads(output)
        return answer


def as_typed(file: Path) -> str:
    """A file's path as a person would type it here."""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
