"""What children of `romana up` say, kept in files of bounded size: for `romana support-bundle`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

FOLDER: Final = "logs"
MOST: Final = 16 << 20
"""Bytes of a file before it becomes the old one of its name, whose place it takes."""


class LogFiles:
    """`NAME.log` and `NAME.log.old` for each child. What cannot be written is left out: a full disk
    stops no cluster."""

    def __init__(self, data_dir: Path, *, most: int = MOST) -> None:
        self._folder = data_dir / FOLDER
        self._most = most
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._files):
            self._files.pop(name).close()

    def add(self, name: str, line: str) -> None:
        try:
            file = self._files.get(name) or self._open(name)
            file.write(f"{line}\n".encode())
            if file.tell() >= self._most:
                self._files.pop(name).close()
                path = self._path(name)
                path.replace(path.with_name(f"{path.name}.old"))
        except OSError:
            return

    def _open(self, name: str) -> IO[bytes]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._files[name] = self._path(name).open("ab", buffering=0)
        return file

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.log"
