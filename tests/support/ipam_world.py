"""A state of ipam without a store: decisions are settled at once."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.model.layout import Layout
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.ipam.deciding import allocation
from services.ipam.deciding.evaluate import Evaluating, Evaluation, best_first
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.ledger.state import State
from services.ipam.model import (
    IPV4_BITS,
    IPV6_BITS,
    NoAddress,
    Release,
    Request,
    Want,
    Why,
    parse_address,
)


class World:
    """Asks a state in words."""

    def __init__(self, layout: Layout, nodes: Sequence[Node], *, now: int = 1_000_000_000) -> None:
        self.state = State()
        self.now = now
        """Unix time in milliseconds."""
        self.revision = 1
        self.state.set_layout(layout)
        for node in nodes:
            self.state.set_node(node)

    def settle(self) -> None:
        """What a transaction that came through does."""
        self.revision += 1
        self.state.settle(self.revision)

    def allocate(
        self, name: str, node: str = "h1", tenant: str = "t", segment: str = "", *wants: Want
    ) -> list[str]:
        """Allocates and settles; returns the addresses as text."""
        asked = Request(
            EndpointName(name), NodeName(node), Tenant(tenant), Segment(segment), wants or (Want(),)
        )
        result = allocation.allocate(self.state, asked, self.now, self.now // 1000)
        self.settle()
        return [item.text for item in result.given]

    def one(self, name: str, node: str = "h1", tenant: str = "t", segment: str = "") -> str:
        """Allocates one address."""
        return self.allocate(name, node, tenant, segment)[0]

    def many(self, count: int, prefix: str = "n", node: str = "h1", tenant: str = "t") -> list[str]:
        """Allocates one address each for `prefix` 0, 1, 2 and so on."""
        return [self.one(f"{prefix}{number}", node, tenant) for number in range(count)]

    def fill(self, prefix: str = "f", node: str = "h1", tenant: str = "t") -> list[str]:
        """Allocates until there is no address left."""
        found: list[str] = []
        while True:
            try:
                found.append(self.one(f"{prefix}{len(found)}", node, tenant))
            except NoAddress:
                return found

    def release(
        self,
        name: str,
        tenant: str | None = None,
        segment: str = "",
        node: str | None = None,
    ) -> list[str]:
        """Releases and settles; returns the addresses as text."""
        asked = Release(
            EndpointName(name),
            Tenant(tenant) if tenant else None,
            Segment(segment),
            NodeName(node) if node else None,
        )
        result = allocation.release(self.state, asked, self.now)
        self.settle()
        return [item.text for item in result.given]

    def tidy(self, most: int = 1000) -> None:
        """What runs every second."""
        allocation.tidy(self.state, self.now, most)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += int(seconds * 1000)

    def reserve(self, name: str, network: str, *ranges: str) -> None:
        """Sets addresses aside."""
        self.state.set_reservation(
            Reservation(name, NetworkName(network), stored_ranges(ranges), ranges)
        )

    def evaluate(self, tenant: str = "t", segment: str = "", **rest: object) -> list[Evaluation]:
        """Evaluates all nodes, or those of `nodes`, for `want`."""
        want = rest.get("want", Want())
        nodes = rest.get("nodes")
        assert isinstance(want, Want)
        assert nodes is None or isinstance(nodes, list)
        evaluating = Evaluating(Tenant(tenant), Segment(segment), want)
        names = self.state.nodes if nodes is None else nodes
        found = [evaluating.look(self.state, name, self.now) for name in names]
        best_first(found)
        return found

    def blocks(self) -> list[str]:
        """The blocks that are held, by address."""
        return [str(self.state.index.blocks[place]) for place in sorted(self.state.index.blocks)]

    def addresses(self, name: str) -> list[str]:
        """What a name has."""
        return [block.given(offset).text for block, offset in self.state.index.places(name)]

    def why(self, error: NoAddress) -> dict[str, Why]:
        """Why each network gave nothing."""
        return {item.network: item.why for item in error.refusals}


def want(network: str | None = None, *, family: int = 0, address: str | None = None) -> Want:
    """One address; `family` is 4, 6 or 0."""
    bits = {0: 0, 4: IPV4_BITS, 6: IPV6_BITS}[family]
    number = None
    if address is not None:
        number, bits = parse_address(address)
    return Want(NetworkName(network) if network else None, bits, number)
