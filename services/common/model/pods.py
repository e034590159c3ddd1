"""How a pod's endpoint is called: the controller and the agent on its node say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.common.model.names import ENDPOINT_NAME_BYTES, EndpointName

_PREFIX: Final = "pod"


def pod_endpoint(namespace: str, name: str, uid: str) -> EndpointName:
    """Such as "pod/default/web-0/6f1d..."; a long name is cut, since the UID alone is unique."""
    rest = f"{_PREFIX}/{namespace}//{uid}"
    return EndpointName(f"{_PREFIX}/{namespace}/{name[: ENDPOINT_NAME_BYTES - len(rest)]}/{uid}")


@dataclass(frozen=True, slots=True)
class PodName:
    namespace: str
    name: str
    """Perhaps only its beginning."""
    uid: str
    is_cut: bool


def parse_pod_endpoint(name: str) -> PodName | None:
    """The pod of an endpoint; None: it is another kind of endpoint."""
    if not is_pod(name):
        return None
    _, namespace, pod, uid = name.split("/")
    return PodName(namespace, pod, uid, is_cut=len(name) >= ENDPOINT_NAME_BYTES)


def is_pod(name: str) -> bool:
    """Says whether an endpoint is a pod's. What CNI names otherwise has three parts."""
    return name.startswith(f"{_PREFIX}/") and name.count("/") == len(("namespace", "name", "uid"))
