"""Binds a pod to a node once it has its address there, so that no pod is bound without one.

The address is allocated by the pod's name, as the agent will do it again when the pod is attached:
that it is there already is all that the agent finds. If the API server refuses the binding it is
given back; if it is not known whether it was done, the API server is asked, and as long as it does
not answer the address stays: whoever binds the pod next finds it, and what no pod has in the end is
collected.
"""

from __future__ import annotations

import structlog

from services.common.errors import (
    AlreadyExists,
    Exhausted,
    NotFound,
    RomanaError,
    Unavailable,
    WrongState,
)
from services.common.model.names import NodeName
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.kinds import NAMESPACES, PODS
from services.kubernetes.control.followed import Followed
from services.kubernetes.control.keeping import Keeping
from services.kubernetes.control.waiting import Waiting
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.pods import Pod
from services.kubernetes.wanted.endpoints import endpoint_of, is_endpoint
from services.kubernetes.wanted.values import WantedEndpoint, allocation_name

log = structlog.get_logger(__name__)


class Binder:
    """Binds pods."""

    def __init__(
        self,
        server: ApiServer,
        followed: Followed,
        fresh: FreshReads,
        ipam: IpamCalls,
        waiting: Waiting,
        keeping: Keeping,
        *,
        segment_label: str,
    ) -> None:
        self._waiting = waiting
        self._keeping = keeping
        self._server = server
        self._followed = followed
        self._fresh = fresh
        self._ipam = ipam
        self._segment_label = segment_label

    async def bind(self, key: str, uid: str, node: NodeName) -> None:
        """Binds a pod, by NAMESPACE/NAME and its UID at the API server.

        Raises RomanaErrors: Exhausted if there is no address; nothing is bound then.
        """
        pod = await self._pod(key, uid)
        if not is_endpoint(pod):
            await self._bind(pod, node)
            return
        namespace = await self._namespace(pod.namespace)
        endpoint, _ = endpoint_of(pod, namespace, self._segment_label)
        if endpoint.refusal:
            raise WrongState(endpoint.refusal)
        await self._keeping.bring(pod, endpoint, node)
        try:
            existed = await self._allocate(pod, endpoint, node)
        except Exhausted:  # somebody else was quicker
            nodes = map(NodeName, self._followed.nodes.items)
            self._waiting.note(pod, endpoint, nodes)
            raise
        try:
            await self._bind(pod, node)
        except Unavailable:
            bound = await self._fresh.get(PODS, key)
            if bound is None or bound.object_uid != uid or bound.node != node:
                raise
        except RomanaError:
            if not existed:
                await self._give_back(endpoint, node)
            raise

    async def _pod(self, key: str, uid: str) -> Pod:
        pod = self._followed.pods.items.get(key)
        if pod is None or pod.object_uid != uid:
            pod = await self._fresh.get(PODS, key)
        if pod is None or pod.object_uid != uid:
            raise NotFound(f"pod {key} ({uid}) is gone")
        return pod

    async def _namespace(self, name: str) -> Namespace:
        namespace = self._followed.namespaces.items.get(name)
        if namespace is None:
            namespace = await self._fresh.get(NAMESPACES, name)
        if namespace is None:
            raise NotFound(f"namespace {name} is gone")
        return namespace

    async def _allocate(self, pod: Pod, endpoint: WantedEndpoint, node: NodeName) -> bool:
        """Whether it had its addresses before."""
        try:
            _, existed = await self._ipam.allocate(endpoint, node)
        except AlreadyExists:
            # of an attempt to bind it elsewhere, if it is bound nowhere; or it wanted others then
            now = await self._fresh.get(PODS, pod.key)
            if now is None or now.object_uid != pod.object_uid or now.node:
                raise
            await self._give_back(endpoint, None)
            _, existed = await self._ipam.allocate(endpoint, node)
        return existed

    async def _give_back(self, endpoint: WantedEndpoint, node: NodeName | None) -> None:
        try:
            await self._ipam.release(allocation_name(endpoint), node)
        except RomanaError as error:
            log.warning("not_given_back", endpoint=endpoint.name, message=error.message)

    async def _bind(self, pod: Pod, node: NodeName) -> None:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/binding"
        metadata = {"name": pod.name, "namespace": pod.namespace, "uid": pod.object_uid}
        target = {"kind": "Node", "name": node}
        await self._server.post(
            path,
            {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target},
        )
