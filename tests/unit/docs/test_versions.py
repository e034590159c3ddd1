"""Both distributions are of one version, and the API's allows what its generator runs on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def project(path: str) -> Any:
    return tomllib.loads((ROOT / path).read_text())


def test_the_api_has_the_version_of_the_services() -> None:
    api, services = project("protos/pyproject.toml"), project("pyproject.toml")
    assert api["project"]["version"] == services["project"]["version"]
    chart = (ROOT / "deploy/helm/romana/Chart.yaml").read_text()
    said = re.search(r"(?m)^appVersion: \"?([^\s\"]+)", chart)
    assert said is not None
    assert said.group(1) == (services["project"]["version"])


def test_the_api_is_generated_by_the_oldest_generator_it_allows() -> None:
    api = project("protos/pyproject.toml")
    tools = next(one for one in api["build-system"]["requires"] if one.startswith("grpcio-tools"))
    minor = re.fullmatch(r"grpcio-tools==(\d+\.\d+)\.\d+", tools)
    assert minor is not None
    assert f"grpcio>={minor.group(1)},<2" in api["project"]["dependencies"]
