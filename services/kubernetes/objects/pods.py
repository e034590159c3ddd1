"""Pods, as much of them as Romana needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from services.common.model.names import EndpointName
from services.common.model.pods import pod_endpoint
from services.kubernetes.objects.metadata import Metadata, ours

MIRROR: Final = "kubernetes.io/config.mirror"
"""On the API server's copy of a pod that kubelet has from a file: the UID that it has on its node,
which kubelet passes to the CNI plug-in."""
ENDED: Final = frozenset({"Succeeded", "Failed"})


class _Port(msgspec.Struct, frozen=True):
    container_port: int = msgspec.field(name="containerPort", default=0)
    name: str = ""
    protocol: str = "TCP"


class _Container(msgspec.Struct, frozen=True):
    ports: tuple[_Port, ...] | None = None
    restart_policy: str = msgspec.field(name="restartPolicy", default="")


class _Spec(msgspec.Struct, frozen=True):
    node_name: str = msgspec.field(name="nodeName", default="")
    host_network: bool = msgspec.field(name="hostNetwork", default=False)
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] | None = msgspec.field(
        name="initContainers", default=None
    )


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class PodObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A name that a container gives to one of its ports."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Pod:
    """What is known of a pod."""

    namespace: str
    name: str
    uid: str
    """As kubelet passes it on."""
    object_uid: str
    """As the API server has it: another one for a pod from a file."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Ours, without the prefix."""
    node: str
    """Empty: not yet bound."""
    host_network: bool
    is_ending: bool
    """It is being deleted, or its containers have ended."""
    has_ended: bool
    """Its containers have ended, for good."""
    ports: tuple[NamedPort, ...]
    controller: tuple[str, str] | None
    """Kind and name of who cares for it."""

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def endpoint(self) -> EndpointName:
        """The name of its endpoint."""
        return pod_endpoint(self.namespace, self.name, self.uid)


def pod_of(item: PodObject) -> Pod:
    """Takes what is needed."""
    metadata, spec = item.metadata, item.spec
    controller = metadata.controller
    has_ended = item.status.phase in ENDED
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=(metadata.annotations or {}).get(MIRROR) or metadata.uid,
        object_uid=metadata.uid,
        labels=metadata.labels or {},
        annotations=ours(metadata.annotations),
        node=spec.node_name,
        host_network=spec.host_network,
        is_ending=has_ended or metadata.deletion_timestamp is not None,
        has_ended=has_ended,
        ports=_ports(spec),
        controller=None if controller is None else (controller.kind, controller.name),
    )


def _ports(spec: _Spec) -> tuple[NamedPort, ...]:
    """Of containers, and of init containers that run beside them."""
    beside = (one for one in spec.init_containers or () if one.restart_policy == "Always")
    named: dict[tuple[str, str], NamedPort] = {}
    for container in (*spec.containers, *beside):
        for port in container.ports or ():
            if port.name:  # of several with one name the first counts, as for services
                found = NamedPort(port.name, port.protocol, port.container_port)
                named.setdefault((port.name, port.protocol), found)
    return tuple(named.values())
