from __future__ import annotations

import os
from pathlib import Path

from services.common.lasting_stream import LastingStream


def test_what_is_written_arrives(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        stream = LastingStream(file)
        stream.write("a\n")
        stream.writelines(["b\n", "c\n"])
        stream.flush()
        assert stream.lost is None
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"


def test_a_pipe_without_a_reader_takes_everything() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        os.close(reading)
        stream = LastingStream(file)
        for _ in range(1000):
            stream.write("x" * 100)
            stream.flush()
        assert stream.unread
    # and closing the file has not failed either


def test_a_full_disk_is_noted_and_ends_nothing() -> None:
    with Path("/dev/full").open("w") as file:
        stream = LastingStream(file)
        for _ in range(1000):
            stream.write("x" * 100)
        stream.flush()
        assert stream.lost is not None
        assert not stream.unread
        stream.give_up()


def test_all_else_is_the_streams_own(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="latin-1") as file:
        stream = LastingStream(file)
        assert stream.isatty() is False  # type: ignore[operator]
        assert stream.encoding == "latin-1"
        assert stream.fileno() == file.fileno()  # type: ignore[operator]
