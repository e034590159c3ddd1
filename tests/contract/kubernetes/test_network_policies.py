"""Network policies on their way to the policy service, and what is shown of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import Exhausted, InvalidInput, Violation
from services.kubernetes.calls.policy import InForce
from services.kubernetes.cluster import informer
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.kinds import CLUSTER_NETWORK_POLICIES, WORDS
from services.kubernetes.cluster.recorder import Note
from services.kubernetes.control.followed import follow
from services.kubernetes.control.show_in_force import InForceShowing
from services.kubernetes.control.tell_policy import PolicyTeller
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.objects.policies import NetworkPolicy
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

CLUSTER = CLUSTER_NETWORK_POLICIES.path
NAMESPACED = "/apis/networking.k8s.io/v1/networkpolicies"


class Policies:
    """What the policy service has, and says."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.warnings: list[tuple[str, Violation]] = []
        self.bad: set[str] = set()
        self.most = 1 << 20
        """Bytes of a request."""
        self.states: dict[str, InForce] = {}
        self.applied = 0

    async def apply(self, policies: Sequence[NetworkPolicy]) -> list[tuple[str, Violation]]:
        if sum(len(one.spec) for one in policies) > self.most:
            raise Exhausted("too large for a message")
        if any(one.policy in self.bad for one in policies):
            raise InvalidInput.at("spec.tier", "is wrong")
        self.known |= {one.policy: one.spec for one in policies}
        self.applied += len(policies)
        return [one for one in self.warnings if one[0] in {each.policy for each in policies}]

    async def delete_policy(self, name: str) -> None:
        self.known.pop(name, None)

    async def policies(self) -> set[str]:
        return set(self.known)

    async def tenants(self) -> set[str]:
        return set()

    async def endpoints(self) -> set[str]:
        return set()

    async def in_force(self, names: Sequence[str]) -> dict[str, InForce]:
        return {
            name: self.states.get(name, InForce(0, 0, ())) for name in names if name in self.known
        }


class Notes:
    """Events that were written."""

    def __init__(self) -> None:
        self.all: list[Note] = []

    def note(self, note: Note) -> None:
        self.all.append(note)

    @property
    def said(self) -> list[tuple[str, str, str]]:
        """Since asked before."""
        found = [(one.subject.name, one.reason, one.message) for one in self.all]
        self.all.clear()
        return found


class Stays:
    """No pod's addresses stay with its name."""

    async def bring(self, *_: object) -> None: ...


class World:
    """A controller's part that has to do with policies."""

    def __init__(self, fake: FakeApiServer, server: Any) -> None:
        self.fake = fake
        self.policy: Any = Policies()
        self.notes: Any = Notes()
        self.keeping: Any = Stays()
        metrics = ControllerMetrics(CollectorRegistry(), WORDS, lambda: True)
        self.followed = follow(server, metrics)
        self.teller = PolicyTeller(
            self.followed,
            self.policy,
            FreshReads(server),
            self.notes,
            metrics,
            lambda: None,
            segment_label="segment",
            keeping=self.keeping,
        )
        self.showing = InForceShowing(self.followed, self.teller, self.policy, server, self.notes)

    async def until(self, holds: Callable[[], bool]) -> None:
        async def asked() -> bool:
            return holds()

        await poll(asked, 20)

    async def tell(self) -> None:
        while await self.teller.tell():
            pass

    def conditions(self, name: str) -> list[tuple[str, str, str, int]]:
        found = self.fake.objects[f"{CLUSTER}/{name}"].get("status", {}).get("conditions", ())
        return [
            (one["status"], one["reason"], one["message"], one["observedGeneration"])
            for one in found
            if one["type"] == "InForce"
        ]

    async def put(self, name: str, **spec: Any) -> None:
        """Changes a policy of the cluster, and waits until that is heard of."""
        path = f"{CLUSTER}/{name}"
        generation = 1 + self.fake.objects.get(path, {"metadata": {}})["metadata"].get(
            "generation", 0
        )
        status = self.fake.objects.get(path, {}).get("status", {})
        self.fake.put(
            path, metadata={"uid": "u", "generation": generation}, spec=spec, status=status
        )
        items = self.followed.cluster_policies.items
        await self.until(lambda: name in items and items[name].generation == generation)


@contextlib.asynccontextmanager
async def world(fake: FakeApiServer) -> AsyncIterator[World]:
    async with fake.serve() as server:
        made = World(fake, server)
        tasks = [asyncio.create_task(task) for task in made.followed.tasks.values()]
        try:
            await made.followed.in_sync()
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_policies_of_the_cluster_are_told_under_a_name_that_no_namespace_has() -> None:
    fake = FakeApiServer()
    fake.put(f"{NAMESPACED}/p", metadata={"namespace": "shop"}, spec={"a": 1})
    fake.put(f"{CLUSTER}/p", spec={"b": 2})
    async with world(fake) as there:
        await there.tell()
        assert there.policy.known == {
            "shop/p": b'{"a": 1}',
            "ClusterNetworkPolicy/p": b'{"b": 2}',
        }
        fake.delete(f"{CLUSTER}/p")
        await there.until(lambda: not there.followed.cluster_policies.items)
        await there.tell()
        assert set(there.policy.known) == {"shop/p"}


async def test_a_kind_that_is_not_there_holds_nothing_up_and_is_taken_up_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "MISSING_SECONDS", 0.05)
    fake = FakeApiServer()
    fake.unknown.add(CLUSTER)
    fake.put(f"{CLUSTER}/p", spec={})
    async with world(fake) as there:
        there.policy.known["ClusterNetworkPolicy/p"] = b""
        assert there.followed.is_in_sync
        assert there.followed.cluster_policies.misses_nothing
        await there.teller.mark_strays()
        await there.tell()
        assert set(there.policy.known) == {"ClusterNetworkPolicy/p"}, "nobody says that it is gone"
        fake.unknown.clear()
        await there.until(lambda: "p" in there.followed.cluster_policies.items)
        await there.tell()
        assert there.policy.known == {"ClusterNetworkPolicy/p": b"{}"}


async def test_what_is_gone_while_nobody_looked_is_taken_back() -> None:
    async with world(FakeApiServer()) as there:
        there.policy.known |= {"ClusterNetworkPolicy/gone": b"", "shop/gone": b""}
        await there.teller.mark_strays()
        await there.tell()
        assert there.policy.known == {}


async def test_what_is_not_understood_is_an_event_and_so_is_what_is_refused() -> None:
    fake = FakeApiServer()
    for name in ("clear", "unclear", "bad"):
        fake.put(f"{CLUSTER}/{name}", spec={})
    async with world(fake) as there:
        there.policy.bad = {"ClusterNetworkPolicy/bad"}
        problem = Violation("spec.ingress[0].from[0]", "unknown")
        there.policy.warnings = [("ClusterNetworkPolicy/unclear", problem)]
        await there.tell()
        assert set(there.policy.known) == {
            "ClusterNetworkPolicy/clear",
            "ClusterNetworkPolicy/unclear",
        }
        assert sorted(there.notes.said) == [
            ("bad", "RomanaRefused", "spec.tier: is wrong"),
            ("unclear", "RomanaFailsClosed", "spec.ingress[0].from[0]: unknown"),
        ]


async def test_a_policy_that_is_too_large_is_refused_and_keeps_no_other_waiting() -> None:
    fake = FakeApiServer()
    for name, size in (("a", 10), ("b", 90), ("large", 200)):
        fake.put(f"{CLUSTER}/{name}", spec={"x": "x" * size})
    async with world(fake) as there:
        there.policy.most = 110
        await there.tell()
        assert set(there.policy.known) == {"ClusterNetworkPolicy/a", "ClusterNetworkPolicy/b"}
        assert there.notes.said == [("large", "RomanaRefused", "too large for a message")]


async def test_policies_that_name_devices_are_told_again_when_groups_change() -> None:
    fake = FakeApiServer()
    for name in ("via", "mirror", "network"):
        fake.put(f"{CLUSTER}/{name}", metadata={"annotations": {f"romana.io/{name}": "x"}}, spec={})
    async with world(fake) as there:
        await there.tell()
        there.policy.known.clear()
        there.teller.mark_concerned()
        await there.tell()
        assert set(there.policy.known) == {
            "ClusterNetworkPolicy/via",
            "ClusterNetworkPolicy/mirror",
        }


async def test_a_condition_says_on_how_many_nodes_a_policy_is_in_force() -> None:
    fake = FakeApiServer()
    async with world(fake) as there:
        await there.put("p", a=1)
        await there.showing.look()
        assert there.conditions("p") == [], "it was not told of"
        await there.tell()
        there.policy.states["ClusterNetworkPolicy/p"] = InForce(3, 1, ("n1", "n2"))
        await there.showing.look()
        assert there.conditions("p") == [("False", "Pending", "on 1 of 3 nodes; not on n1, n2", 1)]
        there.policy.states["ClusterNetworkPolicy/p"] = InForce(3, 3, ())
        await there.showing.look()
        assert there.conditions("p") == [("True", "Applied", "on 3 of 3 nodes", 1)]


async def test_a_condition_is_written_once_and_does_not_have_its_policy_told_again() -> None:
    fake = FakeApiServer()
    async with world(fake) as there:
        await there.put("p", a=1)
        await there.tell()
        await there.showing.look()
        await there.until(lambda: bool(there.followed.cluster_policies.items["p"].conditions))
        await there.showing.look()
        await there.tell()
        assert there.policy.applied == 1
        assert sum(one.startswith("PATCH") for one in fake.requests) == 1


async def test_what_is_refused_is_not_in_force_until_it_is_mended() -> None:
    fake = FakeApiServer()
    async with world(fake) as there:
        there.policy.bad = {"ClusterNetworkPolicy/p"}
        await there.put("p", a=1)
        await there.tell()
        await there.showing.look()
        assert there.conditions("p") == [("False", "Refused", "spec.tier: is wrong", 1)]
        there.policy.bad = set()
        await there.put("p", a=2)
        await there.tell()
        await there.showing.look()
        assert there.conditions("p") == [
            ("True", "NothingSelected", "it selects nothing on any node", 2)
        ]


async def test_a_policy_of_a_namespace_has_events_when_that_changes_for_good() -> None:
    fake = FakeApiServer()
    async with world(fake) as there:
        await there.until(lambda: there.followed.policies.is_following)
        fake.put(f"{NAMESPACED}/p", metadata={"namespace": "shop"}, spec={})
        await there.until(lambda: "shop/p" in there.followed.policies.items)
        await there.tell()
        there.policy.states["shop/p"] = InForce(1, 1, ())
        await there.showing.look()
        await there.showing.look()
        assert there.notes.said == [("p", "InForce", "on 1 of 1 nodes")]
        there.policy.states["shop/p"] = InForce(2, 1, ("n2",))
        await there.showing.look()
        assert there.notes.said == [], "it may be on its way"
        await there.showing.look()
        await there.showing.look()
        assert there.notes.said == [("p", "NotInForce", "on 1 of 2 nodes; not on n2")]
        there.policy.states["shop/p"] = InForce(2, 2, ())
        await there.showing.look()
        assert there.notes.said == [("p", "InForce", "on 2 of 2 nodes")]


async def test_of_many_policies_some_are_looked_at_in_turn() -> None:
    fake = FakeApiServer()
    for number in range(120):
        fake.put(f"{CLUSTER}/p{number}", spec={})
    async with world(fake) as there:
        await there.tell()
        for _ in range(4):
            await there.showing.look()
        assert all(there.conditions(f"p{number}") for number in range(120))
