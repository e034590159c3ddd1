"""Certificates of a cluster on this machine: made at the first start, renewed in good time.

There are two authorities: whoever has a certificate of the first is known to Romana's services by
its role, and whoever has one of the second may do anything in etcd. Nodes have one of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.common.certificates.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS, Subject
from services.common.errors import RomanaError
from services.common.rpc.identity import URI, Role
from services.common.tls import TlsFiles
from services.ctl.calls.service_addresses import CERTIFICATES, OPERATOR
from services.ctl.local.certificate_folder import AUTHORITY, CertificateFolder

SERVICES: Final = "services"
ETCD: Final = "etcd"
ETCD_CERTIFICATES: Final = "etcd-certificates"
_HOSTS: Final = ("127.0.0.1", "::1", "localhost")
_LOOK: Final = 3600.0
"""Seconds between two looks for what is due."""


@dataclass(frozen=True, slots=True)
class ClusterTls:
    romana: CertificateFolder
    etcd: CertificateFolder

    @property
    def services(self) -> TlsFiles:
        """What services show to callers and to each other."""
        return _files(self.romana, SERVICES)

    @property
    def operator(self) -> TlsFiles:
        return _files(self.romana, OPERATOR)

    @property
    def store(self) -> TlsFiles:
        return _files(self.etcd, ETCD)

    def make(self, now: datetime) -> None:
        """Makes what is not there, and renews what is due."""
        wanted = (
            (self.romana, "romana", Subject(SERVICES, (URI + Role.SERVICE,), _HOSTS)),
            (self.romana, "romana", Subject(OPERATOR, (URI + Role.OPERATOR,))),
            (self.etcd, "romana-etcd", Subject(ETCD, (), _HOSTS)),
        )
        for folder, authority, subject in wanted:
            if not folder.certificate(AUTHORITY).exists():
                folder.init(authority, now, AUTHORITY_DAYS)
            if not folder.certificate(subject.name).exists():
                folder.issue(subject, now, CERTIFICATE_DAYS)
        self.renew(now)

    def renew(self, now: datetime) -> list[str]:
        """Renews what is due; says whose."""
        done: list[str] = []
        for folder in (self.romana, self.etcd):
            for name in folder.due(now):
                folder.renew(name, now, CERTIFICATE_DAYS)
                done.append(name)
        return done

    async def keep(self, say: Callable[[str], None]) -> None:
        """Renews what is due, for ever: services take it while they run."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                renewed = self.renew(datetime.now(UTC))
            except (OSError, RomanaError) as error:
                say(f"Certificates cannot be renewed: {error}")
                continue
            for name in renewed:
                say(f"Renewed the certificate of {name}")


def cluster_tls(data: Path) -> ClusterTls:
    return ClusterTls(
        CertificateFolder(data / CERTIFICATES), CertificateFolder(data / ETCD_CERTIFICATES)
    )


def has_tls(data: Path) -> bool:
    """Whether a cluster with TLS was started from this data directory."""
    return cluster_tls(data).romana.certificate(AUTHORITY).exists()


def _files(folder: CertificateFolder, name: str) -> TlsFiles:
    return TlsFiles(folder.certificate(AUTHORITY), folder.certificate(name), folder.key(name))
