"""Mutual TLS with certificates of the openssl program."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client import CollectorRegistry

from services.common.certificates.authority import Subject
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.tls import TlsFiles
from services.ctl.local.certificate_folder import CertificateFolder
from tests.support.certificates import Authority


async def test_only_peers_of_the_same_authority_are_served(tmp_path: Path) -> None:
    ours, theirs = (
        Authority(tmp_path / name).issue("ipam", uri="romana:reader") for name in ("ours", "theirs")
    )
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    address = str(server.listen("127.0.0.1:0", tls=ours))
    await server.start()
    request = health_pb2.HealthCheckRequest()
    no_certificate = grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(ours.ca.read_bytes())
    )
    try:
        async with open_channel(address, tls=ours) as channel:
            assert (await HealthStub(channel).Check(request, timeout=20)).status
        refused = (open_channel(address, tls=theirs), open_channel(address), no_certificate)
        for channel in refused:
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await HealthStub(channel).Check(request, timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(grace=0)


async def test_certificates_of_our_own_authority_serve_and_call(tmp_path: Path) -> None:
    folder, now = CertificateFolder(tmp_path / "ca"), datetime.now(UTC)
    folder.init("romana", now, days=2)
    folder.issue(Subject("ipam", ("romana:service",), ("127.0.0.1", "ipam.example")), now, days=1)
    folder.issue(Subject("me", ("romana:reader",)), now, days=1)
    ipam, me = (
        TlsFiles(folder.certificate("ca"), folder.certificate(name), folder.key(name))
        for name in ("ipam", "me")
    )
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    address = str(server.listen("127.0.0.1:0", tls=ipam))
    await server.start()
    try:
        async with open_channel(address, tls=me) as channel:
            assert (
                await HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            ).status
    finally:
        await server.stop(grace=0)


async def test_a_server_may_be_known_by_a_name_that_is_not_its_address(tmp_path: Path) -> None:
    folder, now = CertificateFolder(tmp_path / "ca"), datetime.now(UTC)
    folder.init("romana", now, days=2)
    folder.issue(Subject("ipam", ("romana:service",), ("romana",)), now, days=1)
    ipam = TlsFiles(folder.certificate("ca"), folder.certificate("ipam"), folder.key("ipam"))
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    address = str(server.listen("127.0.0.1:0", tls=ipam))
    await server.start()
    request = health_pb2.HealthCheckRequest()
    try:
        async with open_channel(address, tls=replace(ipam, server_name="romana")) as channel:
            assert (await HealthStub(channel).Check(request, timeout=20)).status
        for name in ("", "another"):
            async with open_channel(address, tls=replace(ipam, server_name=name)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await HealthStub(channel).Check(request, timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(grace=0)


async def test_with_tls_any_address_may_be_served(tmp_path: Path) -> None:
    server = RpcServer(RpcMetrics(CollectorRegistry()))

    assert server.listen("0.0.0.0:0", tls=Authority(tmp_path / "ours").issue("a"))
    await server.stop(grace=0)
