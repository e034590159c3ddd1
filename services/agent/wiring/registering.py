"""Builds what tells topology of this node, for `main`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from services.agent.kernel.drivers import KernelDrivers
from services.agent.registering import Identity, Registering
from services.agent.routing.reconcile import Reconciler
from services.agent.routing.spool import Spool
from services.agent.settings import AgentSettings
from services.common.model.addresses import read_address
from services.common.model.network import Address
from services.common.model.node import Attachment
from services.common.rpc.replicas import Replicas

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

log = structlog.get_logger(__name__)


def build_registering(
    settings: AgentSettings,
    topology: Replicas[TopologyServiceAsyncStub],
    kernel: KernelDrivers,
    spool: Spool,
    reconciler: Reconciler,
    own: Address | None,
    removed: Callable[[bool], None],
) -> Registering:
    """It looks again when something is wrong with the node's interfaces or addresses.

    Args:
        settings: What they say of this node.
        topology: Any replica will do.
        kernel: Has the interfaces.
        spool: Remembers what was found.
        reconciler: Is told the attachments that topology has, and says what is wrong with them.
        own: The main address that was found before.
        removed: Is told whether somebody has removed this node.
    """

    async def found(attachments: Sequence[Attachment]) -> None:
        await _saved(lambda: spool.save_attachments(attachments))
        reconciler.set_attachments(attachments)

    registering = Registering(
        topology,
        settings.topology,
        Identity(
            settings.name,
            read_address(settings.address) if settings.address else None,
            settings.labels,
            settings.declared(),
        ),
        kernel.look,
        found,
        own=own,
        keep=lambda address: _saved(lambda: spool.save_address(address)),
        removed=removed,
    )
    known: frozenset[tuple[str, str]] = frozenset()

    def looked() -> None:
        nonlocal known
        troubles = frozenset(
            item for item in reconciler.failures.items() if item[0].startswith("network/")
        )
        troubles |= _other_vlans(reconciler)
        if troubles != known:
            known = troubles
            registering.look_again()

    reconciler.on_change(looked)
    return registering


def _other_vlans(reconciler: Reconciler) -> frozenset[tuple[str, str]]:
    """Networks that have another VLAN than we are on: topology has other attachments by now."""
    networks = reconciler.remote.networks
    return frozenset(
        (f"network/{one.network}", f"VLAN {network.vlan_id}")
        for one in reconciler.attachments
        if (network := networks.get(one.network)) is not None
        and one.vlan_id
        and network.vlan_id not in {0, one.vlan_id}
    )


async def _saved(save: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(save)
    except OSError as error:  # it is known as long as this process lives
        log.warning("state_not_saved", message=str(error))
