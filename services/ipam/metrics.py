"""What ipam tells Prometheus."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.errors import Unavailable
from services.ipam.deciding.commands import Allocated
from services.ipam.ledger.utilization import utilization
from services.ipam.model import NoAddress
from services.ipam.store.replica import Replica

RESULTS = ("given", "existed", "exhausted", "refused", "unavailable")
UNDONE = ("stale", "store_away", "too_large", "deposed", "failed")
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class IpamMetrics:
    """Counters and histograms, and the observer of the committer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._allocations = Counter(
            "romana_ipam_allocations",
            "Requests for addresses, by result.",
            ["result"],
            registry=registry,
        )
        self._results = {result: self._allocations.labels(result) for result in RESULTS}
        self._releases = Counter(
            "romana_ipam_released_addresses", "Addresses that were released.", registry=registry
        )
        self._seconds = Histogram(
            "romana_ipam_commit_seconds",
            "How long transactions took.",
            buckets=SECONDS,
            registry=registry,
        )
        self._commands = Histogram(
            "romana_ipam_commit_requests",
            "Requests per transaction.",
            buckets=SIZES,
            registry=registry,
        )
        self._operations = Histogram(
            "romana_ipam_commit_operations",
            "Keys written per transaction.",
            buckets=SIZES[:8],
            registry=registry,
        )
        undone = Counter(
            "romana_ipam_commits_undone",
            "Transactions that were undone in memory, by reason.",
            ["reason"],
            registry=registry,
        )
        self._undone = {reason: undone.labels(reason) for reason in UNDONE}
        self._failed = Counter(
            "romana_ipam_failed_decisions",
            "Decisions that failed by a defect, and were undone; the log has the request.",
            registry=registry,
        )

    def committed(self, commands: int, operations: int, seconds: float) -> None:
        self._commands.observe(commands)
        self._operations.observe(operations)
        self._seconds.observe(seconds)

    def undone(self, why: str) -> None:
        self._undone[why].inc()

    def released(self, addresses: int) -> None:
        self._releases.inc(addresses)

    def failed(self) -> None:
        self._failed.inc()

    def allocated(self, results: Sequence[object]) -> None:
        rest = [result for result in results if type(result) is not Allocated or result.existed]
        self._results["given"].inc(len(results) - len(rest))
        if rest:
            for kind, count in Counted(map(_kind, rest)).items():
                self._results[kind].inc(count)


def _kind(result: object) -> str:
    if type(result) is Allocated:
        return "existed"
    if isinstance(result, NoAddress):
        return "exhausted"
    return "unavailable" if isinstance(result, Unavailable) else "refused"


class ReplicaCollector(Collector):
    """Reads the replica's state when it is scraped; costs a walk over all prefix groups."""

    def __init__(self, replica: Replica, registry: CollectorRegistry) -> None:
        self._replica = replica
        self._active = Gauge(
            "romana_ipam_active", "1 on the replica that decides.", registry=registry
        )
        self._active.set_function(lambda: float(replica.active))
        in_sync = Gauge(
            "romana_ipam_in_sync", "1 while memory follows the store.", registry=registry
        )
        in_sync.set_function(lambda: float(replica.in_sync))
        revision = Gauge(
            "romana_ipam_revision",
            "Revision up to which memory is equal to the store.",
            registry=registry,
        )
        revision.set_function(lambda: float(replica.revision))
        waiting = Gauge(
            "romana_ipam_waiting_requests",
            "Requests that wait for a transaction.",
            registry=registry,
        )
        waiting.set_function(lambda: float(replica.waiting))
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        addresses = GaugeMetricFamily(
            "romana_ipam_addresses",
            "Addresses of a leaf prefix group by state: used, resting, reserved, held (in blocks).",
            labels=["network", "group", "state"],
        )
        sizes = GaugeMetricFamily(
            "romana_ipam_size_addresses",
            "Addresses that a leaf prefix group has.",
            labels=["network", "group"],
        )
        blocks = GaugeMetricFamily(
            "romana_ipam_blocks",
            "Blocks of a leaf prefix group that are held.",
            labels=["network", "group"],
        )
        releases = GaugeMetricFamily(
            "romana_ipam_node_releases",
            "Nodes that are gone while addresses are in use on them, which will be released.",
            labels=["asked"],
        )
        asked = [release.asked for release in self._replica.ledger.releases.values()]
        for value, text in ((True, "yes"), (False, "no")):
            releases.add_metric([text], asked.count(value))
        for network in utilization(self._replica.ledger):
            leaves = self._replica.ledger.networks[network.network].areas
            for group in network.groups:
                if group.path in leaves:
                    usage, name, path = group.usage, network.network, group.path
                    addresses.add_metric([name, path, "used"], usage.used)
                    addresses.add_metric([name, path, "resting"], usage.resting)
                    addresses.add_metric([name, path, "reserved"], usage.reserved)
                    addresses.add_metric([name, path, "held"], usage.held)
                    sizes.add_metric([name, path], usage.size)
                    blocks.add_metric([name, path], usage.blocks)
        return [addresses, sizes, blocks, releases]
