"""Whose certificate a request is for: the node's on which the pod runs that asks, nobody else's.

The pod is named by the API server, which has it from the token that was shown: it is bound to that
pod. What the request itself says counts for nothing.
"""

from __future__ import annotations

from typing import Final

from services.common.errors import Forbidden
from services.common.model.names import NodeName
from services.kubernetes.objects.pods import Pod
from services.kubernetes.objects.signing_requests import SigningRequest

_ACCOUNT: Final = "system:serviceaccount:"


def agent_pod(request: SigningRequest, namespace: str, account: str) -> str:
    """The pod that asks, NAMESPACE/NAME; raises Forbidden."""
    if request.username != f"{_ACCOUNT}{namespace}:{account}":
        raise Forbidden(f"{request.username} is not the agents' ServiceAccount", "NOT_AN_AGENT")
    if not (request.pod_name and request.pod_uid):
        raise Forbidden("the token is bound to no pod", "NOT_AN_AGENT")
    return f"{namespace}/{request.pod_name}"


def node_of_agent(request: SigningRequest, pod: Pod | None) -> NodeName:
    """The node that the certificate is for; `pod` is who asks, as it is now; raises Forbidden."""
    if pod is None or pod.object_uid != request.pod_uid:
        raise Forbidden(
            f"there is no pod {request.pod_name} with UID {request.pod_uid}", "NOT_AN_AGENT"
        )
    if pod.has_ended or not pod.node:
        raise Forbidden(f"pod {request.pod_name} runs on no node", "NOT_AN_AGENT")
    return NodeName(pod.node)
