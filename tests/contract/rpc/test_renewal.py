"""Certificates are renewed, and authorities replaced, while calls go on: none of them fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from services.common.certificates.authority import Subject, facts
from services.common.process.certificate_metrics import CertificateCollector
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.tls import FollowedFiles, TlsFiles
from services.ctl.local.certificate_folder import CertificateFolder
from tests.contract.rpc.probe import Probe, ProbeStub, add_probe

CALLERS = 6


class Site:
    """An authority with a server and a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = CertificateFolder(folder)
        self.now = datetime.now(UTC)
        self.folder.init("romana", self.now, days=2)
        self.folder.issue(Subject("ipam", ("romana:service",), ("127.0.0.1",)), self.now, days=1)
        self.folder.issue(Subject("me", ("romana:operator",)), self.now, days=1)

    def files(self, name: str) -> TlsFiles:
        made = self.folder
        return TlsFiles(made.certificate("ca"), made.certificate(name), made.key(name))

    def serial(self, name: str) -> int:
        return facts(self.folder.certificate(name).read_bytes()).serial

    def renew(self, name: str) -> None:
        self.folder.renew(name, self.now, days=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "ca")


@contextlib.asynccontextmanager
async def serving(site: Site, probe: Probe) -> AsyncIterator[RpcServer]:
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    server.register(add_probe, probe)
    server.listen("127.0.0.1:0", tls=site.files("ipam"))
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace=0)


def shown(port: int, files: TlsFiles) -> int:
    """The serial number of what a server shows in a new handshake."""
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


async def until_shown(server: RpcServer, site: Site, serial: int) -> None:
    port = int(str(server.addresses[0]).rpartition(":")[2])
    while await asyncio.to_thread(shown, port, site.files("me")) != serial:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


class Load:
    """Callers who call one after the other, and a stream that is open all the time."""

    def __init__(self, stub: ProbeStub) -> None:
        self._stub = stub
        self.answered = 0
        self.serials: set[int] = set()

    async def call(self) -> None:
        while True:
            answer = await self._stub.unary(StringValue(value="x"))
            self.serials.add(int(answer.value))
            self.answered += 1

    async def stream(self) -> None:
        call = self._stub.echo()
        while True:
            await call.write(StringValue(value="x"))
            assert (await call.read()).value
            self.answered += 1
            await asyncio.sleep(0.001)

    async def seen(self, serial: int) -> None:
        while serial not in self.serials:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def goes_on(self) -> None:
        before = self.answered
        while self.answered < before + 100:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def loaded(site: Site) -> AsyncIterator[tuple[RpcServer, Load]]:
    async def whose(_request: StringValue, context: grpc.aio.ServicerContext) -> StringValue:
        pem = next(iter(context.auth_context()["x509_pem_cert"]))
        return StringValue(value=str(facts(pem).serial))

    probe = Probe()
    probe.behaviour = whose
    async with (
        serving(site, probe) as server,
        open_channel(str(server.addresses[0]), tls=site.files("me")) as channel,
    ):
        load = Load(ProbeStub(channel))
        tasks = [asyncio.create_task(load.call()) for _ in range(CALLERS)]
        tasks.append(asyncio.create_task(load.stream()))
        try:
            yield server, load
            failed = [task for task in tasks if task.done()]
            assert not failed, [task.exception() for task in failed]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def everybody_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe is no method of ours, that a role could call."""
    from services.common.rpc import roles

    monkeypatch.setattr(roles, "check", lambda *_: None)


async def test_no_call_fails_while_certificates_are_renewed(site: Site) -> None:
    async with loaded(site) as (server, load):
        for _ in range(3):
            await load.goes_on()
            site.renew("ipam")
            site.renew("me")
            await until_shown(server, site, site.serial("ipam"))
            await load.seen(site.serial("me"))
        await load.goes_on()


async def test_no_call_fails_while_another_authority_takes_over(site: Site) -> None:
    async with loaded(site) as (server, load):
        for step in (
            lambda: site.folder.authorities.prepare("", site.now, days=2),
            lambda: site.folder.switch_authority(site.now, days=1),
            lambda: site.folder.finish_authority(site.now),
        ):
            step()
            await until_shown(server, site, site.serial("ipam"))
            await load.seen(site.serial("me"))
            await load.goes_on()
        assert len(site.folder.authorities.all()) == 1


async def test_a_revoked_certificate_is_refused_and_its_stream_ends(site: Site) -> None:
    probe = Probe()
    site.folder.issue(Subject("other", ("romana:operator",)), site.now, days=1)
    async with serving(site, probe) as server:
        address = str(server.addresses[0])
        async with (
            open_channel(address, tls=site.files("other")) as theirs,
            open_channel(address, tls=site.files("me")) as ours,
        ):
            stub = ProbeStub(theirs)
            await stub.unary(StringValue(value="x"))
            stream = stub.echo()
            await stream.write(StringValue(value="x"))
            assert (await stream.read()).value == "x"
            site.renew("other")
            await ProbeStub(ours).unary(StringValue(value="x"))
            site.folder.revoke("other", site.now)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
            assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.unary(StringValue(value="x"))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "revoked" in (refused.value.details() or "")
            await ProbeStub(ours).unary(StringValue(value="x"))


async def test_a_key_without_its_certificate_is_not_taken(site: Site, tmp_path: Path) -> None:
    now = [0.0]
    files = FollowedFiles(site.files("me"), lambda: now[0])
    before = files.current()
    certificate = site.folder.certificate("me").read_bytes()
    site.renew("me")
    renewed = site.folder.certificate("me").read_bytes()
    site.folder.certificate("me").write_bytes(certificate)
    now[0] += 10
    assert files.current() is before
    site.folder.certificate("me").write_bytes(b"nothing")
    now[0] += 10
    assert files.current() is before
    site.folder.certificate("me").unlink()
    now[0] += 10
    assert files.current() is before
    site.folder.certificate("me").write_bytes(renewed)
    now[0] += 10
    assert files.current().certificate == renewed


def test_when_certificates_end_is_a_metric(site: Site) -> None:
    registry = CollectorRegistry()
    CertificateCollector({"calls": site.files("ipam"), "etcd": None}, registry)

    def value(of: str) -> float | None:
        return registry.get_sample_value(
            "romana_certificate_not_after_seconds", {"use": "calls", "of": of}
        )

    assert value("certificate") == site.folder.issued("ipam").facts.not_after.timestamp()
    assert value("authority") == site.folder.issued("ca").facts.not_after.timestamp()
