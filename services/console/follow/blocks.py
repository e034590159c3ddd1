"""What ipam says: every block, and when one is taken or given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as api

from services.common.terminal.plural import count
from services.console.follow.live import Live
from services.console.picture.blocks import Block, NetworkBlocks
from services.console.picture.changes import ChangeLog
from services.console.picture.ranges import range_of, ranges_of


class KnownBlocks:
    """Kept up to date by WatchBlocks."""

    def __init__(self, changes: ChangeLog, live: Live, clock: Callable[[], float]) -> None:
        self._changes = changes
        self._live = live
        self._clock = clock
        self.networks: dict[str, NetworkBlocks] = {}
        self.revision = 0
        self.known = False
        """Everything has been read once."""
        self._network_of: dict[str, str] = {}
        self._heard: dict[str, set[int]] | None = None
        self._reserved: Mapping[str, Sequence[str]] = {}

    def of(self, network: str) -> NetworkBlocks:
        """The blocks of a network; none if nothing is known of it."""
        return self.networks.setdefault(network, NetworkBlocks())

    def begin(self) -> None:
        """A stream begins."""
        self._heard = {}

    def take(self, message: api.WatchBlocksResponse) -> None:
        """Takes what the watch says."""
        touched = {item.network for item in message.updated}
        taken = [
            f"{item.prefix} of {item.network} taken by {item.node}"
            for item in message.updated
            if self._put(item)
        ]
        back: list[str] = []
        for prefix in message.removed:
            network = self._network_of.pop(prefix, None)
            if network is not None:
                touched.add(network)
                gone = self.of(network).drop(range_of(prefix))
                back += [_given_back(gone, network)] if gone is not None else []
        if message.in_sync:
            touched |= self.networks.keys()
            back += self._forget_unheard()
        self.revision = max(self.revision, message.revision)
        if self.known and (taken or back):
            self._note(taken, back)
        self.known = self.known or message.in_sync
        for network in touched:
            self._live.tell(f"map/{network}")

    def _put(self, item: block_pb2.Block) -> bool:
        """Takes a block; returns whether it is a new one."""
        block = _block(item)
        self._network_of[item.prefix] = item.network
        if self._heard is not None:
            self._heard.setdefault(item.network, set()).add(block.where.first)
        return self.of(item.network).put(block) is None

    def _forget_unheard(self) -> list[str]:
        """A stream has told all there is: the others are gone. Returns what to say of them."""
        heard, self._heard = self._heard or {}, None
        lines = []
        for network, blocks in self.networks.items():
            for gone in blocks.keep_only(heard.get(network, set())):
                self._network_of.pop(gone.prefix, None)
                lines.append(_given_back(gone, network))
        return lines

    def reserve(self, reservations: Mapping[str, Sequence[str]]) -> None:
        """Says what is reserved: ranges by network."""
        if reservations == self._reserved:
            return
        for network in {*reservations, *self._reserved}:
            self.of(network).reserve(ranges_of(text) for text in reservations.get(network, ()))
            self._live.tell(f"map/{network}")
        self._reserved = reservations

    def _note(self, taken: list[str], back: list[str]) -> None:
        lines = taken + back
        what = f"block {lines[0]}"
        if len(lines) > 1:
            what = f"{count(len(taken), 'block')} taken, {len(back)} given back"
        details = lines if len(lines) > 1 else ()
        self._changes.add("blocks", what, self.revision, self._clock(), details)
        self._live.tell("changes")


def _given_back(block: Block, network: str) -> str:
    return f"{block.prefix} of {network} given back by {block.node}"


def _block(item: block_pb2.Block) -> Block:
    return Block(
        prefix=item.prefix,
        where=range_of(item.prefix),
        node=item.node,
        tenant=item.tenant,
        segment=item.segment,
        group=item.group,
        used=item.used,
        resting=item.resting,
        stranded=item.stranded,
    )
