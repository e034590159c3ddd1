"""`romana examples`: what the documents' commands read, under the names that documents use."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import example_files
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.main import run

ROOT = Path(__file__).parents[3]


def romana(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    return int(ended.value.code or 0)


def test_every_example_of_the_checkout_is_written(tmp_path: Path) -> None:
    assert romana("examples", str(tmp_path)) == ExitCode.OK
    written = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert {"examples/datacenter.yaml", "lab/clusters/datacenter.yaml"} <= written
    assert written == set(example_files.files())
    for name in written:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()
    assert romana("examples", str(tmp_path)) == ExitCode.OK


def test_a_file_of_somebody_else_stays_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "lab" / "clusters" / "racks.yaml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert romana("examples", str(tmp_path)) == ExitCode.REFUSED
    assert str(theirs) in capsys.readouterr().err
    assert theirs.read_text() == "mine"
    assert not (tmp_path / "examples").exists()
