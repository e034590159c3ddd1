"""Ports are given out once, whoever asks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.common.errors import WrongState
from services.common.etcd import process

FEW = range(29_990, 29_994)


def test_no_port_is_given_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PORTS", FEW)
    found: list[int] = []
    with pytest.raises(WrongState, match="no port"):
        found.extend(iter(process.free_port, None))
    assert len(set(found)) == len(found) > 0
    text = (
        "from services.common.etcd import process\n"
        f"process._PORTS = range({FEW.start}, {FEW.stop})\n"
        "process.free_port()"
    )
    other = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60
    )
    assert other.returncode
    assert "no port" in other.stderr
