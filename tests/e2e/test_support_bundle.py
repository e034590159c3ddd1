"""`romana support-bundle` beside `romana up`, by its user and by one without rights."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.local_cluster import Up, environment, up
from tests.support.netns import missing
from tests.support.unprivileged import Nobody, nobody

SERVICES = ("topology", "ipam", "policy")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("bundle") / "data") as running:
        yield running


@pytest.fixture
def other() -> Iterator[Nobody]:
    with nobody() as made:
        yield made


def files(path: Path) -> dict[str, bytes]:
    """What a bundle holds, by names within its folder."""
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive.getmembers():
            content = archive.extractfile(entry)
            assert content is not None
            found[entry.name.partition("/")[2]] = content.read()
    return found


def test_it_has_what_the_services_logged(cluster: Up, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    done = cluster.romana("support-bundle", "--file", str(path), "--no-node")
    assert done.returncode == 0, done.stderr
    found = files(path)
    for service in SERVICES:
        assert b"serving" in found[f"logs/{service}.log"], service
        assert f'service="{service}"'.encode() in found[f"metrics/{service}.txt"], service
    assert b'"level":' in found["logs/etcd.log"]


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_without_rights_it_says_what_it_could_not_have(
    cluster: Up, other: Nobody, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "ipam.yaml").write_text("etcd: {}\n")
    where = {f"ROMANA_{name.upper()}": cluster.cluster[name] for name in SERVICES}
    agent = {"ROMANA_AGENT": f"unix:{private}/agent.sock"}
    done = other.romana(
        *("support-bundle", "--file", "b.tar.gz", "--config", str(private / "ipam.yaml")),
        environment={**environment(cluster.folder), **where, **agent},
    )
    assert done.returncode == 0, done.stderr
    path = other.home / "b.tar.gz"
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, other.home.stat().st_uid)
    found = files(path)
    manifest: Any = yaml.safe_load(found["manifest.yaml"])
    problems = manifest["problems"]
    assert "Permission denied" in problems["settings/ipam.yaml"]
    assert f"{cluster.folder}/logs: Permission denied" in problems["logs/logs"]
    assert "ermission" in problems["node/agent.json"]
    assert "not permitted" in problems["kernel/romana.nft"]
    assert {"state/nodes.json", "kernel/links.txt", "versions.yaml"} <= set(found)
    assert not [name for name in found if name.startswith(("settings/ipam", "logs/t", "node/a"))]
    for name in problems:
        assert f"not in it, or not whole: {name}: " in done.stderr
    assert "Traceback" not in found["manifest.yaml"].decode()
