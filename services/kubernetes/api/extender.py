"""What kube-scheduler asks of its extender, as JSON: filter, prioritize, bind.

https://pkg.go.dev/k8s.io/kube-scheduler/extender/v1. With `nodeCacheCapable` it sends names of
nodes, not nodes. Fields have capitals, since the types there have no names for JSON.

What ipam said for a pod when it was filtered is used once more when its nodes are given marks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from services.common.errors import InvalidInput, NotFound, RomanaError, Unavailable
from services.common.model.names import NodeName
from services.common.rpc.http_server import Route, json_route
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.control.binding import Binder
from services.kubernetes.control.followed import Followed
from services.kubernetes.control.waiting import Waiting
from services.kubernetes.objects.pods import Pod, PodObject, pod_of
from services.kubernetes.scheduling.judging import Home, judge, keep_at, score
from services.kubernetes.scheduling.places import Places
from services.kubernetes.scheduling.rooms import Rooms
from services.kubernetes.wanted.endpoints import endpoint_of, is_endpoint
from services.kubernetes.wanted.values import WantedEndpoint, wishes_of

log = structlog.get_logger(__name__)

REMEMBERED: Final = 256
"""Pods between filter and prioritize."""


class _Arguments(msgspec.Struct):
    pod: PodObject = msgspec.field(name="Pod")
    node_names: list[NodeName] | None = msgspec.field(name="NodeNames", default=None)


class _Filtered(msgspec.Struct):
    names: Sequence[str] = msgspec.field(name="NodeNames", default=())
    failed: dict[NodeName, str] = msgspec.field(name="FailedNodes", default_factory=dict)
    unresolvable: dict[NodeName, str] = msgspec.field(
        name="FailedAndUnresolvableNodes", default_factory=dict
    )
    error: str = msgspec.field(name="Error", default="")


class _Priority(msgspec.Struct):
    host: str = msgspec.field(name="Host")
    score: int = msgspec.field(name="Score")


class _Binding(msgspec.Struct):
    name: str = msgspec.field(name="PodName")
    namespace: str = msgspec.field(name="PodNamespace")
    uid: str = msgspec.field(name="PodUID")
    node: str = msgspec.field(name="Node")


class _Bound(msgspec.Struct):
    error: str = msgspec.field(name="Error", default="")


_arguments = msgspec.json.Decoder(_Arguments)
_bindings = msgspec.json.Decoder(_Binding)
_encode = msgspec.json.Encoder().encode


class Extender:
    """The handlers; they take and give bodies."""

    def __init__(
        self,
        followed: Followed,
        ipam: IpamCalls,
        places: Callable[[], Places | None],
        binder: Binder,
        waiting: Waiting,
        *,
        segment_label: str,
    ) -> None:
        """`places`: where nodes are now; None: that is not known yet."""
        self._followed = followed
        self._ipam = ipam
        self._places = places
        self._binder = binder
        self._waiting = waiting
        self._segment_label = segment_label
        self._rooms: OrderedDict[str, list[Rooms]] = OrderedDict()

    @property
    def routes(self) -> Mapping[str, Route]:
        """By path."""
        handlers = {"/filter": self.filter, "/prioritize": self.prioritize, "/bind": self.bind}
        return {path: json_route(handler) for path, handler in handlers.items()}

    async def filter(self, body: bytes) -> bytes:
        """Which nodes the pod may go to; raises InvalidInput for what is no request."""
        pod, nodes = _read(body)
        if not is_endpoint(pod):
            return _encode(_Filtered(nodes))
        try:
            endpoint = self._endpoint(pod)
            if endpoint.refusal:
                return _nowhere(nodes, endpoint.refusal)
            rooms, places = await self._look(pod, endpoint), self._known_places()
            home = await self._home(endpoint)
        except NotFound as error:
            return _nowhere(nodes, error.message)
        except RomanaError as error:
            return _encode(_Filtered(error=error.message))
        judged = judge(rooms, places, nodes)
        for node in keep_at(home, places, nodes) if home is not None else ():
            if judged.failed.pop(node, None):
                judged.fit.append(node)
        if judged.failed and not judged.fit:
            self._waiting.note(pod, endpoint, judged.failed)
        # servers before 1.21 know the first alone; to later ones the second goes before it
        return _encode(
            _Filtered(judged.fit, {**judged.failed, **judged.unresolvable}, judged.unresolvable)
        )

    async def prioritize(self, body: bytes) -> bytes:
        """Marks for nodes; raises InvalidInput for what is no request."""
        pod, nodes = _read(body)
        marks = [0] * len(nodes)
        if is_endpoint(pod):
            try:
                endpoint, places = self._endpoint(pod), self._known_places()
                rooms = self._rooms.pop(pod.object_uid, None)
                if rooms is None:
                    rooms = await self._look(pod, endpoint)
                marks = score(rooms, places, nodes)
                home = await self._home(endpoint)
                if home is not None:
                    kept = keep_at(home, places, nodes)
                    marks = [
                        kept.get(name, mark // 2) for name, mark in zip(nodes, marks, strict=True)
                    ]
            except RomanaError as error:
                log.info("not_prioritized", pod=pod.key, message=error.message)
        return _encode([_Priority(node, mark) for node, mark in zip(nodes, marks, strict=True)])

    async def bind(self, body: bytes) -> bytes:
        """Allocates, then binds; raises InvalidInput for what is no request."""
        try:
            asked = _bindings.decode(body)
        except msgspec.MsgspecError as error:
            raise InvalidInput(str(error)) from error
        key = f"{asked.namespace}/{asked.name}"
        try:
            await self._binder.bind(key, asked.uid, NodeName(asked.node))
        except RomanaError as error:
            log.info("not_bound", pod=key, node=asked.node, message=error.message)
            return _encode(_Bound(error.message))
        return _encode(_Bound())

    def _endpoint(self, pod: Pod) -> WantedEndpoint:
        namespace = self._followed.namespaces.items.get(pod.namespace)
        if namespace is None:
            raise Unavailable(f"namespace {pod.namespace} is not known here yet")
        return endpoint_of(pod, namespace, self._segment_label)[0]

    def _known_places(self) -> Places:
        places = self._places()
        if places is None:
            raise Unavailable("it is not known yet where nodes are")
        return places

    async def _home(self, endpoint: WantedEndpoint) -> Home | None:
        """Where the addresses are that stay with the pod's name."""
        return await self._ipam.home_of(endpoint.allocation) if endpoint.allocation else None

    async def _look(self, pod: Pod, endpoint: WantedEndpoint) -> list[Rooms]:
        rooms = [
            await self._ipam.rooms(endpoint.tenant, endpoint.segment, wish)
            for wish in wishes_of(endpoint)
        ]
        self._rooms[pod.object_uid] = rooms
        while len(self._rooms) > REMEMBERED:
            self._rooms.popitem(last=False)
        return rooms


def _nowhere(nodes: Sequence[NodeName], why: str) -> bytes:
    failed = dict.fromkeys(nodes, why)
    return _encode(_Filtered(failed=failed, unresolvable=failed))


def _read(body: bytes) -> tuple[Pod, list[NodeName]]:
    try:
        asked = _arguments.decode(body)
    except msgspec.MsgspecError as error:
        raise InvalidInput(str(error)) from error
    if asked.node_names is None:
        raise InvalidInput.at("NodeNames", "is missing: the extender has to be nodeCacheCapable")
    return pod_of(asked.pod), asked.node_names
