"""What is asked of the services when somebody looks: each call is made for whoever looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, TypeAlias

from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import endpoint_pb2, explain_pb2, policy_pb2, sync_rules_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import topology_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.common.errors import InvalidInput, NotFound
from services.common.model.addresses import looks_like_address
from services.common.rpc import connection_text
from services.console.follow.world import Remote

Metadata: TypeAlias = Sequence[tuple[str, str]]

PAGE: Final = 5000
RESOURCES: Final = 1000
CALLS_AT_ONCE: Final = 8
ENDPOINTS_MOST: Final = 200
"""Of which policy makes a matrix."""
PLAN_SECONDS: Final = 60.0


class Questions:
    """Asked on behalf of a caller; raise RomanaErrors."""

    def __init__(self, remote: Remote, metadata: Metadata) -> None:
        self._remote = remote
        self._metadata = metadata

    async def addresses_in(
        self, network: str, blocks: Sequence[str]
    ) -> list[allocation_pb2.Allocation]:
        """What is allocated in some blocks."""
        turn = asyncio.Semaphore(CALLS_AT_ONCE)

        async def one(block: str) -> list[allocation_pb2.Allocation]:
            request = ipam_api.ListAddressesRequest(network=network, block=block, page_size=PAGE)
            found: list[allocation_pb2.Allocation] = []
            while True:
                async with turn:
                    answer = await self._remote.ipam.call(
                        lambda stub: stub.ListAddresses, request, metadata=self._metadata
                    )
                found += answer.allocations
                if not answer.next_page_token:
                    return found
                request.page_token = answer.next_page_token

        return [each for found in await asyncio.gather(*map(one, blocks)) for each in found]

    async def find(self, text: str) -> list[allocation_pb2.Allocation]:
        """The allocation of an address, or those of a name; empty: there is none."""
        request = (
            ipam_api.GetAddressRequest(address=text)
            if looks_like_address(text)
            else ipam_api.GetAddressRequest(name=text)
        )
        try:
            answer = await self._remote.ipam.call(
                lambda stub: stub.GetAddress, request, metadata=self._metadata
            )
        except (NotFound, InvalidInput):
            return []
        return list(answer.allocations)

    async def routes(self, node: str) -> ipam_api.GetNodeRoutesResponse:
        """What a node is reached by, and how it reaches the others."""
        return await self._remote.ipam.call(
            lambda stub: stub.GetNodeRoutes,
            ipam_api.GetNodeRoutesRequest(node=node),
            metadata=self._metadata,
        )

    async def node_addresses(self, node: str, most: int) -> list[allocation_pb2.Allocation]:
        """The first of what is allocated on a node."""
        answer = await self._remote.ipam.call(
            lambda stub: stub.ListAddresses,
            ipam_api.ListAddressesRequest(node=node, page_size=most),
            metadata=self._metadata,
        )
        return list(answer.allocations)

    async def endpoints(
        self, where: policy_api.EndpointFilter, most: int
    ) -> tuple[list[endpoint_pb2.PolicyEndpoint], bool]:
        """Endpoints that policy knows, by name, and whether there are more."""
        answer = await self._remote.policy.call(
            lambda stub: stub.ListEndpoints,
            policy_api.ListEndpointsRequest(filter=where, page_size=most),
            metadata=self._metadata,
        )
        return list(answer.endpoints), bool(answer.next_page_token)

    async def node_rules(self, node: str) -> list[sync_rules_pb2.RuleResource]:
        """What a node is told to enforce."""
        request = policy_api.GetNodeRulesRequest(node=node, page_size=RESOURCES)
        found: list[sync_rules_pb2.RuleResource] = []
        while True:
            answer = await self._remote.policy.call(
                lambda stub: stub.GetNodeRules, request, metadata=self._metadata
            )
            found += answer.resources
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def kernel_rules(self, node: str) -> policy_api.GetKernelRulesResponse:
        """What a node's agent says that its kernel has of them."""
        return await self._remote.policy.call(
            lambda stub: stub.GetKernelRules,
            policy_api.GetKernelRulesRequest(node=node),
            metadata=self._metadata,
        )

    async def kernel_routes(self, node: str) -> ipam_api.GetKernelRoutesResponse:
        """What a node's agent says that its kernel has of routes."""
        return await self._remote.ipam.call(
            lambda stub: stub.GetKernelRoutes,
            ipam_api.GetKernelRoutesRequest(node=node),
            metadata=self._metadata,
        )

    async def matrix(
        self,
        sources: policy_api.EndpointFilter,
        destinations: policy_api.EndpointFilter,
        protocol: str,
        port: int,
    ) -> policy_api.GetMatrixResponse:
        """Who reaches whom."""
        return await self._remote.policy.call(
            lambda stub: stub.GetMatrix,
            policy_api.GetMatrixRequest(
                sources=sources, destinations=destinations, protocol=_protocol(protocol), port=port
            ),
            metadata=self._metadata,
        )

    async def explain(
        self, source: str, destination: str, protocol: str, port: int
    ) -> policy_api.ExplainResponse:
        """What becomes of a connection, and why."""
        return await self._remote.policy.call(
            lambda stub: stub.Explain,
            policy_api.ExplainRequest(
                connection=explain_pb2.Connection(
                    source=connection_text.party(source),
                    destination=connection_text.party(destination),
                    protocol=_protocol(protocol),
                    port=port,
                )
            ),
            metadata=self._metadata,
        )

    async def apply(
        self, text: str, *, validate_only: bool, etag: str
    ) -> topology_api.ApplyTopologyResponse:
        """Plans a topology, or makes it so."""
        return await self._remote.topology.call(
            lambda stub: stub.ApplyTopology,
            topology_api.ApplyTopologyRequest(
                document=topology_pb2.TopologyDocument(text=text),
                validate_only=validate_only,
                etag=etag,
            ),
            seconds=PLAN_SECONDS,
            metadata=self._metadata,
        )

    async def export(self) -> tuple[str, str]:
        """The topology as a file, and the etag that it has."""
        current = await self._remote.topology.call(
            lambda stub: stub.GetTopology,
            topology_api.GetTopologyRequest(),
            metadata=self._metadata,
        )
        answer = await self._remote.topology.call(
            lambda stub: stub.ExportTopology,
            topology_api.ExportTopologyRequest(),
            metadata=self._metadata,
        )
        return answer.document.text, current.etag


def _protocol(text: str) -> policy_pb2.Protocol.ValueType:
    try:
        return connection_text.protocol(text)
    except ValueError as error:
        raise InvalidInput.at("protocol", str(error)) from None
