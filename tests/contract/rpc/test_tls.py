"""Mutual TLS with certificates of the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.tls import TlsFiles
from tests.contract.rpc.probe import Probe, ProbeStub, add_probe


def openssl(*arguments: str) -> None:
    result = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def authority(folder: Path) -> TlsFiles:
    """A new authority with one certificate, for localhost."""
    folder.mkdir()
    ca, ca_key = folder / "ca.pem", folder / "ca-key.pem"
    key, request, certificate = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", str(ca_key), "-out", str(ca), "-subj", "/CN=ca")
    openssl("req", *new_key, "-keyout", str(key), "-out", str(request), "-subj", "/CN=ipam")
    openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key)),
        *("-CAcreateserial", "-extfile", str(extensions), "-out", str(certificate)),
    )
    return TlsFiles(ca=ca, certificate=certificate, key=key)


async def test_only_peers_of_the_same_authority_are_served(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    server.register(add_probe, Probe())
    address = str(server.listen("127.0.0.1:0", tls=ours))
    await server.start()
    request = StringValue(value="hi")
    no_certificate = grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(ours.ca.read_bytes())
    )
    try:
        async with open_channel(address, tls=ours) as channel:
            assert (await ProbeStub(channel).unary(request, timeout=20)).value == "hi"
        refused = (open_channel(address, tls=theirs), open_channel(address), no_certificate)
        for channel in refused:
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ProbeStub(channel).unary(request, timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(grace=0)


async def test_with_tls_any_address_may_be_served(tmp_path: Path) -> None:
    server = RpcServer(RpcMetrics(CollectorRegistry()))

    assert server.listen("0.0.0.0:0", tls=authority(tmp_path / "ours"))
    await server.stop(grace=0)
