"""The policy service as processes, agents without a kernel, and short forms of messages."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc.aio
from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LOOPBACK, free_port
from services.common.rpc.channel import open_channel
from services.common.sync import wire
from services.common.sync.model import Response
from services.common.sync.receiver import Receiver
from services.common.sync.stream_client import Answering, Peer
from services.common.tls import TlsFiles
from tests.support.ipam_process import CHANNEL_OPTIONS, poll
from tests.support.ipam_records import allocations, written
from tests.support.leftovers import owner
from tests.support.sync_agent import SyncAgent

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

START_SECONDS = 30.0


class PolicyProcess:
    """One replica; it can be started and ended repeatedly, on the same ports."""

    def __init__(
        self,
        endpoint: str,
        root: str,
        folder: Path,
        *,
        name: str = "policy",
        tls: TlsFiles | None = None,
    ) -> None:
        self.address = f"{LOOPBACK}:{free_port()}"
        self.metrics_address = f"{LOOPBACK}:{free_port()}"
        self.log = folder / f"{name}.log"
        self._environment = {
            **owner(),
            "ROMANA_POLICY__ETCD__ENDPOINTS": endpoint,
            "ROMANA_POLICY__ETCD__ROOT": root,
            "ROMANA_POLICY__LISTEN__ADDRESS": self.address,
            "ROMANA_POLICY__METRICS__ADDRESS": self.metrics_address,
            "ROMANA_POLICY__PRESENCE_TTL": "2",
            "ROMANA_POLICY__DRAIN": "2",
        }
        if tls is not None:
            prefix = "ROMANA_POLICY__LISTEN__TLS__"
            self._environment |= {
                f"{prefix}CA": str(tls.ca),
                f"{prefix}CERTIFICATE": str(tls.certificate),
                f"{prefix}KEY": str(tls.key),
            }
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, endpoint: str, root: str, folder: Path, *, name: str = "policy"
    ) -> Iterator[PolicyProcess]:
        """Starts a replica, does not wait for it, and kills it in the end."""
        replica = cls(endpoint, root, folder, name=name)
        try:
            replica.start()
            yield replica
        finally:
            replica.kill()

    def start(self) -> None:
        """Starts it and returns at once."""
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("ROMANA")}
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, sys.executable, "-m", "services.policy.main"],
                env={**inherited, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """None if it does not run."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Ends it as a crash would; also when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PolicyServiceAsyncStub]:
        """Its methods."""
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            yield PolicyServiceStub(channel)

    async def is_serving(self) -> bool:
        """Says whether it answers and is in-sync."""
        try:
            async with self.connect() as stub:
                return (await stub.GetStatus(api.GetStatusRequest(), timeout=2)).in_sync
        except grpc.aio.AioRpcError:
            return False

    async def wait_until_serving(self) -> None:
        """Waits until it is in-sync."""
        await poll(self.is_serving, START_SECONDS, what=f"{self.address} to serve")


def _response(message: pb.SyncRulesResponse) -> Response[pb.RuleResource]:
    return Response(
        message.nonce,
        wire.parse_position(message.position),
        wire.parse_phase(message.phase),
        {item.id: item for item in message.updated},
        tuple(message.removed),
    )


def rules_peer(address: str) -> tuple[Peer[pb.RuleResource], grpc.aio.Channel]:
    """A replica as agents see it."""
    channel = open_channel(address)
    peer = Peer(
        address,
        PolicyServiceStub(channel).SyncRules,
        lambda hello: pb.SyncRulesRequest(hello=wire.hello(hello)),
        lambda ack: pb.SyncRulesRequest(ack=wire.ack(ack)),
        _response,
        lambda message: message.question.id,
    )
    return peer, channel


def rules_agent(
    node: str,
    addresses: Sequence[str],
    receiver: Receiver[pb.RuleResource] | None = None,
    answering: Answering | None = None,
) -> SyncAgent:
    """An agent that takes rules."""
    return SyncAgent(node, addresses, receiver, peer=rules_peer, answering=answering)


def of_tenant(name: str, **labels: str) -> selector_pb2.EndpointSelector:
    """The endpoints of a tenant with these labels."""
    found = selector_pb2.LabelSelector(match_labels=labels) if labels else None
    return selector_pb2.EndpointSelector(tenants=[name], labels=found)


def policy(
    name: str,
    target: selector_pb2.EndpointSelector | None = None,
    peer: selector_pb2.EndpointSelector | None = None,
    labels: Mapping[str, str] | None = None,
) -> policy_pb2.Policy:
    """Allows ingress to a tenant's endpoints from the peer's, or from nowhere."""
    rules = [policy_pb2.Rule(peers=[policy_pb2.Peer(endpoints=peer)])] if peer is not None else []
    return policy_pb2.Policy(
        name=name,
        targets=[policy_pb2.Target(endpoints=target or of_tenant("t"))],
        directions=[policy_pb2.POLICY_DIRECTION_INGRESS],
        ingress=rules,
        labels=labels,
    )


def endpoint(
    name: str, *addresses: str, tenant: str = "t", labels: Mapping[str, str] | None = None
) -> endpoint_pb2.PolicyEndpoint:
    """An endpoint."""
    return endpoint_pb2.PolicyEndpoint(name=name, tenant=tenant, addresses=addresses, labels=labels)


class Site(Protocol):
    """A replica, and the store."""

    @property
    def client(self) -> EtcdClient: ...

    @property
    def keys(self) -> Keys: ...

    @property
    def stub(self) -> PolicyServiceAsyncStub: ...


async def report(
    site: Site,
    node: str,
    *attached: endpoint_pb2.PolicyEndpoint,
    detached: Sequence[str] = (),
    complete: bool = False,
) -> None:
    """What a node's agent says of endpoints to which ipam gave their addresses."""
    await written(site.client, site.keys, allocations(site.keys, node, attached))
    await claim(site.stub, node, *attached, detached=detached, complete=complete)


async def claim(
    stub: PolicyServiceAsyncStub,
    node: str,
    *attached: endpoint_pb2.PolicyEndpoint,
    detached: Sequence[str] = (),
    complete: bool = False,
) -> None:
    """What a node's agent says, whatever ipam says."""
    await stub.ReportEndpoints(
        api.ReportEndpointsRequest(
            node=node, attached=attached, detached=detached, complete=complete
        )
    )
