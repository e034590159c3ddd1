"""Settings below /proc/sys, with their values from before on disk.

A setting is ours from when it is first written until it is put back, which the file says: so a
restarted agent, and `romana agent uninstall`, know what to put back. The file is written before the
setting. What somebody else has changed since is not put back, nor is a setting whose interface is
gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import msgspec
import structlog

from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems
from services.agent.kernel.netlink import Problem
from services.agent.kernel.state import Key, Kind, Value
from services.common.files import write_atomic

log = structlog.get_logger(__name__)

ROOT: Final = Path("/proc/sys")


class Setting(msgspec.Struct, frozen=True):
    """Two values of one setting."""

    before: str
    ours: str


class Sysctls:
    """The driver."""

    kind = Kind.SYSCTL

    def __init__(self, file: Path, root: Path = ROOT) -> None:
        self._file = file
        self._root = root
        self._kept: dict[str, Setting] | None = None

    def owns(self, path: str) -> bool:
        """Whether we set it."""
        return path in self._load()

    def before(self, path: str) -> str | None:
        """What it was before we set it; None: we did not."""
        setting = self._load().get(path)
        return setting.before if setting is not None else None

    def read(self) -> Mapping[Key, Value]:
        """The values of what is ours; an empty one where the interface is gone."""
        return {path: self._value(path) or "" for path in self._load()}

    def apply(self, step: KindChange) -> Problems:
        """Sets what is added or replaced, and puts back what is removed."""
        kept = self._load()
        changed = dict(kept)
        for path, value in cast("Mapping[str, str]", step.additions).items():
            before = self._value(path)
            if before is not None:
                changed[path] = Setting(before, value)
        self._save(changed)
        problems: dict[Key, Problem] = {}
        puts = {**step.additions, **step.replacements}
        for path, value in cast("Mapping[str, str]", puts).items():
            problems.update(self._write(path, value))
        for path in cast("Mapping[str, str]", step.removals):
            setting = changed[path]
            if self._value(path) == setting.ours:
                problems.update(self._write(path, setting.before))
            if path not in problems:
                del changed[path]
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

    def _load(self) -> dict[str, Setting]:
        if self._kept is None:
            try:
                self._kept = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Setting])
            except FileNotFoundError:
                self._kept = {}
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("sysctls_unreadable", file=str(self._file), message=str(error))
                self._kept = {}
        return self._kept

    def _save(self, kept: dict[str, Setting]) -> None:
        if kept != self._load():
            write_atomic(self._file, msgspec.json.encode(kept))
            self._kept = kept
