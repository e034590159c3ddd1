"""The executable that a runtime starts, where it cannot or need not ask the agent."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_node import PLUGINS

CUT = '{"cniVersion":"1.1.0","name":"pods","socket":"/nowhere"'


@pytest.fixture(params=PLUGINS, ids=lambda path: path.name)
def plugin(request: pytest.FixtureRequest) -> Path:
    return request.param


def run(plugin: Path, command: str, content: bytes | None) -> tuple[int, Any]:
    """Without content its input is closed."""
    shell = ["sh", "-c", 'exec "$0" <&-', str(plugin)] if content is None else [str(plugin)]
    done = subprocess.run(
        shell,
        input=content or b"",
        env={"CNI_COMMAND": command},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("command", ["ADD", "DEL", "STATUS", "VERSION"])
@pytest.mark.parametrize(
    "content",
    [
        None,
        CUT.encode(),
        b'{"cniVersion":"1.1.0","na',
        b'{"socket":"a',
        b'{"socket"',
        b'["socket"]',
        b'{"socket":' + b"[" * 5000,
        b'{"socket": "\xff"}',
        # no UTF-8 either: a surrogate, one longer than it need be, one beyond the last character
        b'{"cniVersion": "\xed\xa0\x80"}',
        b'{"cniVersion": "\xe0\x80\x80", "a"}',
        b'{"cniVersion": "\xf0\x80\x80\x80"}',
        b'{"cniVersion": "\xf4\x90\x80\x80"}',
    ],
)
def test_broken_input_is_an_error_object(plugin: Path, command: str, content: bytes | None) -> None:
    status, error = run(plugin, command, content)
    assert (status, error["code"]) == (1, 6)
    assert error["msg"]
    assert error["cniVersion"] == "1.1.0"


def test_version_needs_no_input(plugin: Path) -> None:
    status, answer = run(plugin, "VERSION", b"")
    assert status == 0
    assert answer["supportedVersions"][-1] == "1.1.0"


def test_without_an_agent_it_says_where_it_looked(plugin: Path) -> None:
    status, error = run(plugin, "ADD", (CUT + "}").encode())
    assert (status, error["code"]) == (1, 11)
    assert "/nowhere" in error["msg"]


@pytest.mark.parametrize("answer", [b"", b"0", b"nothing of ours"])
def test_an_agent_that_ends_in_between_is_said(plugin: Path, tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as path:
        status, error = run(plugin, "STATUS", json.dumps({"socket": str(path)}).encode())
    assert (status, error["code"]) == (1, 50)
    assert "ended before it answered" in error["msg"]


def test_what_the_agent_says_is_passed_on_whole(plugin: Path, tmp_path: Path) -> None:
    long = {"text": "\u00fc" * 300_000}
    with answering(tmp_path, b"1\n" + json.dumps(long).encode()) as path:
        config = {"socket": str(path), "text": "ü" * 100_000, "ipam": {"socket": "/elsewhere"}}
        assert run(plugin, "ADD", json.dumps(config, ensure_ascii=False).encode()) == (1, long)


def test_a_delegated_plugin_says_so_and_has_a_socket_of_its_own(
    plugin: Path, tmp_path: Path
) -> None:
    link = tmp_path / "romana-ipam"
    link.symlink_to(plugin)
    heard: list[bytes] = []
    with answering(tmp_path, b"0\n{}", heard) as path:
        config = {"socket": "/elsewhere", "ipam": {"type": "romana-ipam", "socket": str(path)}}
        assert run(link, "ADD", json.dumps(config).encode()) == (0, {})
    assert b"CNI_COMMAND=ADD\0ROMANA_PLUGIN=romana-ipam\0\0{" in heard[0]


@contextmanager
def answering(folder: Path, answer: bytes, heard: list[bytes] | None = None) -> Iterator[Path]:
    """A socket on which one request is read to its end and answered, whatever it says."""
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            channel, _ = listener.accept()
            with channel, channel.makefile("rb") as reader:
                content = reader.read()
                if heard is not None:
                    heard.append(content)
                channel.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()
