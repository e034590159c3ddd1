"""Refuses callers whose certificates have been revoked, and ends their streams.

What is revoked stands beside the authorities in the file by which peers are trusted
(`services.common.certificates.revocation`); servers look at it when they are called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import structlog

from services.common.certificates.revocation import Revoked, named, revoked
from services.common.errors import Forbidden
from services.common.rpc.context import Context
from services.common.tls import FollowedFiles, TlsContent

log = structlog.get_logger(__name__)

CERTIFICATE: Final = "x509_pem_cert"
"""Key of gRPC's auth context: what the peer shows."""
REASON: Final = "CERTIFICATE_REVOKED"
PAUSE: Final = 1.0
"""Seconds between two looks for those whose streams are to be ended."""

Stream: TypeAlias = "asyncio.Task[Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


class RevokedCertificates:
    """Of the authorities that a server trusts."""

    def __init__(self) -> None:
        self._files: list[FollowedFiles] = []
        self._read: list[TlsContent] = []
        self._revoked: frozenset[Revoked] = frozenset()
        self._streams: dict[Stream, Context] = {}
        self._ended: set[Stream] = set()

    def follow(self, files: FollowedFiles) -> None:
        """Takes what stands in these, too."""
        self._files.append(files)
        self._look()

    def check(self, context: Context) -> None:
        """Raises Forbidden if the caller's certificate has been revoked."""
        if self.current and self.has(context):
            raise refused()

    async def run(self) -> None:
        """Ends the streams of those who are revoked, for ever."""
        done = self.current
        while self._files:
            await asyncio.sleep(PAUSE)
            if self.current is done:
                continue
            done = self._revoked
            for stream, context in self._streams.items():
                if self.has(context):
                    self._ended.add(stream)
                    stream.cancel()

    def ending(self, behaviour: Behaviour) -> Behaviour:
        """A stream that raises Forbidden when its caller's certificate is revoked."""

        async def until_revoked(request: Any, context: Context) -> Any:
            stream = asyncio.current_task()
            if stream is None or not self._files:
                return await behaviour(request, context)
            self._streams[stream] = context
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                if stream not in self._ended:
                    raise
                stream.uncancel()
                raise refused() from None
            finally:
                del self._streams[stream]
                self._ended.discard(stream)

        return until_revoked

    def has(self, context: Context) -> bool:
        """Whether the caller's certificate has been revoked, as was known at the last look."""
        auth: Mapping[str, Iterable[bytes]] = context.auth_context()
        return any(_named(shown) in self._revoked for shown in auth.get(CERTIFICATE, ()))

    @property
    def current(self) -> frozenset[Revoked]:
        """What is revoked now; the same object as long as nothing has changed."""
        if any(
            files.current() is not read for files, read in zip(self._files, self._read, strict=True)
        ):
            self._look()
        return self._revoked

    def _look(self) -> None:
        self._read = [files.current() for files in self._files]
        found = frozenset[Revoked]().union(*(revoked(read.ca) for read in self._read))
        if found != self._revoked:
            self._revoked = found
            log.info("certificates_revoked", count=len(found))


def refused() -> Forbidden:
    """What the owner of a revoked certificate gets."""
    return Forbidden("this certificate has been revoked: ask for another one", REASON)


@lru_cache(maxsize=4096)
def _named(certificate: bytes) -> Revoked:
    return named(certificate)
