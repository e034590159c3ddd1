"""The executable that a runtime starts, where it cannot or need not ask the agent."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.agent_node import PLUGIN

CUT = '{"cniVersion":"1.1.0","name":"pods","socket":"/nowhere"'


def run(command: str, content: bytes | None) -> tuple[int, Any]:
    """Without content its input is closed."""
    shell = ["sh", "-c", 'exec "$0" <&-', str(PLUGIN)] if content is None else [str(PLUGIN)]
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
    ],
)
def test_broken_input_is_an_error_object(command: str, content: bytes | None) -> None:
    status, error = run(command, content)
    assert (status, error["code"]) == (1, 6)
    assert error["msg"]
    assert error["cniVersion"] == "1.1.0"


def test_version_needs_no_input() -> None:
    status, answer = run("VERSION", b"")
    assert status == 0
    assert answer["supportedVersions"][-1] == "1.1.0"


def test_without_an_agent_it_says_where_it_looked() -> None:
    status, error = run("ADD", (CUT + "}").encode())
    assert (status, error["code"]) == (1, 11)
    assert "/nowhere" in error["msg"]
