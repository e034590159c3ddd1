"""Objects for the API server, and what is asked of pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tests.kubernetes.cluster import Cluster, listed
from tests.kubernetes.files import IMAGE
from tests.kubernetes.shell import sh, until

PORT: Final = 80
PREFIX: Final = "romana.io/"


def romana(annotations: Mapping[str, str]) -> dict[str, str]:
    """With our prefix."""
    return {f"{PREFIX}{key}": text for key, text in annotations.items()}


def namespace(
    name: str, labels: Mapping[str, str] | None = None, **annotations: str
) -> dict[str, Any]:
    """A namespace; annotations without our prefix."""
    metadata = {"name": name, "labels": dict(labels or {}), "annotations": romana(annotations)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def pod(
    name: str,
    *,
    space: str = "default",
    node: str = "",
    labels: Mapping[str, str] | None = None,
    command: Sequence[str] = ("probe", "serve"),
    **annotations: str,
) -> dict[str, Any]:
    """A pod that serves TCP 80, UDP 53 and 7, and HTTP 8080; annotations without our prefix."""
    spec = pod_spec(command)
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"app": name, **(labels or {})},
            "annotations": romana(annotations),
        },
        "spec": spec,
    }


def pod_spec(command: Sequence[str] = ("probe", "serve")) -> dict[str, Any]:
    """Of one container."""
    return {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "c",
                "image": IMAGE,
                "command": list(command),
                "ports": [{"name": "http", "containerPort": 8080}],
            }
        ],
    }


def deployment(
    name: str,
    replicas: int,
    *,
    space: str = "default",
    command: Sequence[str] = ("probe", "serve"),
    **annotations: str,
) -> dict[str, Any]:
    """Of such pods; annotations, without our prefix, are theirs."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": romana(annotations)},
                "spec": pod_spec(command),
            },
        },
    }


def stateful_set(
    name: str, replicas: int, *, space: str = "default", **annotations: str
) -> dict[str, Any]:
    """The same, of pods with names of their own."""
    made = deployment(name, replicas, space=space, **annotations)
    made["kind"] = "StatefulSet"
    made["spec"] |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return made


def service(name: str, app: str, *, space: str = "default") -> dict[str, Any]:
    """In front of the pods of an app."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": {"app": app}, "ports": [{"port": PORT}]},
    }


def network_policy(
    name: str,
    *,
    space: str = "default",
    app: str = "",
    peers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Lets nobody but the peers in, to an app's pods or to all."""
    selector = {"matchLabels": {"app": app}} if app else {}
    ingress = [{"from": list(peers)}] if peers else []
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
    }


class Pods:
    """What is asked of the pods of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def run(self, *objects: Mapping[str, Any]) -> None:
        """Applies objects, and waits until the pods among them are Ready."""
        self.cluster.apply(*objects)
        self.wait(
            *((one["metadata"]["namespace"], one["metadata"]["name"])
              for one in objects if one["kind"] == "Pod")
        )  # fmt: skip

    def wait(self, *names: tuple[str, str]) -> None:
        """Waits until pods are Ready, by namespace and name."""
        for space, name in names:
            wait = ("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=240s")
            self.cluster.kubectl("-n", space, *wait)

    def get(self, name: str, space: str = "default") -> Any:
        """The object."""
        return self.cluster.get("-n", space, "pod", name)

    def address(self, name: str, space: str = "default") -> str:
        """Its address."""
        return str(self.get(name, space)["status"]["podIP"])

    def endpoint(self, name: str, space: str = "default") -> str:
        """The name of its endpoint."""
        return f"pod/{space}/{name}/{self.get(name, space)['metadata']['uid']}"

    def ask(
        self,
        name: str,
        address: str,
        port: int = PORT,
        *,
        space: str = "default",
        kind: str = "tcp",
        timeout: float = 1.0,
    ) -> str:
        """What answers a pod that asks; "timeout", "refused" or the like if nothing does."""
        probe = ("probe", "ask", kind, address, port, "--timeout", timeout)
        done = self.cluster.kubectl("-n", space, "exec", name, "--", *probe, check=False)
        return done.stdout.rpartition("  (")[0]

    def reaches(self, name: str, address: str, *, space: str = "default") -> bool:
        """Whether a pod's connection is answered."""
        return self.ask(name, address, space=space) not in {"timeout", "refused", "unreachable"}

    def until_asked(self, name: str, address: str, want: str, *, space: str = "default") -> float:
        """Waits until a pod that asks is answered so; "" for any answer."""
        what = f"{name} to hear {want or 'an answer'} from {address}"
        if want:
            return until(what, lambda: self.ask(name, address, space=space) == want)
        return until(what, lambda: self.reaches(name, address, space=space))

    def delete(self, *objects: Mapping[str, Any]) -> None:
        """Deletes objects and waits for their end."""
        delete = ("delete", "--ignore-not-found", "--wait=true", "-f", "-")
        self.cluster.kubectl(*delete, input=listed(objects))

    def events(self, name: str, space: str = "default") -> list[tuple[str, str]]:
        """Reasons and messages of Romana's events on an object."""
        items = self.cluster.get("-n", space, "events")["items"]
        return [
            (one["reason"], one["message"])
            for one in items
            if one["involvedObject"]["name"] == name and one["source"].get("component") == "romana"
        ]


def inside(cluster: Cluster, node: str, *command: object) -> str:
    """What a command prints that runs on a node."""
    return sh(*cluster.hosts.inside(node, *command)).stdout


def names(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of objects."""
    return [one["metadata"]["name"] for one in items]
