"""Single objects as the API server has them now: before anything is taken back that others need."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from services.common.errors import NotFound, Unavailable
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Keyed, Kind

PAGE: Final = 500

T = TypeVar("T", bound=Keyed)


class FreshReads:
    """Reads past all caches; raises Unavailable rather than to guess."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def get(self, kind: Kind[T], key: str) -> T | None:
        """An object by NAMESPACE/NAME, or NAME; None: there is none."""
        namespace, _, name = key.rpartition("/")
        base, _, plural = kind.path.rpartition("/")
        path = f"{base}/namespaces/{namespace}/{plural}" if namespace else kind.path
        try:
            content = await self._server.get(f"{path}/{name}", {})
        except NotFound:
            return None
        try:
            return kind.read(msgspec.Raw(content))[0]
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{path}/{name}: {error}") from error
