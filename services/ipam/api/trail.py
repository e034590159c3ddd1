"""The trail that every allocation and release leaves in the log: who, what, when, which request.

A line for each address, written once it is in the store, by the replica that decided it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc.aio

from services.common.process.logs import LogEntry, current_request, write_entries
from services.common.rpc.identity import caller_text
from services.ipam.deciding.commands import AgentsRequest, Item, Result
from services.ipam.model import Allocated, Release, Released, Request

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Allocation(LogEntry, frozen=True, kw_only=True):
    """An address was allocated."""

    event: str = "address_allocated"
    address: str
    name: str
    node: str
    tenant: str
    segment: str
    network: str
    caller: str


class ReleaseEntry(LogEntry, frozen=True, kw_only=True):
    """An address was released."""

    event: str = "address_released"
    address: str
    name: str
    network: str
    caller: str


class Trail:
    """Lines of calls that are answered together are written together."""

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []

    def add(self, items: Sequence[Item], results: Sequence[Result], context: Context) -> None:
        """Says what became of what a call asked for."""
        caller, request_id = caller_text(context), current_request.get("")
        before = len(self._entries)
        for item, result in zip(items, results, strict=True):
            if type(result) is Allocated and not result.existed:
                request = item.request if isinstance(item, AgentsRequest) else item
                assert isinstance(request, Request)
                self._entries += [
                    Allocation(
                        request_id=request_id,
                        address=given.text,
                        name=request.name,
                        node=request.node,
                        tenant=request.tenant,
                        segment=request.segment,
                        network=given.network,
                        caller=caller,
                    )
                    for given in result.given
                ]
            elif type(result) is Released:
                assert isinstance(item, Release)
                self._entries += [
                    ReleaseEntry(
                        request_id=request_id,
                        address=given.text,
                        name=item.name,
                        network=given.network,
                        caller=caller,
                    )
                    for given in result.given
                ]
        if self._entries and not before:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        entries, self._entries = self._entries, []
        write_entries(entries)
