"""The lock files hold what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RELEASE = [
    line
    for line in (ROOT / "requirements" / "release.in").read_text().splitlines()
    if not line.startswith("#")
]
PIN = re.compile(
    r"^([\w.-]+)==(\S+)(?: ;[^\n]*?)? \\\n {4}--hash=sha256:[0-9a-f]{64}", re.MULTILINE
)
NAMED = re.compile(r"^[\w.-]+==", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("runtime", PROJECT["dependencies"]),
        ("dev", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
        ("release", RELEASE),
    ],
)
def test_every_dependency_is_locked(name: str, wanted: list[str]) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    found = PIN.findall(text)
    assert len(found) == len(NAMED.findall(text)), "one has no hash"
    versions = {normal(package): version for package, version in found}
    for requirement in map(Requirement, wanted):
        version = versions.get(normal(requirement.name), "")
        assert version in requirement.specifier, f"{requirement}: run `make lock`"
