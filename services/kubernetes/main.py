"""Builds and runs one replica of the controller of Kubernetes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Final

from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.process.command import run_service
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.serving import serve_metrics
from services.kubernetes.api.extender import Extender
from services.kubernetes.api.http_server import HttpServer
from services.kubernetes.calls.follow_topology import PlacesFollower
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.calls.replicas import Replicas
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.cluster.api_server import ApiServer, load_config
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import SIGNING_REQUESTS, WORDS
from services.kubernetes.cluster.lease import LeaseElection
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control.binding import Binder
from services.kubernetes.control.followed import follow
from services.kubernetes.control.leading import Leading, Teller
from services.kubernetes.control.sign_nodes import Authority, NodeSigner
from services.kubernetes.control.tell_policy import PolicyTeller
from services.kubernetes.control.tell_topology import TopologyTeller
from services.kubernetes.control.waiting import Waiting
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.settings import KubernetesSettings

DRAIN_SECONDS: Final = 5.0


async def serve(life: Lifecycle, settings: KubernetesSettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("kubernetes")
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
    followed = follow(server, metrics)
    await serve_metrics(life, settings.metrics.address, registry, lambda: followed.is_in_sync)
    recorder = Recorder(server)
    leading = Leading(election, followed)
    followed.on_following(leading.kick)
    tls = settings.tls.files()
    policy = Replicas(PolicyServiceStub, settings.policy, tls, insecure=settings.insecure)
    topology = Replicas(TopologyServiceStub, settings.topology, tls, insecure=settings.insecure)
    life.on_stop(Phase.CLOSE, "policy", policy.close)
    life.on_stop(Phase.CLOSE, "topology", topology.close)

    def tell_policy(changed: Callable[[], None]) -> Teller:
        return PolicyTeller(
            followed,
            PolicyCalls(policy),
            recorder,
            metrics,
            changed,
            segment_label=settings.segment_label,
        )

    def tell_topology(changed: Callable[[], None]) -> Teller:
        return TopologyTeller(
            followed,
            TopologyCalls(topology),
            FreshReads(server),
            recorder,
            metrics,
            changed,
            force=settings.force_node_deletion,
        )

    ipam = Replicas(IpamServiceStub, settings.ipam, tls, insecure=settings.insecure)
    life.on_stop(Phase.CLOSE, "ipam", ipam.close)
    places = PlacesFollower(topology.stubs)
    waiting = Waiting(server, followed, IpamCalls(ipam), lambda: places.places)
    binder = Binder(
        server,
        followed,
        FreshReads(server),
        IpamCalls(ipam),
        waiting,
        segment_label=settings.segment_label,
    )
    extender = Extender(
        followed,
        IpamCalls(ipam),
        lambda: places.places,
        binder,
        waiting,
        segment_label=settings.segment_label,
    )
    http = HttpServer(extender.handlers)
    await http.start(settings.extender.address, settings.extender.context())
    life.on_stop(Phase.DRAIN, "extender", lambda: http.stop(DRAIN_SECONDS))
    life.start("places", places.run())
    life.start("waiting", waiting.run())
    leading.add("policy", tell_policy)
    leading.add("topology", tell_topology)
    if (folder := settings.authority.folder) is not None:
        authority = Authority(folder, settings.authority.namespace, settings.authority.account)
        requests = Informer(server, SIGNING_REQUESTS, metrics)

        def sign_nodes(changed: Callable[[], None]) -> Teller:
            return NodeSigner(requests, server, changed, authority)

        leading.add("nodes' certificates", sign_nodes)
        life.start("certificatesigningrequests", requests.run())
    for name, task in followed.tasks.items():
        life.start(name, task)
    life.start("events", recorder.run())
    life.start("lease", election.run())
    life.start("leading", leading.run())
    life.start("lag", LoopLag(registry).run())


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    # The default thresholds look through all young objects every 700 allocations.
    gc.set_threshold(50_000, 50, 100)
    return run_service("kubernetes", KubernetesSettings, serve, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
