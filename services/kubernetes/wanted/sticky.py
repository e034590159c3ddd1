"""Addresses that stay with a pod's name: the next pod of that name has those of the one before.

    romana.io/sticky    "true" or "false"; without it pods of StatefulSets have such

Ipam has them under a name of their own, which is made of the pod's and its namespace's UID, so that
who does not know that cannot ask for them; it looks like a pod's, with a UID of another version.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

from services.common.errors import Violation
from services.common.model.pods import parse_pod_endpoint, pod_endpoint
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.pods import Pod

STICKY: Final = "sticky"
OWNER: Final = "StatefulSet"
_ANSWERS: Final = {"true": True, "false": False}
_VERSION: Final = 5
"""Made of a name; the API server's are drawn at random."""


def allocation_of(pod: Pod, namespace: Namespace, problems: list[Violation]) -> str:
    """The name of its addresses in ipam; empty: the endpoint's."""
    text = pod.annotations.get(STICKY)
    is_sticky = pod.controller is not None and pod.controller[0] == OWNER
    if text is not None:
        found = _ANSWERS.get(text.strip())
        if found is None:
            at = annotation_path(STICKY)
            problems.append(Violation(at, f"{text[:80]!r} is neither true nor false"))
        is_sticky = bool(found)
    if not is_sticky:
        return ""
    digest = hashlib.blake2b(f"{namespace.uid}/{pod.name}".encode(), digest_size=16).digest()
    return pod_endpoint(pod.namespace, pod.name, str(uuid.UUID(bytes=digest, version=_VERSION)))


def is_sticky(name: str) -> bool:
    """Says whether a name in ipam is of addresses that stay with their pod's name."""
    pod = parse_pod_endpoint(name)
    if pod is None:
        return False
    try:
        return uuid.UUID(pod.uid).version == _VERSION
    except ValueError:
        return False
