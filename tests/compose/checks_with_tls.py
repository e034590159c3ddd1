"""`make compose-test`: the same cluster with tls.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.running import (
    ENDPOINTS,
    ROMANA,
    allocate,
    given,
    reaches,
    romana,
    services,
    until,
    unwell,
    up,
)


@pytest.fixture
def with_tls(cluster: Engine, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Everything runs anew, with tls.yaml; the environment of an operator on this machine."""
    cluster.compose("down", "--volumes")
    cluster.environment["COMPOSE_FILE"] = "compose.yaml:tls.yaml"
    try:
        up(cluster, "with TLS")
        cluster.compose("cp", "certificates:/tls/operator", str(tmp_path / "operator"))
        files = {"CA": "ca.pem", "CERT": "own.pem", "KEY": "own.key"}
        yield {
            f"ROMANA_TLS_{name}": str(tmp_path / "operator" / file) for name, file in files.items()
        }
    finally:
        cluster.compose("--profile", "*", "down", "--volumes")
        del cluster.environment["COMPOSE_FILE"]


def test_with_tls_it_does_the_same_for_whom_has_a_certificate(
    cluster: Engine, with_tls: dict[str, str]
) -> None:
    asking = (*cluster.prefix(), ROMANA, "address", "list", "-o", "json")
    refused = cluster.attempt(*asking)
    assert refused.returncode != 0
    assert "TLS" in refused.stderr
    cluster.environment |= with_tls
    try:
        assert set(ENDPOINTS) == set(given(cluster))
        states = romana(cluster, "status")
        assert isinstance(states, list)
        assert {item["health"] for item in states} == {"serving"}
        assert reaches(cluster, "t1", "t3") == "ttl=62"
        assert reaches(cluster, "t1", "q1") == "filtered by the router"
        replicas = ("ipam-2", "policy-2")
        cluster.compose("up", "-d", "--no-build", "--no-recreate", *services(cluster), *replicas)
        until("everything is healthy", lambda: not unwell(cluster))
        allocate(cluster, "by-0", "qa-1", "qa", 1)
        allocate(cluster, "by-1", "qa-1", "qa", 2)
        assert {"by-0", "by-1"} <= given(cluster).keys()
    finally:
        for name in with_tls:
            del cluster.environment[name]


def test_a_container_has_no_key_but_its_own(cluster: Engine, with_tls: dict[str, str]) -> None:
    assert with_tls
    shown = cluster.inside("agent-qa-1", "sh", "-c", "cat /tls/own.pem; ls /tls /authority || true")
    assert set(re.findall(r"(?m)^\S+\.(?:pem|key)$", shown)) == {"ca.pem", "own.pem", "own.key"}
    etcd = ("etcdctl", "get", "--prefix", "--keys-only", "/romana")
    assert "/romana" in cluster.inside("etcd", *etcd)
    stranger = cluster.attempt_inside("etcd", ["env", "ETCDCTL_CERT=", "ETCDCTL_KEY=", *etcd])
    assert stranger.returncode != 0
