"""The kinds of objects that are followed."""

from __future__ import annotations

from typing import Final

from services.kubernetes.cluster.informer import Kind
from services.kubernetes.objects.device_groups import (
    DeviceGroupObject,
    DeviceGroupResource,
    device_group_of,
)
from services.kubernetes.objects.namespaces import Namespace, NamespaceObject, namespace_of
from services.kubernetes.objects.networks import NetworkObject, NetworkResource, network_of
from services.kubernetes.objects.nodes import Node, NodeObject, node_of
from services.kubernetes.objects.pods import Pod, PodObject, pod_of
from services.kubernetes.objects.policies import (
    NetworkPolicy,
    NetworkPolicyObject,
    network_policy_of,
)
from services.kubernetes.objects.signing_requests import (
    SigningRequest,
    SigningRequestObject,
    signing_request_of,
)
from services.kubernetes.objects.topologies import TopologyObject, TopologyResource, topology_of

NAMESPACES: Final[Kind[Namespace]] = Kind("/api/v1/namespaces", NamespaceObject, namespace_of)
NODES: Final[Kind[Node]] = Kind("/api/v1/nodes", NodeObject, node_of)
PODS: Final[Kind[Pod]] = Kind("/api/v1/pods", PodObject, pod_of)
NETWORK_POLICIES: Final[Kind[NetworkPolicy]] = Kind(
    "/apis/networking.k8s.io/v1/networkpolicies", NetworkPolicyObject, network_policy_of
)
CLUSTER_NETWORK_POLICIES: Final[Kind[NetworkPolicy]] = Kind(
    "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
    NetworkPolicyObject,
    network_policy_of,
)
"""Of the kind that not every cluster has."""
SIGNING_REQUESTS: Final[Kind[SigningRequest]] = Kind(
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    SigningRequestObject,
    signing_request_of,
)
TOPOLOGIES: Final[Kind[TopologyResource]] = Kind(
    "/apis/romana.io/v1alpha1/romanatopologies", TopologyObject, topology_of
)
NETWORKS: Final[Kind[NetworkResource]] = Kind(
    "/apis/romana.io/v1alpha1/romananetworks", NetworkObject, network_of
)
DEVICE_GROUPS: Final[Kind[DeviceGroupResource]] = Kind(
    "/apis/romana.io/v1alpha1/romanadevicegroups", DeviceGroupObject, device_group_of
)

WORDS: Final = {
    NAMESPACES.path: "namespaces",
    NODES.path: "nodes",
    PODS.path: "pods",
    NETWORK_POLICIES.path: "networkpolicies",
    CLUSTER_NETWORK_POLICIES.path: "clusternetworkpolicies",
    TOPOLOGIES.path: "romanatopologies",
    NETWORKS.path: "romananetworks",
    DEVICE_GROUPS.path: "romanadevicegroups",
    SIGNING_REQUESTS.path: "certificatesigningrequests",
}
