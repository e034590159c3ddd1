"""The authorities of a folder: the one that signs, and while it is replaced, two.

`ca.pem` has all that are trusted, and what they have revoked; it is what peers are given. `ca.key`
is the key of the one that signs, `ca-next.key` that of its successor, `ca-old.key` that of its
predecessor. Which is which say the keys alone, so that every step is one file that is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from services.common.certificates import authority, revocation
from services.common.certificates.authority import Pair
from services.common.certificates.revocation import Revoked
from services.common.errors import AlreadyExists, NotFound, WrongState
from services.common.files import write_atomic

SIGNS, NEXT, OLD = "ca", "ca-next", "ca-old"
NAMES: Final = (SIGNS, NEXT, OLD)
_FOLDER_MODE: Final = 0o700
_NUMBERED: Final = re.compile(r"(.*)-(\d+)")


@dataclass(frozen=True, slots=True)
class Authorities:
    path: Path

    @property
    def file(self) -> Path:
        return self.path / f"{SIGNS}.pem"

    def all(self) -> Mapping[str, Pair]:
        """By name, those whose keys are here; the one that signs first."""
        try:
            found = authority.split(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        pairs: dict[str, Pair] = {}
        for name in NAMES:
            try:
                key = self._key(name).read_bytes()
            except FileNotFoundError:
                continue
            for certificate in found:
                pair = Pair(certificate, key)
                # one of two names: the last step of a switch broke off
                if authority.is_key_of(key, certificate) and pair not in pairs.values():
                    pairs[name] = pair
        return pairs

    def signing(self) -> Pair:
        """The one that signs; NotFound."""
        pair = self.all().get(SIGNS)
        if pair is None:
            raise NotFound(
                f"{self.path} has no authority: `romana certificates init` makes one",
                "NO_AUTHORITY",
            )
        return pair

    def init(self, name: str, now: datetime, days: int) -> None:
        """Makes the first one; AlreadyExists if there is one."""
        if self.file.exists() or self._key(SIGNS).exists():
            raise AlreadyExists(f"{self.path} has an authority already", "AUTHORITY_EXISTS")
        self.path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        made = authority.new_authority(name, now, days=days)
        write_atomic(self._key(SIGNS), made.key)
        write_atomic(self.file, made.certificate)

    def prepare(self, name: str, now: datetime, days: int) -> None:
        """Makes the successor, which signs nothing yet: all have to trust it first."""
        signing, known = self.signing(), self.all()
        if len(known) > 1:
            raise WrongState(
                "an authority is being replaced already: `romana certificates authority switch` "
                "or `finish` goes on with it",
                "AUTHORITY_BEING_REPLACED",
            )
        before = authority.facts(signing.certificate).name
        made = authority.new_authority(name or _following(before), now, days=days)
        write_atomic(self._key(NEXT), made.key)
        write_atomic(self.file, made.certificate + self.file.read_bytes())

    def switch(self) -> None:
        """Has the successor sign; the predecessor stays trusted."""
        known = self.all()
        if NEXT not in known:
            raise WrongState(
                "there is no successor: `romana certificates authority prepare` makes one",
                "NO_SUCCESSOR",
            )
        write_atomic(self._key(OLD), known[SIGNS].key)
        write_atomic(self._key(SIGNS), known[NEXT].key)
        self._key(NEXT).unlink()

    def finish(self) -> None:
        """Trusts the one that signs alone."""
        known = self.all()
        if OLD not in known:
            raise WrongState("no authority has been replaced", "NO_PREDECESSOR")
        own = known[SIGNS].certificate
        issuer = revocation.named(own).issuer
        lists = revocation.lists(self.file.read_bytes())
        kept = [block for block in lists if revocation.issuer(block) == issuer]
        write_atomic(self.file, b"".join((own, *kept)))
        self._key(OLD).unlink()

    def revoke(self, certificates: Sequence[bytes], now: datetime) -> None:
        """Takes certificates back, those of authorities that are here."""
        bundle = authority.split(self.file.read_bytes())
        lists: list[bytes] = []
        for pair in self.all().values():
            serials = self._revoked_by(pair) | {
                revocation.named(one).serial
                for one in certificates
                if authority.issued_by(one, pair.certificate)
            }
            if serials:
                lists.append(authority.list_of_revoked(pair, serials, now))
        write_atomic(self.file, b"".join((*bundle, *lists)))

    def revoked(self) -> frozenset[Revoked]:
        try:
            return revocation.revoked(self.file.read_bytes())
        except FileNotFoundError:
            return frozenset()

    def _revoked_by(self, pair: Pair) -> set[int]:
        issuer = revocation.named(pair.certificate).issuer
        return {one.serial for one in self.revoked() if one.issuer == issuer}

    def _key(self, name: str) -> Path:
        return self.path / f"{name}.key"


def _following(name: str) -> str:
    """`romana` and `romana-2`: lists of revoked certificates know authorities by their names."""
    numbered = _NUMBERED.fullmatch(name)
    return f"{numbered[1]}-{int(numbered[2]) + 1}" if numbered else f"{name}-2"
