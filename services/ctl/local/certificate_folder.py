"""An authority's folder: `ca.pem`, `ca.key`, and for each certificate `NAME.pem` and `NAME.key`.

Files are readable by their owner alone. A file is whole or not there: what was there before stays
until its successor is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from services.common.certificates import authority
from services.common.certificates.authority import Facts, Pair, Subject
from services.common.errors import AlreadyExists, InvalidInput, NotFound
from services.common.files import write_atomic

AUTHORITY: Final = "ca"
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate in the folder."""

    name: str
    path: Path
    facts: Facts

    def left(self, now: datetime) -> timedelta:
        """Until it ends; negative afterwards."""
        return self.facts.not_after - now


class CertificateFolder:
    """What is issued by one authority, kept in one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def certificate(self, name: str) -> Path:
        """Where that of a name is."""
        return self.path / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Where the private key of a name is."""
        return self.path / f"{name}.key"

    def init(self, name: str, now: datetime, days: int) -> Issued:
        """Makes the authority; AlreadyExists if there is one."""
        if self.certificate(AUTHORITY).exists() or self.key(AUTHORITY).exists():
            raise AlreadyExists(f"{self.path} has an authority already", "AUTHORITY_EXISTS")
        self.path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._write(AUTHORITY, authority.new_authority(name, now, days=days))
        return self.issued(AUTHORITY)

    def issue(self, subject: Subject, now: datetime, days: int) -> Issued:
        """Makes a certificate; AlreadyExists if the name has one."""
        self._check(subject.name)
        if self.certificate(subject.name).exists():
            raise AlreadyExists(
                f"{subject.name} has a certificate already: `romana certificates renew` makes "
                "it anew",
                "CERTIFICATE_EXISTS",
            )
        self._write(subject.name, authority.issue(self._authority(), subject, now, days=days))
        return self.issued(subject.name)

    def sign(self, request: bytes, subject: Subject, now: datetime, days: int) -> Issued:
        """Makes a certificate for a key that is elsewhere and stays there."""
        self._check(subject.name)
        made = authority.sign(self._authority(), request, subject, now, days=days)
        write_atomic(self.certificate(subject.name), made)
        return self.issued(subject.name)

    def renew(self, name: str, now: datetime, days: int) -> Issued:
        """Makes one anew, with a new key, for whom and where it was before."""
        before = self.issued(name).facts
        if name == AUTHORITY or not self.key(name).exists():
            raise InvalidInput(
                f"the key of {name} is not here: issue it again by a new signing request"
                if name != AUTHORITY
                else "an authority is not renewed in place: make a new one in another folder",
                "NOT_RENEWABLE",
            )
        subject = Subject(before.name, before.uris, before.hosts)
        self._write(name, authority.issue(self._authority(), subject, now, days=days))
        return self.issued(name)

    def issued(self, name: str) -> Issued:
        """One of them; NotFound."""
        path = self.certificate(name)
        try:
            return Issued(name, path, authority.facts(path.read_bytes()))
        except FileNotFoundError:
            raise NotFound(f"{self.path} has no certificate of {name}", "NO_CERTIFICATE") from None

    def all(self) -> list[Issued]:
        """All, the authority first."""
        names = sorted(path.stem for path in self.path.glob("*.pem"))
        return [self.issued(name) for name in sorted(names, key=lambda name: name != AUTHORITY)]

    def _authority(self) -> Pair:
        try:
            return Pair(self.certificate(AUTHORITY).read_bytes(), self.key(AUTHORITY).read_bytes())
        except FileNotFoundError:
            raise NotFound(
                f"{self.path} has no authority: `romana certificates init` makes one",
                "NO_AUTHORITY",
            ) from None

    def _check(self, name: str) -> None:
        if name == AUTHORITY or not name or name != Path(name).name or name.startswith("."):
            raise InvalidInput.at("name", f"{name!r} cannot be the name of a file here")

    def _write(self, name: str, pair: Pair) -> None:
        write_atomic(self.key(name), pair.key)
        write_atomic(self.certificate(name), pair.certificate)
