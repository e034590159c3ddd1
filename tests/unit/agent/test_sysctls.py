from __future__ import annotations

from pathlib import Path

import pytest

from services.agent.kernel.diff import KindChange
from services.agent.kernel.state import Kind, Objects
from services.agent.kernel.sysctls import Sysctls

NAME = "net/ipv4/neigh/e0/proxy_delay"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    file = tmp_path / "sys" / NAME
    file.parent.mkdir(parents=True)
    file.write_text("80\n")
    return tmp_path / "sys"


def put(sysctls: Sysctls, objects: Objects) -> None:
    assert not sysctls.apply(KindChange(Kind.SYSCTL, objects, {}, {}))


def remove(sysctls: Sysctls) -> None:
    assert not sysctls.apply(KindChange(Kind.SYSCTL, {}, {}, sysctls.read()))


def test_a_setting_is_put_back_by_a_later_process(root: Path, tmp_path: Path) -> None:
    put(Sysctls(tmp_path / "kept", root), {NAME: "0"})
    assert (root / NAME).read_text() == "0"
    later = Sysctls(tmp_path / "kept", root)
    assert later.owns(NAME)
    assert later.read() == {NAME: "0"}
    remove(later)
    assert (root / NAME).read_text() == "80"
    assert Sysctls(tmp_path / "kept", root).read() == {}


def test_what_somebody_else_changed_is_not_put_back(root: Path, tmp_path: Path) -> None:
    sysctls = Sysctls(tmp_path / "kept", root)
    put(sysctls, {NAME: "0"})
    (root / NAME).write_text("7")
    assert sysctls.read() == {NAME: "7"}
    remove(sysctls)
    assert (root / NAME).read_text() == "7"


def test_a_setting_that_is_gone_is_forgotten(root: Path, tmp_path: Path) -> None:
    sysctls = Sysctls(tmp_path / "kept", root)
    put(sysctls, {NAME: "0"})
    (root / NAME).unlink()
    remove(sysctls)
    assert sysctls.read() == {}
