"""`romana up --tls`: mutual TLS with nothing else to be said."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.e2e.local_cluster import FREE_PORTS, START_TIMEOUT, Up, up

START = (*FREE_PORTS, "--initial-topology", "flat")


def check(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    channel = (
        grpc.insecure_channel(address)
        if credentials is None
        else grpc.secure_channel(address, credentials)
    )
    with channel:
        try:
            HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[no-any-return, attr-defined]
        return grpc.StatusCode.OK


def works(cluster: Up) -> None:
    done = cluster.romana("status")
    assert done.returncode == 0, done.stderr
    assert cluster.json("node", "list") is not None


def serial(cluster: Up, name: str) -> str:
    listed = {item["name"]: item for item in cluster.json("certificates", "list")}
    return str(listed[name]["serial"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_all_is_encrypted_and_commands_find_their_certificates(folder: Path) -> None:
    with up(folder, (*START, "--tls")) as cluster:
        works(cluster)
        assert cluster.romana("node", "register", "n1", "--address", "192.168.9.1").returncode == 0
        done = cluster.romana("address", "allocate", "a", "--node", "n1", "--tenant", "t")
        assert done.returncode == 0, done.stderr
        for service in ("topology", "ipam", "policy"):
            assert check(cluster.cluster[service], None) is grpc.StatusCode.UNAVAILABLE
        assert check(cluster.cluster["etcd"], None) is grpc.StatusCode.UNAVAILABLE
        # of one's own folder, by the command's defaults; a node's is no key to etcd
        assert cluster.romana("certificates", "issue", "n1", "--role", "node").returncode == 0
        made = Path(cluster.cluster["certificates"])
        of_node = grpc.ssl_channel_credentials(
            *((made / name).read_bytes() for name in ("ca.pem", "n1.key", "n1.pem"))
        )
        assert check(cluster.cluster["ipam"], of_node) is grpc.StatusCode.OK
        assert check(cluster.cluster["etcd"], of_node) is grpc.StatusCode.UNAVAILABLE
    with up(folder, START) as again:  # as before, without a word
        works(again)
        assert check(again.cluster["ipam"], None) is grpc.StatusCode.UNAVAILABLE
        assert again.json("address", "list")


def test_certificates_are_renewed_while_it_runs(folder: Path) -> None:
    with up(folder, (*START, "--tls")) as cluster:
        before = serial(cluster, "services")
        done = cluster.romana("certificates", "renew", "services", "operator")
        assert done.returncode == 0, done.stderr
        assert serial(cluster, "services") != before
        until = time.monotonic() + START_TIMEOUT
        while not any("certificate_renewed" in line for line in cluster.lines):
            assert time.monotonic() < until
            works(cluster)
        works(cluster)
        done = cluster.romana("certificates", "issue", "eve", "--role", "operator")
        assert done.returncode == 0, done.stderr
        done = cluster.romana("certificates", "revoke", "eve", "-o", "json", "--yes")
        assert json.loads(done.stdout)[0]["revoked"]
        works(cluster)


def test_an_agent_is_asked_without_tls(folder: Path) -> None:
    """Its sockets are this machine's, also where services have TLS."""
    with up(folder, (*START, "--tls")) as cluster, socket.socket(socket.AF_UNIX) as agent:
        path = folder / "a"
        agent.bind(str(path))
        agent.listen()
        agent.settimeout(START_TIMEOUT)
        asking = threading.Thread(
            target=cluster.romana,
            args=("agent", "status", "--agent-socket", f"unix:{path}", "--timeout", "5"),
        )
        asking.start()
        connection, _ = agent.accept()
        with connection:
            connection.settimeout(START_TIMEOUT)
            assert connection.recv(3) == b"PRI", "HTTP/2 in the clear"
        agent.close()
        asking.join()
