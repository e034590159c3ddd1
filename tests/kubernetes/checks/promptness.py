"""Changes of policies and labels are in the kernel at once; how soon is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.objects import Pods, namespace, network_policy, pod
from tests.kubernetes.prompt import ApiCalls, Stream
from tests.kubernetes.romana import Romana

TIMES = 40
POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
FRONT = {"matchLabels": {"role": "front"}}


def labelled(**labels: str | None) -> Mapping[str, Any]:
    return {"metadata": {"labels": labels}}


def test_changes_are_in_the_kernel_at_once(pods: Pods, romana: Romana) -> None:
    pods.run(
        namespace("shop"), pod("web", node="node-1"), pod("client", space="shop", node="node-2")
    )
    address = pods.address("web")
    one = network_policy("some", app="web", peers=[{"podSelector": FRONT, "namespaceSelector": {}}])
    team = network_policy("some", app="web", peers=[{"namespaceSelector": FRONT}])
    of_pod, of_space = "/api/v1/namespaces/shop/pods/client", "/api/v1/namespaces/shop"
    where = romana.namespace_of("node-2", pods.endpoint("client", "shop"))
    with ApiCalls(romana.cluster) as api, Stream(where, address) as stream:
        stream.first_answered(0)

        def apply(policy: Mapping[str, Any]) -> float:
            return api.call("POST", POLICIES, policy)

        def delete(_: Mapping[str, Any]) -> float:
            return api.call("DELETE", f"{POLICIES}/some")

        def series(
            what: str, close: Callable[[], float], reopen: Callable[[], float], times: int = TIMES
        ) -> None:
            closed, opened = [], []
            for _ in range(times):
                closed.append(stream.last_answered(close()))
                opened.append(stream.first_answered(reopen()))
            figures.append(f"{what}: {summary(closed)} to close, {summary(opened)} to open")

        series("a policy, applied and deleted", lambda: apply(one), lambda: delete(one))
        apply(one)
        series(
            "a pod, relabelled",
            lambda: api.call("PATCH", of_pod, labelled(role=None)),
            lambda: api.call("PATCH", of_pod, labelled(role="front")),
        )
        delete(one)
        apply(team)
        series(
            "a namespace, relabelled",
            lambda: api.call("PATCH", of_space, labelled(role=None)),
            lambda: api.call("PATCH", of_space, labelled(role="front")),
        )


def summary(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"median {ordered[len(ordered) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
