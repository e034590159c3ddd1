"""Keeps what policy knows equal to namespaces, network policies and pods.

Level-triggered: changes only mark names, and what is told is what there is when it is told. Tenants
come first, then policies, then pods, and pods are only told of while changes of the other two are
heard of: so a pod's node knows of it no sooner than policy knows what it is to be judged by. What
has changed comes before what is only compared now and then.

What is wrong with one object is an event on it, and touches no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from services.common.errors import Exhausted, InvalidInput, RomanaError, Violation
from services.common.model.names import EndpointName, Tenant
from services.common.model.pods import parse_pod_endpoint
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Change
from services.kubernetes.cluster.kinds import (
    CLUSTER_NETWORK_POLICIES,
    NAMESPACES,
    NETWORK_POLICIES,
)
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control import notes
from services.kubernetes.control.dirty import Dirty
from services.kubernetes.control.followed import Followed
from services.kubernetes.control.keeping import Keeping
from services.kubernetes.metrics import ControllerMetrics, Outcome, What
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.pods import Pod
from services.kubernetes.objects.policies import CLUSTER, NetworkPolicy, is_status
from services.kubernetes.wanted.endpoints import endpoint_of, is_endpoint
from services.kubernetes.wanted.sticky import allocation_of, is_sticky
from services.kubernetes.wanted.tenants import tenant_of
from services.kubernetes.wanted.values import WantedEndpoint, WantedTenant

log = structlog.get_logger(__name__)

T = TypeVar("T")

BATCH: Final = 500
POLICIES: Final = 50
"""In one request; if one of them is refused, each is tried alone."""
AT_ONCE: Final = 16
"""Deletions of endpoints in flight, and moves of addresses."""
_REFUSALS: Final = (InvalidInput, Exhausted)
"""What is wrong with an object, its size among it; anything else is not for good."""
LINGER_SECONDS: Final = 30.0
"""For which a pod that is gone may still be attached, before its node is told to detach it."""


class PolicyTeller:
    """What has to be told, and how."""

    def __init__(
        self,
        followed: Followed,
        calls: PolicyCalls,
        fresh: FreshReads,
        recorder: Recorder,
        metrics: ControllerMetrics,
        changed: Callable[[], None],
        *,
        segment_label: str,
        keeping: Keeping,
    ) -> None:
        """`changed` is called when there is something to tell."""
        self._keeping = keeping
        self._elsewhere: set[EndpointName] = set()
        """Pods whose name may still have its addresses on another node."""
        self._followed = followed
        self._calls = calls
        self._fresh = fresh
        self._recorder = recorder
        self._metrics = metrics
        self._changed = changed
        self._segment_label = segment_label
        self._pods: dict[EndpointName, str] = {}
        """Pods that are endpoints: NAMESPACE/NAME by the endpoint's name."""
        self._lingering: dict[EndpointName, float] = {}
        """Pods that are gone and still attached, and when that was seen first."""
        self._tenants_marked: Dirty[str] = Dirty()
        self._policies_marked: Dirty[str] = Dirty()
        """By their names in Romana."""
        self._telling: Sequence[str] = ()
        """Policies that are being told of."""
        self.refused: dict[str, str] = {}
        """Policies that are not taken as they are now, and why."""
        self._endpoints_marked: Dirty[EndpointName] = Dirty()
        self._was_told = False
        """Everything was marked in this term."""
        followed.namespaces.on_change(self._take_namespaces)
        followed.policies.on_change(self._take_policies)
        followed.cluster_policies.on_change(self._take_policies)
        followed.pods.on_change(self._take_pods)

    def node_of(self, name: EndpointName) -> str | None:
        """The node that the pod of an endpoint is bound to; empty: not yet to any. None: there is
        no such pod."""
        key = self._pods.get(name)
        if key is None and is_sticky(name):
            return self._node_of_name(name)
        return None if key is None else self._followed.pods.items[key].node

    def _node_of_name(self, allocation: EndpointName) -> str | None:
        """The same of addresses that stay with a pod's name."""
        name = parse_pod_endpoint(allocation)
        assert name is not None
        pod = self._followed.pods.items.get(f"{name.namespace}/{name.name}")
        namespace = self._followed.namespaces.items.get(name.namespace)
        if pod is None or namespace is None or not is_endpoint(pod):
            return None
        return pod.node if allocation_of(pod, namespace, []) == allocation else None

    @property
    def backlog(self) -> int:
        """How much is not told yet."""
        return len(self._tenants_marked) + len(self._policies_marked) + len(self._endpoints_marked)

    def mark_all(self) -> None:
        """Everything has to be told anew; after the first time it is only compared, and new pods do
        not wait for that."""
        namespaces, names = self._followed.namespaces.items, self._followed.policy_names
        if self._was_told:
            self._tenants_marked.mark_later(namespaces)
            self._policies_marked.mark_later(names)
        else:
            self._tenants_marked.mark(namespaces)
            self._policies_marked.mark(names)
        self._was_told = True
        self._endpoints_marked.mark_later(self._pods)

    async def mark_strays(self) -> None:
        """What policy has of ours and the cluster has not; raises RomanaErrors."""
        followed = self._followed
        for tenant in await self._calls.tenants() - followed.namespaces.items.keys():
            if await self._fresh.get(NAMESPACES, tenant) is None:
                self._tenants_marked.mark([tenant])
        for policy in await self._calls.policies():
            if followed.policy(policy) is None and await self._is_stray(policy):
                self._policies_marked.mark([policy])
        for endpoint in await self._calls.endpoints() - self._pods.keys():
            if await self._fresh.is_gone(endpoint):
                self._endpoints_marked.mark([endpoint])

    async def _is_stray(self, policy: str) -> bool:
        """Whether there is no object of a policy; if that kind is not known now, that says nothing:
        its definition may be on its way."""
        kind, _, name = policy.partition("/")
        if kind != CLUSTER:
            return await self._fresh.get(NETWORK_POLICIES, policy) is None
        if not self._followed.cluster_policies.is_known:
            return False
        return await self._fresh.get(CLUSTER_NETWORK_POLICIES, name) is None

    def is_told(self, policy: str) -> bool:
        """Whether policy has a policy as the cluster has it, or has refused it."""
        return policy not in self._policies_marked and policy not in self._telling

    def mark_concerned(self) -> None:
        """Policies that name groups of devices: whether these are there may have changed."""
        policies = self._followed.cluster_policies.items.values()
        self._policies_marked.mark(one.policy for one in policies if one.devices)
        self._changed()

    def mark_postponed(self) -> None:
        """Pods that are gone and still attached; who is refused is told of when he changes."""
        self._endpoints_marked.mark(self._lingering)
        self._endpoints_marked.mark(self._elsewhere)
        self._elsewhere.clear()

    def stand_by(self) -> None:
        """Another replica tells now."""
        for marked in (self._tenants_marked, self._policies_marked, self._endpoints_marked):
            marked.clear()
        self._lingering.clear()
        self._elsewhere.clear()
        self.refused.clear()
        self._was_told = False

    async def tell(self) -> bool:
        """Tells some of it; whether there is more. What failed is marked again, and raised."""
        await self._each(self._tenants_marked, BATCH, self._tell_tenants)
        await self._each(self._policies_marked, POLICIES, self._tell_policies)
        if self._may_tell_endpoints():
            await self._each(self._endpoints_marked, BATCH, self._tell_endpoints)
            return self.backlog > 0
        return bool(self._tenants_marked or self._policies_marked)

    def _may_tell_endpoints(self) -> bool:
        """Nothing that they are judged by is untold, and what comes next would be heard of."""
        followed = self._followed
        return (
            followed.namespaces.is_following
            and followed.policies.is_following
            and followed.cluster_policies.misses_nothing
            and not self._tenants_marked.some_changed
            and not self._policies_marked.some_changed
        )

    async def _each(
        self, marked: Dirty[T], most: int, tell: Callable[[Sequence[T]], Awaitable[None]]
    ) -> None:
        names = marked.take(most)
        if not names:
            return
        try:
            await tell(names)
        except BaseException:
            marked.mark(names)
            raise

    # Namespaces.

    def _take_namespaces(self, changes: Sequence[Change[Namespace]]) -> None:
        self._tenants_marked.mark(change.key for change in changes)
        concerned = {
            change.key
            for change in changes
            if change.before is None
            or change.after is None
            or change.before.uid != change.after.uid
            or change.before.annotations != change.after.annotations
            or self._segment(change.before) != self._segment(change.after)
        }
        if concerned:
            self._endpoints_marked.mark(
                name for name, key in self._pods.items() if key.partition("/")[0] in concerned
            )
        self._changed()

    def _segment(self, namespace: Namespace) -> str:
        return namespace.labels.get(self._segment_label, "")

    async def _tell_tenants(self, names: Sequence[str]) -> None:
        there: list[tuple[Namespace, WantedTenant]] = []
        for name in names:
            namespace = self._followed.namespaces.items.get(name)
            if namespace is None:
                await self._calls.delete_tenant(Tenant(name))
                self._metrics.told(What.TENANT, Outcome.DONE)
                continue
            tenant, problems = tenant_of(namespace)
            if problems:
                self._recorder.note(notes.bad_annotations(namespace, problems))
            there.append((namespace, tenant))
        if there:
            answers = await self._calls.put_tenants([tenant for _, tenant in there])
            for (namespace, _), error in zip(there, answers, strict=True):
                self._answered(What.TENANT, namespace, error)

    # Network policies.

    def _take_policies(self, changes: Sequence[Change[NetworkPolicy]]) -> None:
        self._policies_marked.mark(
            one.policy
            for change in changes
            if (one := change.after or change.before) is not None
            and not is_status(change.before, change.after)
        )
        self._changed()

    async def _tell_policies(self, names: Sequence[str]) -> None:
        self._telling = names
        try:
            await self._tell_each_policy(names)
        finally:
            self._telling = ()

    async def _tell_each_policy(self, names: Sequence[str]) -> None:
        there: list[NetworkPolicy] = []
        for name in names:
            policy = self._followed.policy(name)
            if policy is not None:
                there.append(policy)
            else:
                await self._calls.delete_policy(name)
                self.refused.pop(name, None)
                self._metrics.told(What.POLICY, Outcome.DONE)
        if not there:
            return
        try:
            await self._apply(there)
        except _REFUSALS:
            for policy in there:
                await self._apply_alone(policy)
        else:
            self._metrics.told(What.POLICY, Outcome.DONE, len(there))

    async def _apply(self, policies: Sequence[NetworkPolicy]) -> None:
        """All or none; what is not understood of them is said."""
        unclear: dict[str, list[Violation]] = {}
        for name, problem in await self._calls.apply(policies):
            unclear.setdefault(name, []).append(problem)
        for policy in policies:
            self.refused.pop(policy.policy, None)
            if policy.policy in unclear:
                self._recorder.note(notes.fails_closed(policy, unclear[policy.policy]))

    async def _apply_alone(self, policy: NetworkPolicy) -> None:
        try:
            await self._apply([policy])
        except _REFUSALS as error:
            self.refused[policy.policy] = notes.refused(policy, error).message
            self._answered(What.POLICY, policy, error)
        else:
            self._answered(What.POLICY, policy, None)

    # Pods.

    def _take_pods(self, changes: Sequence[Change[Pod]]) -> None:
        for change in changes:
            before, after = change.before, change.after
            if before is not None and self._pods.pop(before.endpoint, None) is not None:
                self._endpoints_marked.mark([before.endpoint])
            if after is not None and is_endpoint(after):
                self._pods[after.endpoint] = change.key
                self._endpoints_marked.mark([after.endpoint])
        self._changed()

    async def _tell_endpoints(self, names: Sequence[EndpointName]) -> None:
        gone: list[EndpointName] = []
        there: list[tuple[Pod, WantedEndpoint]] = []
        for name in names:
            key = self._pods.get(name)
            if key is None:
                gone.append(name)
                continue
            pod = self._followed.pods.items[key]
            namespace = self._followed.namespaces.items.get(pod.namespace)
            if namespace is None:
                continue  # its namespace marks it when it is heard of
            endpoint, problems = endpoint_of(pod, namespace, self._segment_label)
            if problems:
                self._recorder.note(notes.bad_annotations(pod, problems))
            there.append((pod, endpoint))
        for start in range(0, len(there), AT_ONCE):
            await asyncio.gather(*(self._bring(*one) for one in there[start : start + AT_ONCE]))
        if there:
            answers = await self._calls.put_endpoints([endpoint for _, endpoint in there])
            for (pod, _), error in zip(there, answers, strict=True):
                self._answered(What.ENDPOINT, pod, error)
        for start in range(0, len(gone), AT_ONCE):
            await asyncio.gather(*map(self._end, gone[start : start + AT_ONCE]))

    async def _bring(self, pod: Pod, endpoint: WantedEndpoint) -> None:
        """Before its node asks for them: who bound the pod has done so, if that is our extender."""
        if endpoint.node is None or endpoint.is_ending:
            return
        try:
            await self._keeping.bring(pod, endpoint, endpoint.node)
        except RomanaError as error:
            self._elsewhere.add(endpoint.name)
            log.warning("addresses_not_brought", pod=pod.key, message=error.message)

    async def _end(self, name: EndpointName) -> None:
        """Takes back what was said of a pod that is gone, once it is detached: it keeps its labels
        until then. kubelet has it detached as a rule, and its node else."""
        now = asyncio.get_running_loop().time()
        since = self._lingering.get(name, now)
        if await self._calls.end_endpoint(name, gone=now - since >= LINGER_SECONDS):
            self._lingering.setdefault(name, now)
            return
        self._lingering.pop(name, None)
        self._metrics.told(What.ENDPOINT, Outcome.DONE)

    def _answered(
        self, what: What, item: Namespace | NetworkPolicy | Pod, error: RomanaError | None
    ) -> None:
        """What is wrong is said; what may work later is raised."""
        if error is None:
            self._metrics.told(what, Outcome.DONE)
        elif isinstance(error, _REFUSALS):
            self._metrics.told(what, Outcome.REFUSED)
            self._recorder.note(notes.refused(item, error))
            log.warning("refused", what=what.value, object=item.key, message=error.message)
        else:
            raise error
