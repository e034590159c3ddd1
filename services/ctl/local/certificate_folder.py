"""An authority's folder: `ca.pem`, `ca.key`, and for each certificate `NAME.pem` and `NAME.key`.

What a name had before it was renewed stays in `former` until it ends, without its key: to be
revoked with the name. Files are readable by their owner alone. A file is whole or not there: what
was there before stays until its successor is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from services.common.certificates import authority, revocation
from services.common.certificates.authority import Facts, Pair, Subject
from services.common.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from services.common.files import write_atomic
from services.ctl.local.authorities import NAMES, SIGNS, Authorities

AUTHORITY: Final = SIGNS
FORMER: Final = "former"
ZERO: Final = timedelta()
DUE: Final = 5
"""What is left of a life when it is time to renew: one part in so many."""


@dataclass(frozen=True, slots=True)
class Issued:
    name: str
    path: Path
    facts: Facts
    revoked: bool = False

    def left(self, now: datetime) -> timedelta:
        """Until it ends; negative afterwards."""
        return self.facts.not_after - now

    def due(self, now: datetime) -> bool:
        """Whether it is time to renew it."""
        return self.left(now) < (self.facts.not_after - self.facts.not_before) / DUE

    @property
    def is_authority(self) -> bool:
        """It signs, did so or will."""
        return self.name in NAMES


class CertificateFolder:
    """What is issued by one authority, or by two while one replaces the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authorities = Authorities(path)

    def certificate(self, name: str) -> Path:
        return self.path / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Where the private key of a name is."""
        return self.path / f"{name}.key"

    def init(self, name: str, now: datetime, days: int) -> Issued:
        """Makes the authority; AlreadyExists if there is one."""
        self.authorities.init(name, now, days)
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
        signing = self.authorities.signing()
        self._write(subject.name, authority.issue(signing, subject, now, days=days))
        return self.issued(subject.name)

    def sign(self, request: bytes, subject: Subject, now: datetime, days: int) -> Issued:
        """Makes a certificate for a key that is elsewhere and stays there."""
        self._check(subject.name)
        made = authority.sign(self.authorities.signing(), request, subject, now, days=days)
        if self.certificate(subject.name).exists():
            self._keep_former(self.issued(subject.name), now)
        write_atomic(self.certificate(subject.name), made)
        return self.issued(subject.name)

    def renew(self, name: str, now: datetime, days: int) -> Issued:
        """Makes one anew, with a new key, for whom and where it was before."""
        issued = self.issued(name)
        if issued.is_authority or not self.key(name).exists():
            raise InvalidInput(
                f"the key of {name} is not here: issue it again by a new signing request"
                if not issued.is_authority
                else "an authority is not renewed in place: `romana certificates authority "
                "prepare` begins to replace it",
                "NOT_RENEWABLE",
            )
        before = issued.facts
        subject = Subject(before.name, before.uris, before.hosts)
        made = authority.issue(self.authorities.signing(), subject, now, days=days)
        self._keep_former(issued, now)
        self._write(name, made)
        return self.issued(name)

    def revoke(self, name: str, now: datetime) -> list[Issued]:
        """Takes back what a name has, and had; its key is deleted."""
        issued = self.issued(name)
        if issued.is_authority:
            raise InvalidInput(
                "an authority is not revoked but replaced: `romana certificates authority prepare`",
                "NOT_REVOCABLE",
            )
        self._keep_former(issued, now)
        taken = [one for one in self._former() if one.name == name]
        self.authorities.revoke([one.path.read_bytes() for one in taken], now)
        self.key(name).unlink(missing_ok=True)
        self.certificate(name).unlink()
        return [one for one in self._former() if one.name == name]

    def switch_authority(self, now: datetime, days: int) -> list[Issued]:
        """Has the successor sign, and renews all whose keys are here."""
        self.authorities.switch()
        return [self.renew(one.name, now, days) for one in self.all() if self._renewable(one)]

    def finish_authority(self, now: datetime) -> Issued:
        """Trusts the successor alone; refused while there are certificates of the predecessor."""
        signing = self.authorities.signing().certificate
        others = [
            one.name
            for one in self.all()
            if not one.is_authority
            and one.left(now) > ZERO
            and not authority.issued_by(one.path.read_bytes(), signing)
        ]
        if others:
            raise WrongState(
                f"{', '.join(others)}: still by the authority that goes. `renew` makes them anew; "
                "those whose keys are elsewhere need a new signing request",
                "AUTHORITY_IN_USE",
            )
        self.authorities.finish()
        return self.issued(AUTHORITY)

    def due(self, now: datetime) -> list[str]:
        """What `renew` can make anew and should."""
        return [one.name for one in self.all() if self._renewable(one) and one.due(now)]

    def ending(self, before: datetime) -> list[str]:
        """What `renew` can make anew and ends before then."""
        return [one.name for one in self.all() if self._renewable(one) and one.left(before) < ZERO]

    def issued(self, name: str) -> Issued:
        """One of them; NotFound."""
        if name in NAMES and name in (pairs := self.authorities.all()):
            facts = authority.facts(pairs[name].certificate)
            return Issued(name, self.authorities.file, facts)
        path = self.certificate(name)
        try:
            return Issued(name, path, authority.facts(path.read_bytes()))
        except FileNotFoundError:
            raise NotFound(f"{self.path} has no certificate of {name}", "NO_CERTIFICATE") from None

    def all(self) -> list[Issued]:
        """All that are good, authorities first."""
        names = sorted(path.stem for path in self.path.glob("*.pem"))
        found = [self.issued(name) for name in names if name not in NAMES]
        return [*(self.issued(name) for name in self.authorities.all()), *found]

    def revoked(self, now: datetime) -> list[Issued]:
        """What was taken back and would be good otherwise."""
        return [one for one in self._former() if one.revoked and one.left(now) > ZERO]

    def _renewable(self, issued: Issued) -> bool:
        return not issued.is_authority and self.key(issued.name).exists()

    def _former(self) -> list[Issued]:
        taken = self.authorities.revoked()
        found: list[Issued] = []
        for path in sorted((self.path / FORMER).glob("*.pem")):
            content = path.read_bytes()
            name = path.stem.rpartition(".")[0]
            revoked = revocation.named(content) in taken
            found.append(Issued(name, path, authority.facts(content), revoked=revoked))
        return found

    def _keep_former(self, issued: Issued, now: datetime) -> None:
        """Keeps it as long as it is good: whoever has its key could use it."""
        folder = self.path / FORMER
        folder.mkdir(mode=0o700, exist_ok=True)
        for one in self._former():
            if one.left(now) < ZERO:
                one.path.unlink()
        name = f"{issued.name}.{issued.facts.serial:x}.pem"
        write_atomic(folder / name, issued.path.read_bytes())

    def _check(self, name: str) -> None:
        if name in NAMES or not name or name != Path(name).name or name.startswith("."):
            raise InvalidInput.at("name", f"{name!r} cannot be the name of a file here")

    def _write(self, name: str, pair: Pair) -> None:
        write_atomic(self.key(name), pair.key)
        write_atomic(self.certificate(name), pair.certificate)
