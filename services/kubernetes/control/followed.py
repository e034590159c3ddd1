"""What is followed of the cluster, by every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass

from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Informer, Observer
from services.kubernetes.cluster.kinds import (
    CLUSTER_NETWORK_POLICIES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
)
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.nodes import Node
from services.kubernetes.objects.pods import Pod
from services.kubernetes.objects.policies import CLUSTER, NetworkPolicy


@dataclass(frozen=True, slots=True)
class Followed:
    """The informers."""

    namespaces: Informer[Namespace]
    nodes: Informer[Node]
    pods: Informer[Pod]
    policies: Informer[NetworkPolicy]
    cluster_policies: Informer[NetworkPolicy]
    """Not every cluster has such objects; they may come later."""

    @property
    def tasks(self) -> Mapping[str, Coroutine[object, object, None]]:
        """To be run for ever."""
        return {
            "namespaces": self.namespaces.run(),
            "nodes": self.nodes.run(),
            "pods": self.pods.run(),
            "networkpolicies": self.policies.run(),
            "clusternetworkpolicies": self.cluster_policies.run(),
        }

    def policy(self, name: str) -> NetworkPolicy | None:
        """The object of a policy, by its name in Romana."""
        kind, _, rest = name.partition("/")
        if kind == CLUSTER:
            return self.cluster_policies.items.get(rest)
        return self.policies.items.get(name)

    @property
    def policy_names(self) -> Iterable[str]:
        """In Romana."""
        for informer in (self.policies, self.cluster_policies):
            for one in informer.items.values():
                yield one.policy

    def on_following(self, listener: Callable[[], None]) -> None:
        """Calls it when changes of one of them are heard of again."""
        for one in self._all:
            one.on_following(listener)

    @property
    def is_in_sync(self) -> bool:
        """Everything has been read once."""
        return all(one.is_settled for one in self._all) and all(
            one.is_in_sync for one in self._all if one.is_known
        )

    async def in_sync(self) -> None:
        """Waits until everything has been read once."""
        await asyncio.gather(
            self.namespaces.in_sync(),
            self.nodes.in_sync(),
            self.pods.in_sync(),
            self.policies.in_sync(),
            self.cluster_policies.settled(),
        )

    @property
    def _all(
        self,
    ) -> tuple[
        Informer[Namespace],
        Informer[Node],
        Informer[Pod],
        Informer[NetworkPolicy],
        Informer[NetworkPolicy],
    ]:
        return self.namespaces, self.nodes, self.pods, self.policies, self.cluster_policies


def follow(server: ApiServer, observer: Observer) -> Followed:
    """Informers, which do nothing yet."""
    return Followed(
        Informer(server, NAMESPACES, observer),
        Informer(server, NODES, observer),
        Informer(server, PODS, observer),
        Informer(server, NETWORK_POLICIES, observer),
        Informer(server, CLUSTER_NETWORK_POLICIES, observer),
    )
