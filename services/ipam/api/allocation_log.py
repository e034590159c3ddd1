"""What every allocation and release leaves in the log: who, what, when, by which request.

A line for each address, written once it is in the store, by the replica that decided it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.common.process.logs import LogEntry, current_request, write_entries
from services.common.rpc.context import Context
from services.common.rpc.identity import caller_text
from services.ipam.deciding.commands import (
    ActivateMove,
    Allocate,
    Allocated,
    Command,
    Move,
    Moved,
    Moving,
    Release,
    Released,
    Result,
)


class AllocationEntry(LogEntry, frozen=True, kw_only=True):
    event: str = "address_allocated"
    address: str
    name: str
    node: str
    tenant: str
    segment: str
    network: str
    caller: str


class ReleaseEntry(LogEntry, frozen=True, kw_only=True):
    event: str = "address_released"
    address: str
    name: str
    network: str
    caller: str


class MoveEntry(LogEntry, frozen=True, kw_only=True):
    """An address went along to another node."""

    event: str = "address_moved"
    address: str
    name: str
    from_node: str
    node: str
    network: str
    caller: str


class AllocationLog:
    """Lines of calls that are answered together are written together."""

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []

    def add(self, commands: Sequence[Command], results: Sequence[Result], context: Context) -> None:
        """Says what became of a call's commands."""
        caller, request_id = caller_text(context), current_request.get("")
        before = len(self._entries)
        for command, result in zip(commands, results, strict=True):
            if type(command) is Allocate and type(result) is Allocated and not result.existed:
                self._entries += [
                    AllocationEntry(
                        request_id=request_id,
                        address=address.text,
                        name=command.name,
                        node=command.owner.node,
                        tenant=command.owner.tenant,
                        segment=command.owner.segment,
                        network=address.network,
                        caller=caller,
                    )
                    for address in result.addresses
                ]
            elif type(command) is Move and type(result) is Moved:
                self._entries += [
                    MoveEntry(
                        request_id=request_id,
                        address=item.address.text,
                        name=command.name,
                        from_node=result.from_node,
                        node=command.node,
                        network=item.address.network,
                        caller=caller,
                    )
                    for item in result.allocations
                    if result.from_node != command.node
                ]
            elif type(command) is ActivateMove and type(result) is Moving and result.from_node:
                self._entries += [
                    MoveEntry(
                        request_id=request_id,
                        address=item.address.text,
                        name=command.name,
                        from_node=result.from_node,
                        node=command.to,
                        network=item.address.network,
                        caller=caller,
                    )
                    for item in result.allocations
                ]
            elif type(command) is Release and type(result) is Released:
                self._entries += [
                    ReleaseEntry(
                        request_id=request_id,
                        address=address.text,
                        name=command.name,
                        network=address.network,
                        caller=caller,
                    )
                    for address in result.addresses
                ]
        if self._entries and not before:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        entries, self._entries = self._entries, []
        write_entries(entries)
