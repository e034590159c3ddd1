"""What a support bundle holds, and what it never holds."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from services.common.process.metrics import new_registry
from services.common.rpc.metrics_pages import metrics_server
from services.ctl.local import bundle
from services.ctl.local.bundle import Part, Wanted


def wanted(environment: dict[str, str] | None = None, **changes: object) -> Wanted:
    given = {"configs": (), "logs": (), "metrics": {}, "node": False, "timeout": 20.0} | changes
    return Wanted(environment={"PATH": "/usr/bin"} | (environment or {}), **given)  # type: ignore[arg-type]


def test_the_file_is_for_its_owner_and_in_one_folder() -> None:
    parts = [Part("a/b.txt", b"text"), Part("empty", b"", "why")]
    with tarfile.open(fileobj=io.BytesIO(bundle.packed("top", parts, 1000.0))) as archive:
        (entry,) = archive.getmembers()
        assert (entry.name, entry.mode, entry.mtime) == ("top/a/b.txt", 0o600, 1000)
        content = archive.extractfile(entry)
        assert content is not None
        assert content.read() == b"text"


async def test_metrics_of_a_process_are_taken() -> None:
    server = metrics_server(new_registry("topology"), ready=lambda: True)
    where = str(await server.start("127.0.0.1:0"))
    try:
        part = await bundle._scraped("topology", where, wanted())
    finally:
        await server.stop()
    assert (part.path, part.problem) == ("metrics/topology.txt", "")
    assert b'romana_build_info{service="topology"' in part.content


async def test_a_process_that_is_away_is_a_problem_and_no_failure() -> None:
    part = await bundle._scraped("ipam", "127.0.0.1:1", wanted())
    assert part.content == b""
    assert part.problem.startswith("127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("code", "content", "problem"),
    [
        ("print('found')", b"found\n", ""),
        ("print('half'); import sys; sys.exit('broken')", b"half\n", "broken"),
        ("import sys; sys.exit(3)", b"", "exit code 3"),
        ("""import sys; sys.exit('{"error": {"message": "away"}}')""", b"", "away"),
        ("import time; time.sleep(60)", b"", "no end within 1 s"),
    ],
)
async def test_a_program_that_fails_says_so_and_what_it_printed_stays(
    code: str, content: bytes, problem: str
) -> None:
    part = await bundle._run("x", (sys.executable, "-c", code), wanted(timeout=1.0))
    assert (part.content, part.problem) == (content, problem)


async def test_a_program_that_is_not_there_is_a_problem() -> None:
    part = await bundle._run("x", ("no-such-program",), wanted())
    assert part.problem == "no-such-program: No such file or directory"


def test_files_of_settings_are_taken_without_secrets(tmp_path: Path) -> None:
    good, bad = tmp_path / "ipam.yaml", tmp_path / "bad.yaml"
    good.write_text("etcd: {key: hunter2, root: /romana}\n")
    bad.write_text("password: [hunter2\n")
    taken = bundle._read(good)
    assert yaml.safe_load(taken.content) == {"etcd": {"key": "***", "root": "/romana"}}
    assert bundle._read(bad).content == b""
    assert "not YAML" in bundle._read(bad).problem
    assert "No such file" in bundle._read(tmp_path / "none.yaml").problem


async def test_versions_say_what_romana_is_made_of() -> None:
    found = yaml.safe_load((await bundle._versions(wanted())).content)
    assert {"romana", "grpcio", "protobuf"} <= set(found["packages"])
    assert found["python"].startswith("3.")


def test_every_verb_that_is_asked_exists() -> None:
    from tests.unit.docs.test_docs import parse

    for words in (*bundle.VERBS.values(), *bundle.VERBS_OF_NODE.values()):
        parse(" ".join(words))


def test_of_a_log_the_end_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "ipam.log"
    log.write_bytes(b"0123456789")
    assert bundle._end_of(log) == Part("logs/ipam.log", b"0123456789")
    monkeypatch.setattr(bundle, "LOG_BYTES", 3)
    assert bundle._end_of(log).content == b"789"
    assert "No such file" in bundle._end_of(tmp_path / "none.log").problem
