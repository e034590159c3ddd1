"""A ledger of ipam without a store: what is decided counts as stored at once."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import RomanaError
from services.common.model.layout import Layout
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.ipam.deciding.commands import (
    Allocate,
    Allocated,
    CloseRested,
    Command,
    NodeBounds,
    Release,
    Released,
    Result,
    Terms,
)
from services.ipam.deciding.evaluate import NOT_KNOWN, Agents, Evaluating, Evaluation, best_first
from services.ipam.deciding.execute import execute
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.model import (
    ANY,
    IPV4_BITS,
    IPV6_BITS,
    AddressSpec,
    NoAddress,
    Owner,
    Why,
    parse_address,
)

KEYS_MOST = 100_000


def terms(now: int, keys_most: int = KEYS_MOST) -> Terms:
    """`now` in milliseconds; addresses are stamped with the same second."""
    return Terms(now, now // 1000, keys_most)


def allocate(
    name: str,
    node: str = "h1",
    tenant: str = "t",
    segment: str = "",
    addresses: Sequence[AddressSpec] = ANY,
    bounds: NodeBounds | None = None,
) -> Allocate:
    owner = Owner(NodeName(node), Tenant(tenant), Segment(segment))
    return Allocate(EndpointName(name), owner, addresses, bounds)


def carry_out(ledger: Ledger, command: Command, now: int = 0) -> Result:
    """Executes a command; raises what it is refused for."""
    result = execute(ledger, command, terms(now))
    if isinstance(result, RomanaError):
        raise result
    return result


class World:
    """Asks a ledger in words."""

    def __init__(self, layout: Layout, nodes: Sequence[Node], *, now: int = 1_000_000_000) -> None:
        self.ledger = Ledger()
        self.now = now
        """Unix time in milliseconds."""
        self.revision = 1
        self.ledger.set_layout(layout)
        for node in nodes:
            self.ledger.set_node(node)

    def save(self) -> None:
        """What a transaction that came through does."""
        self.revision += 1
        self.ledger.saved(self.revision)

    def carry_out(self, command: Command) -> Result:
        """Executes a command, which is stored then; raises what it is refused for."""
        result = carry_out(self.ledger, command, self.now)
        self.save()
        return result

    def allocate(
        self,
        name: str,
        node: str = "h1",
        tenant: str = "t",
        segment: str = "",
        *specs: AddressSpec,
        bounds: NodeBounds | None = None,
    ) -> list[str]:
        """Allocates; returns the addresses as text."""
        result = self.carry_out(allocate(name, node, tenant, segment, specs or ANY, bounds))
        assert isinstance(result, Allocated)
        return [item.text for item in result.addresses]

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
        """Releases; returns the addresses as text."""
        command = Release(
            EndpointName(name),
            Tenant(tenant) if tenant else None,
            Segment(segment),
            NodeName(node) if node else None,
        )
        result = self.carry_out(command)
        assert isinstance(result, Released)
        return [item.text for item in result.addresses]

    def close_rested(self, most: int = 1000) -> None:
        """What runs every second."""
        self.carry_out(CloseRested(most))

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += int(seconds * 1000)

    def reserve(self, name: str, network: str, *ranges: str) -> None:
        """Sets addresses aside."""
        self.ledger.set_reservation(
            Reservation(name, NetworkName(network), stored_ranges(ranges), ranges)
        )

    def evaluate(self, tenant: str = "t", segment: str = "", **rest: object) -> list[Evaluation]:
        """Evaluates all nodes, or those of `nodes`, for `want`, one address or a list."""
        want = rest.get("want", AddressSpec())
        nodes = rest.get("nodes")
        agents = rest.get("agents", NOT_KNOWN)
        assert isinstance(agents, Agents)
        assert nodes is None or isinstance(nodes, list)
        wants = want if isinstance(want, list) else [want]
        evaluating = Evaluating(Tenant(tenant), Segment(segment), wants, agents)
        names = self.ledger.nodes if nodes is None else nodes
        found = [evaluating.look(self.ledger, name, self.now) for name in names]
        best_first(found)
        return found

    def blocks(self) -> list[str]:
        """The blocks that are held, by address."""
        return [str(self.ledger.index.blocks[place]) for place in sorted(self.ledger.index.blocks)]

    def addresses(self, name: str) -> list[str]:
        """What a name has."""
        return [block.allocated(offset).text for block, offset in self.ledger.index.places(name)]

    def why(self, error: NoAddress) -> dict[str, Why]:
        """Why each network gave nothing."""
        return {item.network: item.why for item in error.refusals}


def want(network: str | None = None, *, family: int = 0, address: str | None = None) -> AddressSpec:
    """One address; `family` is 4, 6 or 0."""
    bits = {0: 0, 4: IPV4_BITS, 6: IPV6_BITS}[family]
    number = None
    if address is not None:
        number, bits = parse_address(address)
    return AddressSpec(NetworkName(network) if network else None, bits, number)
