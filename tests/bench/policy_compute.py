"""Computing rules: from nothing, and after one change, without any store or network.

*From nothing* is the case that Antrea publishes figures of: 25,000 namespaces with four endpoints
and three policies each (deny everything, let in those with a label, let in those of namespaces
with a label). *One change* is also measured among 10,000 policies of 500 tenants with 200
endpoints each; the baseline is the same change among a tenth of the tenants: what does not depend
on the size of the world has ratio 1. Seconds are of the processor, since machines are shared; each
world has a process of its own, whose resident memory is the figure.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import Direction, PolicyName, PortMatch, Protocol, Tier
from services.policy.engine.engine import Engine
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    LabelSelector,
    Operator,
    Policy,
    PolicyNetwork,
    PolicyNode,
    Requirement,
    Rule,
    TenantRecord,
)
from tests.bench.report import Row

TITLE = "rules computed, seconds of CPU"
SECONDS_AIM = 10.0
BYTES_AIM = 2 * 2**30
CHANGE_AIM = 0.010
NODES = 1000


@dataclass(frozen=True, slots=True)
class Size:
    tenants: int
    endpoints: int
    """In each tenant."""
    policies: int
    """In each tenant."""


SMALL_NAMESPACES = Size(25_000, 4, 3)
BIG_NAMESPACES = Size(500, 200, 20)


@dataclass(frozen=True, slots=True)
class Figures:
    reading: float
    """Seconds to make what is put in."""
    computing: float
    """Seconds from nothing."""
    resident: int
    """Bytes at most."""
    resources: int
    changes: dict[str, float]
    """Median seconds of one change and of taking what comes of it."""


def with_label(key: str, *values: str) -> LabelSelector:
    return LabelSelector((Requirement(key, Operator.IN, values),))


def tenant_of(number: int) -> Tenant:
    return Tenant(f"namespace-{number}")


def endpoint(number: int, tenant: int, app: int) -> Endpoint:
    return Endpoint(
        EndpointName(f"namespace-{tenant}/pod-{number}"),
        tenant_of(tenant),
        Segment(""),
        {"app": f"app-{app}", "tier": "back" if app % 2 else "front"},
        (),
        NodeName(f"node-{number * 7919 % NODES}"),
        (IPv4Address((10 << 24) + number * 37 % (1 << 24)),),
    )


def policy(tenant: int, number: int) -> Policy:
    """The first denies everything; of the others each lets somebody in to one app."""
    here = (tenant_of(tenant),)
    if number == 0:
        target = EndpointSelector(here)
        rules: tuple[Rule, ...] = ()
    else:
        target = EndpointSelector(here, labels=with_label("app", f"app-{number}"))
        if number % 2:
            peer = EndpointSelector(here, labels=with_label("app", f"app-{number}"))
        else:
            peer = EndpointSelector(tenant_labels=with_label("name", tenant_of(tenant)))
        rules = (Rule(peers=(peer,), ports=(PortMatch(Protocol.TCP, 8080, 8080),)),)
    return Policy(
        PolicyName(f"namespace-{tenant}/policy-{number}"),
        Tier.TENANT,
        (target,),
        {Direction.INGRESS: rules},
    )


Put = Callable[[Engine], None]


def inputs(size: Size) -> Iterator[Put]:
    network = PolicyNetwork(NetworkName("net"), IPv4Network("10.0.0.0/8"))
    yield lambda engine: engine.set_networks({network.name: network})
    for number in range(NODES):
        node = PolicyNode(NodeName(f"node-{number}"), {}, (IPv4Address((172 << 24) + number),))
        yield lambda engine, it=node: engine.put_node(it)  # type: ignore[misc]
    for tenant in range(size.tenants):
        record = TenantRecord(tenant_of(tenant), {"name": tenant_of(tenant)})
        yield lambda engine, it=record: engine.put_tenant(it)  # type: ignore[misc]
        for number in range(size.policies):
            made = policy(tenant, number)
            yield lambda engine, it=made: engine.put_policy(it)  # type: ignore[misc]
        for number in range(size.endpoints):
            there = endpoint(tenant * size.endpoints + number, tenant, number % size.policies)
            yield lambda engine, it=there: engine.put_endpoint(it)  # type: ignore[misc]


def compute(size: Size, changes: int) -> Figures:
    """Runs in a process of its own."""
    gc.set_threshold(50_000, 50, 100)  # as the service does
    begin = time.process_time()
    todo = list(inputs(size))
    made = time.process_time()
    engine = Engine()
    for put in todo:
        put(engine)
    first = engine.drain_changes()
    done = time.process_time()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {name: median(engine, change, changes) for name, change in steps(engine, size).items()}
    return Figures(made - begin, done - made, resident, len(first.put), found)


def steps(engine: Engine, size: Size) -> dict[str, Callable[[int], None]]:
    def relabel(number: int) -> None:
        tenant = number % size.tenants
        name = EndpointName(f"namespace-{tenant}/pod-{tenant * size.endpoints}")
        had = engine.endpoints[name]
        labels = {**had.labels, "app": f"app-{(number // size.tenants + number) % size.policies}"}
        engine.put_endpoint(replace(had, labels=labels))

    def relabel_tenant(number: int) -> None:
        """Now in and now out of what its policies let in."""
        name = tenant_of(number % size.tenants)
        is_in = engine.tenants[name].labels["name"] == name
        engine.put_tenant(TenantRecord(name, {"name": "other" if is_in else name}))

    def arrive(number: int) -> None:
        engine.put_endpoint(endpoint(10_000_000 + number, number % size.tenants, 1))

    def write(number: int) -> None:
        engine.put_policy(
            replace(policy(number % size.tenants, 1), name=PolicyName(f"new/{number}"))
        )

    return {
        "label of an endpoint": relabel,
        "new endpoint": arrive,
        "new policy": write,
        "label of a tenant": relabel_tenant,
    }


def median(engine: Engine, change: Callable[[int], None], count: int) -> float:
    seconds = []
    for number in range(count):
        begin = time.process_time()
        change(number)
        engine.drain_changes()
        seconds.append(time.process_time() - begin)
    return sorted(seconds)[count // 2]


async def measure(*, quick: bool) -> list[Row]:
    small, big, changes = SMALL_NAMESPACES, BIG_NAMESPACES, 200
    if quick:
        small, big, changes = replace(small, tenants=250), replace(big, tenants=20), 10
    rows = []
    for size in (small, big):
        found = alone(size, changes)
        tenth = alone(replace(size, tenants=size.tenants // 10), changes)
        about = f"{size.tenants * size.policies:,} policies, {size.tenants:,} tenants"
        if size is small:
            rows += from_nothing(about, found)
        rows += one_change(about, found, tenth)
    return rows


def alone(size: Size, changes: int) -> Figures:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(compute, size, changes).result()


def from_nothing(about: str, found: Figures) -> list[Row]:
    return [
        Row(
            f"from nothing, {about}: {found.resources:,} resources",
            f"{found.computing:.1f} s",
            f"making the input: {found.reading:.1f} s",
            found.computing / found.reading,
            f"<= {SECONDS_AIM:.0f} s",
            found.computing <= SECONDS_AIM,
        ),
        Row(
            "  memory, input included",
            f"{found.resident / 2**20:,.0f} MiB",
            aim=f"<= {BYTES_AIM / 2**30:.0f} GiB",
            met=found.resident <= BYTES_AIM,
        ),
    ]


def one_change(about: str, found: Figures, tenth: Figures) -> list[Row]:
    return [
        Row(
            f"{name}, {about}",
            f"{seconds * 1e3:.3f} ms",
            f"a tenth of the tenants: {tenth.changes[name] * 1e3:.3f} ms",
            seconds / tenth.changes[name],
            f"<= {CHANGE_AIM * 1e3:.0f} ms",
            seconds <= CHANGE_AIM,
        )
        for name, seconds in found.changes.items()
    ]
