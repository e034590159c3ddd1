"""One cluster for all checks, which leave it as they found it.

With ROMANA_KUBERNETES_TEST_KEEP=1 a cluster that is up is used, and left up.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.cluster_policy import DEFINITION
from tests.kubernetes.objects import Pods
from tests.kubernetes.romana import EXTENDER, ROOT, WEBHOOK, WIRES, Romana
from tests.kubernetes.shell import until

FOLDER = Path(os.environ.get("ROMANA_KUBERNETES_TEST_DIR", "/var/tmp/romana-kubernetes-test"))
KEEP = bool(os.environ.get("ROMANA_KUBERNETES_TEST_KEEP"))
NODES = 3
OBJECTS = ROOT / "deploy" / "kubernetes"
KINDS = "deployments,statefulsets,services,networkpolicies,pods"

figures: list[str] = []
"""What was measured: printed at the end, never asserted."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures))


@pytest.fixture(scope="session")
def romana() -> Iterator[Romana]:
    """Romana on a cluster of three nodes."""
    if KEEP and (FOLDER / "run").exists():
        yield Romana(Cluster.known(FOLDER))
        return
    cluster = Cluster.up(FOLDER, nodes=NODES, wires=WIRES, extender=EXTENDER)
    made = Romana(cluster)
    try:
        made.up()
        yield made
    finally:
        cluster.keep_logs()
        if not KEEP:
            cluster.down()


@pytest.fixture(scope="session")
def pods(romana: Romana) -> Pods:
    return Pods(romana.cluster)


@pytest.fixture(scope="module")
def definitions(romana: Romana) -> Iterator[None]:
    """Our definitions, and the webhook as far as it is not for a Service."""
    cluster = romana.cluster
    cluster.kubectl("apply", "-f", OBJECTS / "crds.yaml")
    hook = cluster.dry("-f", OBJECTS / "webhook.yaml")
    authority = (cluster.hosts.run / "pki/ca.crt").read_bytes()
    hook["webhooks"][0]["clientConfig"] = {
        "url": f"{WEBHOOK}/validate",
        "caBundle": base64.b64encode(authority).decode(),
    }
    cluster.apply(hook)
    romana.restart_controllers()  # else they would look for the new kinds only every half minute
    yield
    cluster.kubectl("delete", "validatingwebhookconfiguration", "romana", "--ignore-not-found")
    cluster.kubectl("delete", "-f", OBJECTS / "crds.yaml", "--ignore-not-found")


@pytest.fixture
def defined(pods: Pods) -> Iterator[Pods]:
    """A cluster that knows policies of the cluster."""
    pods.cluster.apply(DEFINITION)
    yield pods
    pods.cluster.kubectl("delete", "clusternetworkpolicies", "--all", "--ignore-not-found")
    pods.delete(DEFINITION)


@pytest.fixture(autouse=True)
def clean(romana: Romana) -> Iterator[None]:
    """Ends what a check leaves, and proves that nothing of it is left in Romana."""
    yield
    cluster = romana.cluster

    cluster.kubectl("-n", "default", "delete", "--wait=true", KINDS, "-l", "component!=apiserver")
    ours = [
        name
        for name in _names(cluster, "namespaces")
        if name != "default" and not name.startswith("kube-")
    ]
    if ours:
        cluster.kubectl("delete", "namespace", "--wait=true", *ours)
    until("addresses to be given back", lambda: not romana.addresses())
    until("links to be gone", lambda: not romana.links())


def _names(cluster: Cluster, kind: str) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.get(kind)["items"]]
