"""Pods as endpoints, and what their nodes are to do for them."""

from __future__ import annotations

from typing import Final

from services.common.errors import InvalidInput, Violation
from services.common.model.names import NodeName, Segment, Tenant, subject_name
from services.kubernetes.objects.metadata import PREFIX
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.pods import Pod
from services.kubernetes.wanted.sticky import allocation_of
from services.kubernetes.wanted.values import WantedEndpoint
from services.kubernetes.wanted.wishes import read_wishes

SEGMENT_LABEL: Final = f"{PREFIX}segment"
"""On a pod, else on its namespace."""


def is_endpoint(pod: Pod) -> bool:
    """Says whether a pod has, or is to have, addresses of ours."""
    return not (pod.host_network or pod.has_ended)


def endpoint_of(
    pod: Pod, namespace: Namespace, segment_label: str = SEGMENT_LABEL
) -> tuple[WantedEndpoint, list[Violation]]:
    """The endpoint, and what is wrong with the annotations: then it must not be attached."""
    wishes = read_wishes(pod.annotations, namespace.annotations)
    segment = pod.labels.get(segment_label, namespace.labels.get(segment_label, ""))
    problems = list(wishes.problems)
    allocation = allocation_of(pod, namespace, problems)
    problems += subject_name(segment, f"metadata.labels[{segment_label}]", optional=True)
    return (
        WantedEndpoint(
            name=pod.endpoint,
            tenant=Tenant(pod.namespace),
            segment=Segment("" if problems else segment),
            labels=pod.labels,
            ports=pod.ports,
            node=NodeName(pod.node) if pod.node else None,
            addresses=wishes.addresses,
            allocation=allocation,
            is_ending=pod.is_ending,
            refusal=InvalidInput.of(problems).message if problems else "",
        ),
        problems,
    )
