from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from services.common.errors import WrongState
from services.ctl.local.data_dir import check_port_free, locked


def test_a_directory_is_made_and_held_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with (
        locked(folder),
        pytest.raises(WrongState, match=rf"in use by another .* \(process {os.getpid()}\)"),
        locked(folder),
    ):
        pass


def test_a_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_what_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(WrongState, match=r"cannot be used .* it is a file"),
        locked(tmp_path / "file"),
    ):
        pass


def test_a_taken_port_names_the_option() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(WrongState, match=rf"port {port} .* --ipam-port"):
            check_port_free(port, "--ipam-port")
    check_port_free(port, "--ipam-port")
