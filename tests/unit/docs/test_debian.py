"""What the Debian package has beside the wheel: settings that work, a man page for every noun."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.agent.settings import AgentSettings
from services.common.process.settings import load_settings
from services.console.settings import ConsoleSettings
from services.ctl.main import NOUNS
from services.ipam.settings import IpamSettings
from services.policy.settings import PolicySettings
from services.topology.settings import TopologySettings
from tools import man_pages

DEPLOY = Path(__file__).parents[3] / "deploy"
KINDS = {
    "topology": TopologySettings,
    "ipam": IpamSettings,
    "policy": PolicySettings,
    "console": ConsoleSettings,
    "agent": AgentSettings,
}


@pytest.mark.parametrize("service", KINDS)
def test_settings_are_right_as_they_are_and_without_the_marks(service: str, tmp_path: Path) -> None:
    file = DEPLOY / "debian" / "settings" / f"{service}.yaml"
    assert load_settings(KINDS[service], file=file)
    example = file.read_text().partition("#\n")[2]
    assert example, "nothing is shown"
    shown = tmp_path / file.name
    shown.write_text(re.sub("(?m)^# ", "", example))
    assert load_settings(KINDS[service], file=shown) != load_settings(KINDS[service], file=file)


def test_every_unit_has_settings() -> None:
    units = {path.stem.removeprefix("romana-") for path in DEPLOY.glob("systemd/*.service")}
    assert units == set(KINDS)


def test_every_noun_has_a_page(tmp_path: Path) -> None:
    man_pages.main(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {
        "romana",
        *(f"romana-{noun}" for noun in NOUNS),
    }
    text = (tmp_path / "romana-node.1").read_text()
    assert '.SH "REGISTER"' in text
    assert "\\-\\-label KEY=VALUE" in text
