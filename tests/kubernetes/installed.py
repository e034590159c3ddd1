"""Romana on the test cluster as its Helm chart installs it: everything in pods.

pods    10.60.0.0/16, routed, on eth0; a prefix for each node
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.kubernetes import romana_image
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.files import kubeconfig
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.romana import ROOT, Romana

CHART: Final = ROOT / "deploy" / "helm" / "romana"
NAMESPACE: Final = "romana-system"
RELEASE: Final = "romana"
DEPLOYMENTS: Final = ("topology", "ipam", "policy", "kubernetes")


class Installed:
    """The release on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.plan = Romana(cluster)

    def values(self, **more: Any) -> Mapping[str, Any]:
        """For a cluster of three nodes without storage or a registry."""
        image = {"tag": "test"}
        return {
            "images": {"service": image, "agent": image, "etcd": image, "pullPolicy": "Never"},
            "etcd": {
                "storage": {"kind": "host"},
                "nodeSelector": {"kubernetes.io/hostname": self.cluster.hosts.nodes[0]},
            },
            "topology": {"initial": self.initial()},
            **more,
        }

    def initial(self) -> dict[str, Any]:
        """The topology file."""
        found = self.plan.topology()
        return {
            "networks": [one for one in found["networks"] if one["name"] == "pods"],
            "topologies": [one for one in found["topologies"] if one["networks"] == ["pods"]],
        }

    def import_images(self) -> None:
        """Gives the images to every node."""
        folder = self.cluster.hosts.folder
        archive = self.cluster.hosts.run / "romana.tar"
        romana_image.make(folder / "image.tar", archive)
        for node in self.cluster.hosts.nodes:
            ctr = (folder / "bin/ctr", "--namespace", "k8s.io", "images", "import")
            self.cluster.run(node, *ctr, archive)

    def helm(
        self,
        *arguments: object,
        values: Mapping[str, Any] | None = None,
        namespace: str = NAMESPACE,
    ) -> str:
        """helm as the administrator; what it prints."""
        run = self.cluster.hosts.run
        homes = [f"HELM_{part}_HOME={run}/helm" for part in ("CACHE", "CONFIG", "DATA")]
        config = f"--kubeconfig={kubeconfig(self.cluster.hosts, '')}"
        line = ("env", *homes, self.cluster.hosts.folder / "bin/helm", config, *arguments)
        given = () if values is None else ("--values", "-")
        text = "" if values is None else json.dumps(values)
        return self.cluster.run(
            CONTROL, *line, "--namespace", namespace, *given, input=text, timeout=600
        ).stdout

    def up(self, **more: Any) -> None:
        """Installs the chart and waits until everything works."""
        self.import_images()
        self.plan.write_routes()
        self.install(**more)
        self.wait()

    def install(self, **more: Any) -> None:
        """Installs the chart."""
        self.helm("install", RELEASE, CHART, "--create-namespace", values=self.values(**more))

    def wait(self) -> None:
        """Waits until all of it is ready."""
        for name in DEPLOYMENTS:
            self.rollout(f"deployment/romana-{name}")
        self.rollout("daemonset/romana-agent")
        self.cluster.wait_ready()

    def rollout(self, what: str) -> None:
        """Waits for a Deployment or DaemonSet."""
        self.kubectl("rollout", "status", "--timeout=400s", what, timeout=420)

    def kubectl(self, *arguments: object, **more: Any) -> str:
        """kubectl in the release's namespace; what it prints."""
        return self.cluster.kubectl("-n", NAMESPACE, *arguments, **more).stdout

    def keep_logs(self) -> None:
        """Copies what containers say beside what programs say."""
        target = self.cluster.hosts.folder / "logs" / "pods"
        target.mkdir(parents=True, exist_ok=True)
        for one in self.cluster.get("-n", NAMESPACE, "pods")["items"]:
            name = one["metadata"]["name"]
            said = self.kubectl("logs", name, "--all-containers", "--prefix", check=False)
            (target / f"{name}.log").write_text(said + json.dumps(one["status"], indent=1))


def folder_beside(prepared: Path) -> Path:
    """What `prepare` made, for a second cluster at the same time."""
    folder = prepared / "chart"
    folder.mkdir(exist_ok=True)
    for part in ("bin", "cni", "image.tar"):
        link = folder / part
        if not link.is_symlink():
            link.symlink_to(Path("..") / part)
    return folder
