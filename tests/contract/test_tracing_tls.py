"""Spans on their way to a collector with TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import InvalidInput
from services.common.tls import TlsFiles
from services.common.tracing import spans, starting
from services.common.tracing.collector import CollectorFiles, collector
from tests.support.certificates import Authority
from tests.support.collector import collecting_with_tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture(autouse=True)
def traced_no_more() -> Iterator[None]:
    yield
    spans.stop()


def send(address: str, files: CollectorFiles, name: str = "sent") -> None:
    """Traces one thing and ends tracing, which sends what is left."""
    starting.start("test", collector(f"https://{address}", files))
    with spans.span(name):
        pass
    spans.stop()


def both(files: TlsFiles) -> CollectorFiles:
    return CollectorFiles(files.ca, files.certificate, files.key)


def test_a_collector_is_known_by_its_authority(authority: Authority) -> None:
    server = authority.issue("collector")
    with collecting_with_tls(server) as (found, address):
        send(address, CollectorFiles(ca=server.ca))
        assert [span.name for span in found.spans] == ["sent"]


def test_a_collector_that_asks_for_a_certificate_is_shown_one(authority: Authority) -> None:
    with collecting_with_tls(authority.issue("collector"), asks=True) as (found, address):
        send(address, CollectorFiles(ca=authority.certificate), "without")
        send(address, both(authority.issue("sender")), "with")
        assert [span.name for span in found.spans] == ["with"]


def test_a_collector_of_another_authority_is_told_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    with collecting_with_tls(authority.issue("collector")) as (found, address):
        send(address, CollectorFiles(ca=other.certificate))
        send(address, CollectorFiles())
        assert found.spans == []


def test_renewed_files_are_taken_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    other = Authority(tmp_path / "other")
    with collecting_with_tls(authority.issue("collector")) as (found, address):
        starting.start("test", collector(f"https://{address}", CollectorFiles(ca=trusted)))
        with spans.span("before"):
            pass
        found.wait("before", {("romana-test", "before")}, 60)
    trusted.write_bytes(other.certificate.read_bytes())
    with collecting_with_tls(other.issue("collector"), address=address) as (found, _):
        with spans.span("after"):
            pass
        found.wait("after", {("romana-test", "after")}, 60)


def test_a_file_that_is_not_there_is_said_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*none\.pem: No such file") as refused:
        send("127.0.0.1:1", CollectorFiles(ca=tmp_path / "none.pem"))
    assert refused.value.violations[0].path == "traces.tls.ca"


def command(**variables: str) -> subprocess.CompletedProcess[str]:
    nowhere = ("--topology-address", "127.0.0.1:1", "--timeout", "0.1")
    return subprocess.run(
        [sys.executable, "-m", "services.ctl.main", "node", "list", *nowhere],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_reaches_it_by_variables(authority: Authority) -> None:
    files = authority.issue("operator")
    with collecting_with_tls(authority.issue("collector"), asks=True) as (found, address):
        done = command(
            ROMANA_TRACES=f"https://{address}",
            ROMANA_TRACES_CA=str(files.ca),
            ROMANA_TRACES_CERT=str(files.certificate),
            ROMANA_TRACES_KEY=str(files.key),
        )
        assert "cannot be reached" in done.stderr
        assert [span.name for span in found.spans] == ["romana node list"]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ROMANA_TRACES": "192.0.2.1:4317"}, "https://192.0.2.1:4317 reaches it with TLS"),
        ({"ROMANA_TRACES": "nonsense"}, "host:port"),
        ({"ROMANA_TRACES": "https://x:1", "ROMANA_TRACES_CA": "/none"}, "cannot read /none"),
        ({"ROMANA_TRACES": "https://x:1", "ROMANA_TRACES_KEY": "/none"}, "come together"),
    ],
)
def test_the_command_says_what_is_wrong_with_them(variables: dict[str, str], says: str) -> None:
    done = command(**variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
