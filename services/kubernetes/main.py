"""Builds and runs one replica of the controller of Kubernetes."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from typing import Final

from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.command import run_service
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.metrics import LoopLag, new_registry
from services.common.process.serving_tls import ServingTls
from services.common.rpc.http_server import HttpServer
from services.common.rpc.identity import Role
from services.common.rpc.replicas import Replicas
from services.common.rpc.serving import serve_metrics
from services.kubernetes.api.extender import Extender
from services.kubernetes.api.webhook import Webhook
from services.kubernetes.calls.devices import DeviceCalls
from services.kubernetes.calls.follow_topology import PlacesFollower
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.cluster.api_server import ApiServer, load_config
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import (
    DEVICE_GROUPS,
    NETWORKS,
    SIGNING_REQUESTS,
    TOPOLOGIES,
    WORDS,
)
from services.kubernetes.cluster.lease import LeaseElection
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control.apply_topology import TopologyApplier
from services.kubernetes.control.binding import Binder
from services.kubernetes.control.collecting import Collecting
from services.kubernetes.control.device_groups import DeviceGroups
from services.kubernetes.control.followed import Followed, follow
from services.kubernetes.control.keeping import Keeping
from services.kubernetes.control.leading import Leading
from services.kubernetes.control.mark_nodes import NodeMarking
from services.kubernetes.control.show_in_force import InForceShowing
from services.kubernetes.control.show_networks import NetworkShowing
from services.kubernetes.control.sign_nodes import Authority, NodeSigner
from services.kubernetes.control.tell_policy import PolicyTeller
from services.kubernetes.control.tell_topology import TopologyTeller
from services.kubernetes.control.waiting import Waiting
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.scheduling.places import Places
from services.kubernetes.settings import KubernetesSettings

DRAIN_SECONDS: Final = 5.0
SCHEDULING_ROLES: Final = frozenset({Role.ORCHESTRATOR, Role.SERVICE, Role.OPERATOR})
"""Who may have pods bound; nodes have certificates of the same authority."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loops of a replica have in common."""

    server: ApiServer
    fresh: FreshReads
    followed: Followed
    recorder: Recorder
    metrics: ControllerMetrics
    policy: PolicyCalls
    devices: DeviceCalls
    topology: TopologyCalls
    ipam: IpamCalls
    keeping: Keeping
    places: PlacesFollower


async def serve(life: Lifecycle, settings: KubernetesSettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("kubernetes")
    CertificateCollector({"calls": settings.tls.files()}, registry)
    server = ApiServer(load_config(settings.kubeconfig))
    life.on_stop(Phase.CLOSE, "API server", server.close)
    lease = settings.lease
    election = LeaseElection(
        server,
        namespace=lease.namespace,
        name=lease.name,
        identity=settings.identity,
        duration=lease.seconds,
    )
    life.on_stop(Phase.RELEASE, "lease", election.resign)
    metrics = ControllerMetrics(registry, WORDS, lambda: election.is_leader)
    parts = _parts(life, settings, server, metrics)
    followed = parts.followed
    await serve_metrics(life, settings.metrics.address, registry, lambda: followed.is_in_sync)
    leading = Leading(election, followed)
    followed.on_following(leading.kick)
    _lead(life, settings, parts, leading)
    await _serve_extender(life, settings, parts)
    await _serve_webhook(life, settings, parts)
    life.start("places", parts.places.run())
    for name, task in followed.tasks.items():
        life.start(name, task)
    life.start("events", parts.recorder.run())
    life.start("lease", election.run())
    life.start("leading", leading.run())
    life.start("lag", LoopLag(registry).run())


def _parts(
    life: Lifecycle, settings: KubernetesSettings, server: ApiServer, metrics: ControllerMetrics
) -> Parts:
    tls, insecure = settings.tls.files(), settings.insecure
    policy = Replicas(
        PolicyServiceStub, settings.policy, tls, insecure=insecure, program="romana-kubernetes"
    )
    topology = Replicas(
        TopologyServiceStub, settings.topology, tls, insecure=insecure, program="romana-kubernetes"
    )
    ipam = Replicas(
        IpamServiceStub, settings.ipam, tls, insecure=insecure, program="romana-kubernetes"
    )
    life.on_stop(Phase.CLOSE, "policy", policy.close)
    life.on_stop(Phase.CLOSE, "topology", topology.close)
    life.on_stop(Phase.CLOSE, "ipam", ipam.close)
    recorder, ipam_calls = Recorder(server), IpamCalls(ipam)
    return Parts(
        server,
        FreshReads(server),
        follow(server, metrics),
        recorder,
        metrics,
        PolicyCalls(policy),
        DeviceCalls(policy),
        TopologyCalls(topology),
        ipam_calls,
        Keeping(ipam_calls, recorder),
        PlacesFollower(topology.stubs),
    )


def _lead(life: Lifecycle, settings: KubernetesSettings, parts: Parts, leading: Leading) -> None:
    """What only the elected replica does."""
    policy = leading.add(
        "policy",
        lambda changed: PolicyTeller(
            parts.followed,
            parts.policy,
            parts.fresh,
            parts.recorder,
            parts.metrics,
            changed,
            segment_label=settings.segment_label,
            keeping=parts.keeping,
        ),
    )
    in_force = InForceShowing(parts.followed, policy, parts.policy, parts.server, parts.recorder)
    leading.also("policies in force", in_force.run)
    leading.add(
        "topology",
        lambda changed: TopologyTeller(
            parts.followed,
            parts.topology,
            parts.fresh,
            parts.recorder,
            parts.metrics,
            changed,
            force=settings.force_node_deletion,
        ),
    )
    topologies = Informer(parts.server, TOPOLOGIES, parts.metrics)
    leading.add(
        "topology file",
        lambda changed: TopologyApplier(topologies, parts.topology, parts.server, changed),
    )
    life.start("romanatopologies", topologies.run())
    groups = Informer(parts.server, DEVICE_GROUPS, parts.metrics)
    devices = leading.add(
        "devices",
        lambda changed: DeviceGroups(
            groups, parts.devices, parts.server, changed, policy.mark_concerned
        ),
    )
    leading.also("devices shown", devices.run)
    life.start("romanadevicegroups", groups.run())
    networks = Informer(parts.server, NETWORKS, parts.metrics)
    showing = NetworkShowing(networks, parts.topology, parts.ipam, parts.server)
    leading.also("networks", showing.run)
    life.start("romananetworks", networks.run())
    marking = NodeMarking(
        parts.followed.nodes, parts.policy, parts.server, lambda: parts.places.places
    )
    leading.also("nodes", marking.run)
    collecting = Collecting(
        parts.ipam,
        parts.policy,
        parts.fresh,
        parts.metrics,
        policy.node_of,
        kept_seconds=settings.kept_seconds,
    )
    leading.also("leaks", collecting.run)
    if (folder := settings.authority.folder) is not None:
        authority = Authority(folder, settings.authority.namespace, settings.authority.account)
        requests = Informer(parts.server, SIGNING_REQUESTS, parts.metrics)
        leading.add(
            "nodes' certificates",
            lambda changed: NodeSigner(requests, parts.server, changed, authority),
        )
        life.start("certificatesigningrequests", requests.run())


async def _serve_webhook(life: Lifecycle, settings: KubernetesSettings, parts: Parts) -> None:
    """What every replica does for the API server, if it has a certificate for it."""
    tls = settings.webhook.serving()
    if tls is None:
        return
    http = HttpServer("webhook", Webhook(parts.topology, parts.devices).routes)
    await _serve_http(life, "webhook", http, settings.webhook.address, tls)


async def _serve_extender(life: Lifecycle, settings: KubernetesSettings, parts: Parts) -> None:
    """What every replica does for kube-scheduler."""

    def places() -> Places | None:
        return parts.places.places

    waiting = Waiting(parts.server, parts.followed, parts.ipam, places)
    label = settings.segment_label
    binder = Binder(
        parts.server,
        parts.followed,
        parts.fresh,
        parts.ipam,
        waiting,
        parts.keeping,
        segment_label=label,
    )
    extender = Extender(parts.followed, parts.ipam, places, binder, waiting, segment_label=label)
    http = HttpServer("extender", extender.routes, roles=SCHEDULING_ROLES)
    tls = settings.extender.serving("extender.address")
    await _serve_http(life, "extender", http, settings.extender.address, tls)
    life.start("waiting", waiting.run())


async def _serve_http(
    life: Lifecycle, name: str, http: HttpServer, address: str, tls: ServingTls | None
) -> None:
    await http.start(address, None if tls is None else tls.context)
    life.on_stop(Phase.DRAIN, name, lambda: http.stop(DRAIN_SECONDS))
    if tls is not None:
        life.start(f"certificate of the {name}", tls.run())


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    # The default thresholds look through all young objects every 700 allocations.
    gc.set_threshold(50_000, 50, 100)
    return run_service("kubernetes", KubernetesSettings, serve, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
