"""Mutual TLS to etcd, and what a wrong authority looks like."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import InvalidInput, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.lease_keeper import clock
from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from services.common.tls import TlsFiles


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder: Path) -> tuple[Path, Path]:
    """Certificate and key."""
    folder.mkdir()
    certificate, key = folder / "ca.pem", folder / "ca.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subject = ("-subj", f"/CN={folder.name}", "-days", "2")
    openssl("req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(certificate))
    return certificate, key


def issue(folder: Path, name: str) -> TlsFiles:
    """A certificate for 127.0.0.1 from the authority in `folder`, for clients and servers."""
    request, key, certificate = (folder / f"{name}.{end}" for end in ("csr", "key", "pem"))
    extensions = folder / "extensions"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
        "basicConstraints=CA:FALSE\n"
    )
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)
    )
    signer = ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial")
    openssl(
        *("x509", "-req", "-in", str(request), *signer, "-days", "2"),
        *("-extfile", str(extensions), "-out", str(certificate)),
    )
    return TlsFiles(folder / "ca.pem", certificate, key)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls") / "ours"
    authority(folder)
    return issue(folder, "romana")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls") / "theirs"
    authority(folder)
    return issue(folder, "stranger")


@pytest.fixture
async def secure_etcd(tmp_path: Path, ours: TlsFiles) -> AsyncIterator[LocalEtcd]:
    server = LocalEtcd(tmp_path / "etcd", EtcdOptions(tls=ours))
    await server.start()
    yield server
    server.kill()


async def test_mutual_tls(secure_etcd: LocalEtcd, ours: TlsFiles) -> None:
    async with EtcdClient([f"https://{secure_etcd.endpoint}"], tls=ours) as client:
        await client.put("/a", b"1")
        assert await client.get("/a")


async def test_a_server_of_another_authority_is_refused(
    secure_etcd: LocalEtcd, ours: TlsFiles, theirs: TlsFiles
) -> None:
    wrong = TlsFiles(theirs.ca, ours.certificate, ours.key)
    async with EtcdClient([secure_etcd.endpoint], tls=wrong, timeout=3) as client:
        with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed"):
            await client.get("/a")
        with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed") as caught:
            await client.put("/a", b"")
        assert type(caught.value) is Unavailable


async def test_a_client_of_another_authority_is_refused(
    secure_etcd: LocalEtcd, ours: TlsFiles, theirs: TlsFiles
) -> None:
    wrong = TlsFiles(ours.ca, theirs.certificate, theirs.key)
    async with EtcdClient([secure_etcd.endpoint], tls=wrong, timeout=3) as client:
        with pytest.raises(Unavailable):
            await client.get("/a")


async def test_plain_text_to_a_secure_member_is_refused(secure_etcd: LocalEtcd) -> None:
    async with EtcdClient([secure_etcd.endpoint], timeout=3) as client:
        with pytest.raises(Unavailable):
            await client.get("/a")


async def test_a_client_goes_on_when_the_authority_was_replaced(
    tmp_path: Path, ours: TlsFiles, theirs: TlsFiles
) -> None:
    ports = EtcdOptions(client_port=free_port(), peer_port=free_port())
    first = LocalEtcd(tmp_path / "etcd", replace(ports, tls=ours))
    await first.start()
    names = ("ca", "certificate", "key")
    used = TlsFiles(*(tmp_path / name for name in names))

    def put(files: TlsFiles) -> None:
        for name in names:
            made = tmp_path / "made"
            made.write_bytes(getattr(files, name).read_bytes())
            made.replace(getattr(used, name))

    put(ours)
    async with contextlib.AsyncExitStack() as stack:
        client = EtcdClient([first.endpoint], tls=used, timeout=5)
        stack.push_async_callback(client.close)
        await client.put("/a", b"1")
        lease = await client.grant_lease(60)
        keeper = await stack.enter_async_context(client.keep_lease_alive(lease, 60, clock()))
        first.stop()
        second = LocalEtcd(tmp_path / "etcd", replace(ports, tls=theirs))
        await second.start()
        try:
            put(theirs)
            while True:
                try:
                    found = await client.get("/a")
                except Unavailable:
                    continue  # until the next look at the files
                assert found is not None
                break
            now = clock()
            while clock() + keeper.remaining < now + 60:
                assert not keeper.over.is_set()
                keeper.alive()
                await asyncio.sleep(0.01)
        finally:
            second.kill()


def test_a_missing_file_is_named(ours: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"tls\.key: cannot read .*nothing") as caught:
        TlsFiles(ours.ca, ours.certificate, tmp_path / "nothing").read()
    assert caught.value.violations[0].path == "tls.key"


def test_a_file_that_is_not_pem_is_named(ours: TlsFiles, tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(b"\x30\x82")
    with pytest.raises(InvalidInput, match=r"tls\.ca: .* is not a PEM file"):
        TlsFiles(tmp_path / "ca", ours.certificate, ours.key).read()
