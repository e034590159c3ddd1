"""Settings below /proc/sys, with their values from before on disk.

A setting is ours from when it is first written until it is put back, which the file says: so a
restarted agent, and `romana agent uninstall`, know what to put back. The file is written before the
setting. A setting whose interface is gone has nothing to be put back to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from services.agent.diff import Step
from services.agent.files import write_atomic
from services.agent.kernel.driver import Problems
from services.agent.kernel.netlink import Problem
from services.agent.state import Key, Kind, Value

ROOT: Final = Path("/proc/sys")


class Sysctls:
    """The driver."""

    kind = Kind.SYSCTL

    def __init__(self, file: Path, root: Path = ROOT) -> None:
        self._file = file
        self._root = root
        self._before: dict[str, str] | None = None

    def owns(self, path: str) -> bool:
        """Whether we set it."""
        return path in self._load()

    def read(self) -> Mapping[Key, Value]:
        """The values of what is ours; an empty one where the interface is gone."""
        return {path: self._value(path) or "" for path in self._load()}

    def apply(self, step: Step) -> Problems:
        """Sets what is added or replaced, and puts back what is removed."""
        before = self._load()
        changed = dict(before)
        for path in cast("Mapping[str, str]", step.additions):
            value = self._value(path)
            if value is not None:
                changed.setdefault(path, value)
        self._save(changed)
        problems: dict[Key, Problem] = {}
        for path, value in cast(
            "Mapping[str, str]", {**step.additions, **step.replacements}
        ).items():
            problems.update(self._write(path, value))
        for path in cast("Mapping[str, str]", step.removals):
            if self._value(path) is not None:
                problems.update(self._write(path, changed[path]))
            if path not in problems:
                changed.pop(path, None)
        self._save(changed)
        return problems

    def _value(self, path: str) -> str | None:
        try:
            return (self._root / path).read_text().strip()
        except OSError:
            return None

    def _write(self, path: str, value: str) -> dict[Key, Problem]:
        try:
            (self._root / path).write_text(value)
        except OSError as error:
            return {path: Problem(error.errno or 0, f"{path}: {os.strerror(error.errno or 0)}")}
        return {}

    def _load(self) -> dict[str, str]:
        if self._before is None:
            try:
                document = json.loads(self._file.read_text())
            except (OSError, ValueError):
                document = {}
            self._before = {str(key): str(value) for key, value in document.items()}
        return self._before

    def _save(self, before: dict[str, str]) -> None:
        if before != self._load():
            write_atomic(self._file, json.dumps(before, indent=1, sort_keys=True).encode())
            self._before = before
