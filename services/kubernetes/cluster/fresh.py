"""Single objects as the API server has them now: before anything is taken back that others need."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from services.common.errors import NotFound, Unavailable
from services.common.model.names import EndpointName
from services.common.model.pods import PodName, parse_pod_endpoint
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Keyed, Kind, pages
from services.kubernetes.cluster.kinds import NAMESPACES, PODS
from services.kubernetes.objects.pods import Pod
from services.kubernetes.wanted.endpoints import is_endpoint
from services.kubernetes.wanted.sticky import allocation_of, is_sticky

PAGE: Final = 500

T = TypeVar("T", bound=Keyed)


class FreshReads:
    """Reads past all caches; raises Unavailable rather than to guess."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def is_gone(self, endpoint: EndpointName) -> bool:
        """Whether the pod of an endpoint is no more, or has ended."""
        return await self.node_of(endpoint) is None

    async def node_of(self, endpoint: EndpointName) -> str | None:
        """The node that the pod of an endpoint is bound to; empty: not yet to any. None: it is no
        more, or has ended."""
        pod = parse_pod_endpoint(endpoint)
        if pod is None:
            raise ValueError(f"{endpoint!r} is no pod's")
        found = await self._named(pod)
        if not is_sticky(endpoint):
            return next((one.node for one in found if one.uid == pod.uid), None)
        namespace = await self.get(NAMESPACES, pod.namespace)
        if namespace is None:
            return None
        nodes = (one.node for one in found if allocation_of(one, namespace, []) == endpoint)
        return next(nodes, None)

    async def _named(self, pod: PodName) -> list[Pod]:
        """Those with addresses that it may be: for a name that was cut, all of the namespace."""
        if pod.is_cut:
            found = await self._all(PODS, pod.namespace)
        else:
            one = await self.get(PODS, f"{pod.namespace}/{pod.name}")
            found = [] if one is None else [one]
        return [one for one in found if is_endpoint(one)]

    async def _all(self, kind: Kind[T], namespace: str) -> list[T]:
        base, _, plural = kind.path.rpartition("/")
        path = f"{base}/namespaces/{namespace}/{plural}"
        found: list[T] = []
        async for page in pages(self._server, path, PAGE):
            found += [_read(kind, item, path) for item in page.items or ()]
        return found

    async def get(self, kind: Kind[T], key: str) -> T | None:
        """An object by NAMESPACE/NAME, or NAME; None: there is none."""
        namespace, _, name = key.rpartition("/")
        base, _, plural = kind.path.rpartition("/")
        path = f"{base}/namespaces/{namespace}/{plural}" if namespace else kind.path
        try:
            content = await self._server.get(f"{path}/{name}", {})
        except NotFound:
            return None
        return _read(kind, msgspec.Raw(content), f"{path}/{name}")


def _read(kind: Kind[T], item: msgspec.Raw, path: str) -> T:
    try:
        return kind.read(item)[0]
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{path}: {error}") from error
