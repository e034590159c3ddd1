"""The policy API over gRPC: translates, asks, answers. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.rpc import status_pb2
from romana.policy.v1 import policy_pb2, sync_rules_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.errors import InvalidInput, NotFound, RomanaError, Violation, node_not_found
from services.common.model.names import EndpointName, NodeName, Tenant, subject_name
from services.common.model.rules import MAX_PORT, Direction, PolicyName
from services.common.paging.pages import filled
from services.common.process.version import version
from services.common.rpc import enums
from services.common.rpc.context import Context
from services.common.rpc.fitting import cut, statuses_that_fit
from services.common.rpc.identity import check_node
from services.common.rpc.status import StatusEncoder
from services.common.sizes import BATCH_ITEMS
from services.common.store.unreadable import STATUS_MOST, named
from services.policy.agents.kernel_asking import KernelAsking
from services.policy.agents.realization import Realization
from services.policy.agents.streams import RuleStreams
from services.policy.api import explain_messages, messages_in, messages_out, set_messages
from services.policy.api.device_service import DeviceMethods
from services.policy.api.tenant_limits import check_connection, limits, visible
from services.policy.checks.tenant_limits import is_own
from services.policy.explain.explain import explain
from services.policy.explain.matrix import Matrix
from services.policy.model import Endpoint
from services.policy.store.apply import (
    Applied,
    ChangeOptions,
    Kind,
    PolicyChanges,
    policy_not_found,
)
from services.policy.store.device_changes import DeviceChanges
from services.policy.store.endpoints import EndpointChanges
from services.policy.store.store import PolicyStore

_KINDS: Final = {
    Kind.CREATED: api.CHANGE_KIND_CREATED,
    Kind.UPDATED: api.CHANGE_KIND_UPDATED,
    Kind.UNCHANGED: api.CHANGE_KIND_UNCHANGED,
    Kind.REMOVED: api.CHANGE_KIND_REMOVED,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the methods are made of."""

    store: PolicyStore
    changes: PolicyChanges
    endpoints: EndpointChanges
    devices: DeviceChanges
    rule_streams: RuleStreams
    realization: Realization
    kernel: KernelAsking
    encoder: StatusEncoder


class PolicyService(DeviceMethods):
    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._feed = parts.store.feed
        self._engine = parts.store.engine
        self._changes = parts.changes
        self._endpoints = parts.endpoints
        self._devices = parts.devices
        self._rule_streams = parts.rule_streams
        self._realization = parts.realization
        self._kernel = parts.kernel
        self._encoder = parts.encoder

    # Policies.

    async def CreatePolicy(
        self, request: api.CreatePolicyRequest, context: Context
    ) -> api.CreatePolicyResponse:
        policy = messages_in.policy(request.policy, "policy")
        how = ChangeOptions(
            validate_only=request.validate_only, tenants=limits("CreatePolicy", context)
        )
        entry = await self._changes.create(policy, how)
        return api.CreatePolicyResponse(policy=messages_out.policy(entry))

    async def UpdatePolicy(
        self, request: api.UpdatePolicyRequest, context: Context
    ) -> api.UpdatePolicyResponse:
        policy = messages_in.policy(request.policy, "policy")
        how = ChangeOptions(
            request.policy.etag, request.validate_only, limits("UpdatePolicy", context)
        )
        return api.UpdatePolicyResponse(
            policy=messages_out.policy(await self._changes.update(policy, how))
        )

    async def DeletePolicy(
        self, request: api.DeletePolicyRequest, context: Context
    ) -> api.DeletePolicyResponse:
        name = messages_in.policy_name(request.name)
        how = ChangeOptions(request.etag, request.validate_only, limits("DeletePolicy", context))
        await self._changes.delete(name, how)
        return api.DeletePolicyResponse()

    async def GetPolicy(
        self, request: api.GetPolicyRequest, context: Context
    ) -> api.GetPolicyResponse:
        self._store.check_in_sync()
        entry = self._feed.policies.get(messages_in.policy_name(request.name))
        tenants = limits("GetPolicy", context)
        if entry is None or (tenants is not None and not is_own(entry.value.policy, tenants)):
            raise policy_not_found(request.name)
        return api.GetPolicyResponse(policy=messages_out.policy(entry))

    async def ListPolicies(
        self, request: api.ListPoliciesRequest, context: Context
    ) -> api.ListPoliciesResponse:
        self._store.check_in_sync()
        names = sorted(self._matching(request, limits("ListPolicies", context)))
        policies, token = filled(
            names,
            request.page_size,
            request.page_token,
            lambda number: messages_out.policy(self._feed.policies[names[number]]),
            in_order=True,
        )
        return api.ListPoliciesResponse(policies=policies, next_page_token=token)

    async def ApplyPolicies(
        self, request: api.ApplyPoliciesRequest, context: Context
    ) -> api.ApplyPoliciesResponse:
        self._store.check_in_sync()
        networks = dict(self._engine.networks)
        groups = frozenset(self._store.feed.devices.groups)
        # a file of thousands of policies takes a second: not on the loop
        wanted, warnings = await asyncio.to_thread(set_messages.read, request, networks, groups)
        how = ChangeOptions(
            validate_only=request.validate_only, tenants=limits("ApplyPolicies", context)
        )
        return _applied(await self._changes.apply(wanted, how), warnings)

    # Tenants.

    async def PutTenants(
        self, request: api.PutTenantsRequest, context: Context
    ) -> api.PutTenantsResponse:
        _check_batch(len(request.tenants), "tenants")
        results: list[RomanaError | None] = []
        for number, message in enumerate(request.tenants):
            try:
                tenant = messages_in.tenant(message, f"tenants[{number}]")
                await self._changes.put_tenant(tenant, ChangeOptions(message.etag))
            except RomanaError as error:
                results.append(error)
            else:
                results.append(None)
        return api.PutTenantsResponse(results=self._statuses(results))

    async def DeleteTenant(
        self, request: api.DeleteTenantRequest, context: Context
    ) -> api.DeleteTenantResponse:
        _check(list(subject_name(request.name, "name")))
        how = ChangeOptions(request.etag)
        await self._changes.delete_tenant(Tenant(request.name), how)
        return api.DeleteTenantResponse()

    async def ListTenants(
        self, request: api.ListTenantsRequest, context: Context
    ) -> api.ListTenantsResponse:
        self._store.check_in_sync()
        tenants_seen = limits("ListTenants", context)
        names = sorted(
            name for name in self._feed.tenants if tenants_seen is None or name in tenants_seen
        )
        tenants, token = filled(
            names,
            request.page_size,
            request.page_token,
            lambda number: messages_out.tenant(self._feed.tenants[names[number]]),
            in_order=True,
        )
        return api.ListTenantsResponse(tenants=tenants, next_page_token=token)

    # Endpoints.

    async def PutEndpoints(
        self, request: api.PutEndpointsRequest, context: Context
    ) -> api.PutEndpointsResponse:
        _check_batch(len(request.endpoints), "endpoints")
        tenants = limits("PutEndpoints", context)
        results: list[RomanaError | None] = []
        together: list[Endpoint] = []
        places: list[int] = []
        for number, message in enumerate(request.endpoints):
            results.append(None)
            try:
                endpoint = messages_in.endpoint(message, f"endpoints[{number}]")
                if tenants is not None:
                    await self._endpoints.put_own(endpoint, message.etag, tenants)
                elif message.etag:
                    await self._endpoints.put_one(endpoint, message.etag)
                else:
                    together.append(endpoint)
                    places.append(number)
            except RomanaError as error:
                results[number] = error
        try:
            await self._endpoints.put(together)
        except RomanaError as error:
            for number in places:
                results[number] = error
        return api.PutEndpointsResponse(results=self._statuses(results))

    async def DeleteEndpoint(
        self, request: api.DeleteEndpointRequest, context: Context
    ) -> api.DeleteEndpointResponse:
        name = messages_in.endpoint_name(request.name)
        tenants = limits("DeleteEndpoint", context)
        await self._endpoints.delete(name, request.etag, tenants)
        return api.DeleteEndpointResponse()

    async def GetEndpoint(
        self, request: api.GetEndpointRequest, context: Context
    ) -> api.GetEndpointResponse:
        self._store.check_in_sync()
        endpoint = self._endpoint(request.name, limits("GetEndpoint", context))
        return api.GetEndpointResponse(
            endpoint=self._endpoint_message(endpoint),
            ingress_policies=self._policies_of(endpoint.name, Direction.INGRESS),
            egress_policies=self._policies_of(endpoint.name, Direction.EGRESS),
        )

    async def ListEndpoints(
        self, request: api.ListEndpointsRequest, context: Context
    ) -> api.ListEndpointsResponse:
        self._store.check_in_sync()
        tenants = visible("ListEndpoints", request.filter.tenant, context)
        if request.as_reported:
            found = self._reported(request.filter, tenants)
            keys = [f"{one.name} {one.node}" for one in found]
        else:
            found = self._select(request.filter, tenants)
            keys = [one.name for one in found]
        endpoints, token = filled(
            keys,
            request.page_size,
            request.page_token,
            lambda number: self._endpoint_message(found[number]),
            in_order=True,
        )
        return api.ListEndpointsResponse(endpoints=endpoints, next_page_token=token)

    async def ReportEndpoints(
        self, request: api.ReportEndpointsRequest, context: Context
    ) -> api.ReportEndpointsResponse:
        _check(list(subject_name(request.node, "node")))
        check_node(context, request.node)
        _check_batch(len(request.attached), "attached")
        node = NodeName(request.node)
        await self._endpoints.report(
            node,
            messages_in.attached(request.attached, node),
            {EndpointName(name) for name in request.detached},
            complete=request.complete,
        )
        return api.ReportEndpointsResponse()

    # What comes of them.

    async def SyncRules(  # type: ignore[override]  # it uses context.read and context.write
        self, request_iterator: AsyncIterator[sync_rules_pb2.SyncRulesRequest], context: Context
    ) -> None:
        await self._rule_streams.serve(context)

    async def GetNodeRules(
        self, request: api.GetNodeRulesRequest, context: Context
    ) -> api.GetNodeRulesResponse:
        self._store.check_in_sync()
        await self._rule_streams.confirm()
        told = self._rule_streams.told(NodeName(request.node))
        if told is None:
            raise node_not_found(request.node)
        names = sorted(told)
        resources, token = filled(
            names,
            request.page_size,
            request.page_token,
            lambda number: sync_rules_pb2.RuleResource.FromString(told[names[number]]),
            in_order=True,
        )
        return api.GetNodeRulesResponse(resources=resources, next_page_token=token)

    async def GetKernelRules(
        self, request: api.GetKernelRulesRequest, context: Context
    ) -> api.GetKernelRulesResponse:
        self._store.check_in_sync()
        if request.node not in self._rule_streams.source.nodes:
            raise node_not_found(request.node)
        return await self._kernel.ask(request.node, local=request.local_only)

    async def GetRealization(
        self, request: api.GetRealizationRequest, context: Context
    ) -> api.GetRealizationResponse:
        tenants = limits("GetRealization", context)
        if tenants is None:
            return await self._realization.answer(request)
        return await self._realization.answer_to_tenants(request, tenants)

    async def Explain(self, request: api.ExplainRequest, context: Context) -> api.ExplainResponse:
        self._store.check_in_sync()
        connection = explain_messages.connection(request.connection)
        tenants = limits("Explain", context)
        if tenants is not None:
            check_connection(self._engine, connection, tenants)
        known = await self._realization.known()
        found = explain(self._engine, connection, known.failsafe)
        behind = known.behind({node for one in found for node in one.nodes})
        return api.ExplainResponse(
            explanations=[explain_messages.explanation(one, behind) for one in found]
        )

    async def GetMatrix(
        self, request: api.GetMatrixRequest, context: Context
    ) -> api.GetMatrixResponse:
        self._store.check_in_sync()
        problems: list[Violation] = []
        protocol = messages_in.protocol(request.protocol, "protocol", problems)
        _check(problems)
        if request.port > MAX_PORT:
            raise InvalidInput.at("port", f"{request.port} is not a port")
        sources, destinations = (
            self._select(one, visible("GetMatrix", one.tenant, context))
            for one in (request.sources, request.destinations)
        )
        known = Matrix(self._engine, sources, destinations, protocol, request.port)
        rows = await asyncio.to_thread(known.rows)
        nodes = {one.node for one in (*sources, *destinations) if one.node is not None}
        behind = (await self._realization.known()).behind(nodes)
        return explain_messages.matrix(sources, destinations, rows, behind)

    async def GetStatus(
        self, request: api.GetStatusRequest, context: Context
    ) -> api.GetStatusResponse:
        is_limited = limits("GetStatus", context) is not None
        return api.GetStatusResponse(
            version=version(),
            in_sync=self._store.in_sync,
            epoch=self._rule_streams.source.epoch,
            revision=self._store.revision,
            policies=len(self._feed.policies),
            endpoints=len(self._engine.endpoints),
            tenants=len(self._engine.tenants),
            groups=self._rule_streams.groups,
            rule_sets=self._rule_streams.rule_sets,
            agents=sum(1 for _ in self._rule_streams.hub.streams),
            unreadable=() if is_limited else named(self._store.unreadable),
            replica=self._realization.replica,
            disputed=[
                f"{name} on {node}: {why}"
                for (node, name), why in sorted(self._feed.disputed.items())[:STATUS_MOST]
                if not is_limited
            ],
            edition=self._feed.edition,
        )

    def _select(
        self, message: api.EndpointFilter, tenants: frozenset[Tenant] | None
    ) -> list[Endpoint]:
        """By name; `tenants`: of these alone."""
        wanted = messages_in.endpoint_filter(message)
        known = self._engine.endpoints
        names = {EndpointName(name) for name in message.names} & known.keys()
        asked = (known[name] for name in names) if message.names else known.values()
        found = [
            one
            for one in asked
            if wanted.matches(one) and (tenants is None or one.tenant in tenants)
        ]
        return sorted(found, key=lambda one: one.name)

    def _reported(
        self, message: api.EndpointFilter, tenants: frozenset[Tenant] | None
    ) -> list[Endpoint]:
        """What agents say, by name and node, with what an orchestrator wants."""
        wanted = messages_in.endpoint_filter(message)
        found: list[Endpoint] = []
        for entries in self._feed.attached.values():
            for name, entry in entries.items():
                said = self._feed.by_orchestrator.get(name)
                one = replace(entry.value, wanted=said.value.wanted if said is not None else None)
                if wanted.matches(one) and (tenants is None or one.tenant in tenants):
                    found.append(one)
        return sorted(found, key=lambda one: f"{one.name} {one.node}")

    def _matching(
        self, request: api.ListPoliciesRequest, tenants: frozenset[Tenant] | None
    ) -> Sequence[PolicyName]:
        policies = self._feed.policies
        tier = enums.TIER_OF.get(request.tier) if request.tier else None
        if request.tier and tier is None:
            raise InvalidInput.at("tier", f"{request.tier} is not a tier")
        names: Container[str] = policies
        if request.endpoint:
            name = self._endpoint(request.endpoint, tenants).name
            names = {one for direction in Direction for one in self._policies_of(name, direction)}
        return [
            name
            for name, entry in policies.items()
            if name in names
            and tier in {None, entry.value.policy.tier}
            and request.labels.items() <= entry.value.policy.labels.items()
            and (tenants is None or is_own(entry.value.policy, tenants))
        ]

    def _policies_of(self, name: EndpointName, direction: Direction) -> list[str]:
        asked = self._engine.rule_sets(name, direction)
        return list(dict.fromkeys(one.policy for one in asked))

    def _endpoint(self, name: str, tenants: frozenset[Tenant] | None) -> Endpoint:
        endpoint = self._engine.endpoints.get(EndpointName(name))
        if endpoint is None or (tenants is not None and endpoint.tenant not in tenants):
            raise NotFound(
                f"there is no endpoint {name[:256]!r}",
                reason="ENDPOINT_NOT_FOUND",
                metadata={"endpoint": name[:256]},
            )
        return endpoint

    def _endpoint_message(self, endpoint: Endpoint) -> messages_out.EndpointMessage:
        said = self._feed.by_orchestrator.get(endpoint.name)
        return messages_out.endpoint(endpoint, said.revision if said is not None else 0)

    def _statuses(self, results: Sequence[RomanaError | None]) -> list[status_pb2.Status]:
        errors = sum(error is not None for error in results)
        status_of = statuses_that_fit(errors, 4 * len(results), self._encoder.status_of)
        return [status_pb2.Status() if error is None else status_of(error) for error in results]


def _applied(applied: Applied, warnings: Sequence[api.PolicyWarning]) -> api.ApplyPoliciesResponse:
    policies: list[policy_pb2.Policy] = [messages_out.policy(entry) for entry in applied.policies]
    answer = api.ApplyPoliciesResponse(
        changes=[
            api.PolicyChange(resource=name, kind=_KINDS[applied.changes[name]])
            for name in sorted(applied.changes)
        ],
        policies=policies,
        warnings=warnings,
    )
    cut(answer, "policies")
    return answer


def _check(violations: list[Violation]) -> None:
    if violations:
        raise InvalidInput.of(violations)


def _check_batch(count: int, path: str) -> None:
    if count > BATCH_ITEMS:
        raise InvalidInput.at(path, f"has {count} items, at most {BATCH_ITEMS} are taken at once")
