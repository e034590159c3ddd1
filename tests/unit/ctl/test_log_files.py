from __future__ import annotations

from pathlib import Path

from services.ctl.local.log_files import LogFiles


def test_each_child_has_a_file_that_goes_on_after_a_restart(tmp_path: Path) -> None:
    for line in ("one", "two"):
        with LogFiles(tmp_path) as files:
            files.add("ipam", line)
            files.add("policy", "other")
    assert (tmp_path / "logs/ipam.log").read_text() == "one\ntwo\n"
    assert (tmp_path / "logs/policy.log").read_text() == "other\nother\n"


def test_a_file_is_bounded_and_the_one_before_it_is_kept(tmp_path: Path) -> None:
    with LogFiles(tmp_path, most=8) as files:
        for number in range(5):
            files.add("ipam", f"line{number}")
    assert (tmp_path / "logs/ipam.log.old").read_text() == "line2\nline3\n"
    assert (tmp_path / "logs/ipam.log").read_text() == "line4\n"


def test_what_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    with LogFiles(tmp_path) as files:
        files.add("ipam", "line")
