"""`romana node check`: what agents hold against what ipam has, and what else is wrong with nodes.

What agents hold they tell policy, so without policy only what they complain of is known. After a
restore of etcd that is what ipam has forgotten: it can be taken over from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from romana.ipam.v1 import allocation_pb2, sync_routes_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import endpoint_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import topology_service_pb2 as api

from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls import completion
from services.ctl.calls.session import Session
from services.ctl.calls.waiting import named
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure

EXAMPLES = """
    romana node check
    romana node check n1 n2
    romana node check --take-over      after a restore of etcd: ipam takes over what agents hold
"""
NODE = "node"
ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    node: str
    what: str
    """`node`, `endpoint`, or what an agent could not apply."""
    name: str
    problem: str
    take_over: tuple[str, ...] = ()
    """Addresses that the endpoint has and ipam has for nobody."""


COLUMNS: tuple[Column[Finding], ...] = (
    Column("NODE", lambda item: item.node),
    Column("WHAT", lambda item: item.what),
    Column("NAME", lambda item: item.name),
    Column("PROBLEM", lambda item: item.problem),
)


async def check(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE]...", autocompletion=completion.nodes, help="None: all."),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Have ipam allocate what endpoints use and nobody has."),
    ] = False,
) -> ExitCode:
    """Compares what agents hold with what ipam has. Exit code 1: something is wrong."""
    chosen = frozenset(names or ())
    known = await _nodes(session)
    reported, streams = await _held(session), await _streams(session)
    held = reported or ()
    heard_of = {*known, *(one.node for one in held), *(one.node for one in streams)}
    heard = {one.node for one in held} | {one.node for one in streams if one.connected}
    for name in sorted(chosen - heard_of):
        raise Failure(f"there is no node {name!r}", status="NOT_FOUND", reason="NODE_NOT_FOUND")
    findings = sorted(
        [
            *of_streams(streams, known),
            *of_endpoints(held, await _allocated(session)),
        ],
        key=lambda item: (item.node, item.what, item.name),
    )
    findings = _once([one for one in findings if not chosen or one.node in chosen])
    taken = await _take_over(session, findings, held) if take_over else frozenset[str]()
    left = [one for one in findings if one.name not in taken]
    session.out.listing(
        left,
        COLUMNS,
        document=asdict,
        name=lambda item: item.name,
        empty=_all_well(
            is_heard=bool(heard & (chosen or heard)), is_held_known=reported is not None
        ),
    )
    if silent := sorted((chosen or known) - heard):
        session.note(f"no agent is there of {named(silent)}")
    if any(one.take_over for one in left) and not take_over:
        session.note("--take-over has ipam take over what it has for nobody")
    return ExitCode.NEGATIVE if left else ExitCode.OK


def _all_well(*, is_heard: bool, is_held_known: bool) -> str:
    if not is_heard:
        return "nothing was compared"
    if not is_held_known:
        return "no agent complains"
    return "what agents hold and what ipam has is the same"


def of_streams(
    statuses: Iterable[sync_routes_pb2.NodeSyncStatus], known: frozenset[str]
) -> list[Finding]:
    """What agents complain of, and those whose nodes are not registered."""
    found: list[Finding] = []
    for status in statuses:
        if status.connected and status.node not in known:
            found.append(
                Finding(status.node, NODE, status.node, "its agent runs, and it is not registered")
            )
        for failure in status.failures:
            what, _, name = failure.resource.partition("/")
            found.append(Finding(status.node, what, name, failure.message or failure.reason))
    return found


def of_endpoints(
    held: Iterable[endpoint_pb2.PolicyEndpoint],
    allocated: Mapping[str, allocation_pb2.Allocation],
) -> list[Finding]:
    """What endpoints use and ipam has not for them; `allocated`: by address."""
    found: list[Finding] = []
    for endpoint in held:
        if not endpoint.node:
            continue
        missing = [address for address in endpoint.addresses if address not in allocated]
        others = [
            f"ipam has {address} for {it.name!r} on {it.node}"
            for address in endpoint.addresses
            if (it := allocated.get(address)) is not None
            and (it.name, it.node) != (allocation_name(endpoint), endpoint.node)
        ]
        problems = [*others, *([f"ipam has not {', '.join(missing)}"] if missing else [])]
        if problems:
            whole = tuple(missing) if len(missing) == len(endpoint.addresses) else ()
            found.append(
                Finding(endpoint.node, ENDPOINT, endpoint.name, "; ".join(problems), whole)
            )
    return found


def allocation_name(endpoint: endpoint_pb2.PolicyEndpoint) -> str:
    """The name under which ipam has an endpoint's addresses."""
    return endpoint.wanted.allocation or endpoint.name


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of each endpoint: that which can be acted upon, if there is one."""
    best: dict[tuple[str, str, str], Finding] = {}
    for one in findings:
        key = (one.node, one.what, one.name)
        if key not in best or one.take_over:
            best[key] = one
    return list(best.values())


async def _take_over(
    session: Session, findings: Sequence[Finding], held: Sequence[endpoint_pb2.PolicyEndpoint]
) -> frozenset[str]:
    """Names of endpoints whose addresses ipam has now."""
    wanted = {one.name for one in findings if one.take_over}
    endpoints = [one for one in held if one.name in wanted]
    if not endpoints:
        return frozenset()
    session.confirm(f"Have ipam take over the addresses of {count(len(endpoints), 'endpoint')}?")
    taken: set[str] = set()
    ipam = session.ipam
    for endpoint in endpoints:
        spec = allocation_pb2.AllocationSpec(
            name=allocation_name(endpoint),
            node=endpoint.node,
            tenant=endpoint.tenant,
            segment=endpoint.segment,
            addresses=[
                allocation_pb2.AddressSpec(address=address) for address in endpoint.addresses
            ],
        )
        try:
            await ipam.once(
                ipam.stub.AllocateAddress,
                ipam_api.AllocateAddressRequest(spec=spec, request_id=session.request_id),
            )
        except Failure as error:
            session.note(f"{endpoint.name}: {error.message}")
        else:
            taken.add(endpoint.name)
    session.note(f"ipam has taken over {count(len(taken), 'endpoint')}")
    return frozenset(taken)


async def _nodes(session: Session) -> frozenset[str]:
    topology = session.topology
    listed = await topology.every(
        topology.stub.ListNodes, api.ListNodesRequest(), lambda page: page.nodes
    )
    return frozenset(node.name for node in listed.items)


async def _streams(session: Session) -> Sequence[sync_routes_pb2.NodeSyncStatus]:
    ipam = session.ipam
    answer = await ipam.read(ipam.stub.GetSyncStatus, sync_routes_pb2.GetSyncStatusRequest())
    return answer.statuses


async def _allocated(session: Session) -> Mapping[str, allocation_pb2.Allocation]:
    ipam = session.ipam
    listed = await ipam.every(
        ipam.stub.ListAddresses, ipam_api.ListAddressesRequest(), lambda page: page.allocations
    )
    return {one.address: one for one in listed.items}


async def _held(session: Session) -> Sequence[endpoint_pb2.PolicyEndpoint] | None:
    """None: policy is away."""
    policy = session.policy
    try:
        listed = await policy.every(
            policy.stub.ListEndpoints,
            policy_api.ListEndpointsRequest(as_reported=True),
            lambda page: page.endpoints,
        )
    except Failure as error:
        session.note(f"What agents hold is not known, only what they complain of: {error.message}")
        return None
    return listed.items
