"""The demo's part on policy inside a VLAN, where no router sees the packets.

Tenant production has a front and a back end on one VLAN. One setting keeps its segments apart, then
a NetworkPolicy opens a port between them. After each step connections are tried, and have to come
out as the policy service says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from lab import connections
from lab.cluster import Cluster
from lab.commands import Commands, as_typed
from lab.connections import Pair
from lab.example_files import EXAMPLES
from lab.matrix import Host
from lab.story import Story, Unexpected
from services.common.terminal.table import Column

TENANT, PORT = "production", 5432
OTHER = "a1"
"""An endpoint of another tenant, whose packets come by way of the core router."""
POLICY = EXAMPLES / "policies" / "production.yaml"
APPLIED_TIMEOUT = 20
"""Seconds until all nodes have applied a setting."""
SETTLE_TIMEOUT = 10.0
"""Seconds until connections come out as they have to: on a busy machine one may take too long."""
PAUSE = 0.1
LEGEND = f"+: connects to TCP port {PORT}   ·: does not"


class Segments:
    def __init__(self, story: Story, cluster: Cluster, hosts: Sequence[Host]) -> None:
        self._story = story
        self._commands = Commands(story, cluster)
        segments = {each.name: each.segment for each in cluster.lab.endpoints}
        tenants = {each.name: each.tenant for each in cluster.lab.endpoints}
        self._destinations = sorted(
            (host for host in hosts if tenants.get(host.name) == TENANT), key=lambda host: host.name
        )
        other = next(host for host in hosts if host.name == OTHER)
        self._sources = [*self._destinations, other]
        self._owners = {
            host.name: "/".join(filter(None, (tenants[host.name], segments[host.name])))
            for host in self._sources
        }

    async def run(self) -> None:
        """All of it; raises Unexpected when kernel and policy service differ."""
        story = self._story
        story.step("Say who may speak with whom inside a VLAN")
        story.say(
            "The core router sees nothing of what stays inside a VLAN. There the nodes enforce\n"
            "policies. Without any, everybody connects to the port of a database:"
        )
        before = await self._tried()
        if not all(before.values()):
            raise Unexpected("not everybody connects although there is no policy")
        story.gap()
        story.say("One setting keeps the segments of a tenant apart, and other tenants out:")
        await self._commands.show("tenant", "set", TENANT, "--isolation", "segment")
        isolated = await self._tried()
        story.gap()
        story.say(
            "A NetworkPolicy, as Kubernetes has it, opens this port from front to back, and\n"
            "closes everything else to the back end:"
        )
        await self._commands.show(
            "policy", "apply", as_typed(POLICY), "--wait", str(APPLIED_TIMEOUT)
        )
        opened = await self._tried()
        if isolated in (before, opened):
            raise Unexpected("a policy changed nothing")
        await self._explain()

    async def _explain(self) -> None:
        port = ("--port", str(PORT))
        self._story.gap()
        self._story.say("Why? p4 and p2 are on two nodes, p3 and p2 in one segment:")
        await self._commands.show("policy", "explain", "p4", "p2", *port)
        await self._commands.show("policy", "explain", "p3", "p2", *port, ends=1)
        await self._commands.show("policy", "matrix", "--tenant", TENANT, *port)

    async def _tried(self) -> dict[Pair, bool]:
        """Tries all connections and shows them; they come out as the policy service says."""
        verdicts = await self._judged()
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while True:
            found = await connections.connected(self._sources, self._destinations, PORT)
            wrong = [pair for pair in found if found[pair] is not verdicts[pair]]
            if not wrong or time.monotonic() > deadline:
                break
        self._story.gap()
        self._story.table(self._sources, self._columns(found))
        if wrong:
            pairs = ", ".join(f"{one} to {other}" for one, other in wrong)
            raise Unexpected(f"the policy service says otherwise of {pairs}")
        self._story.say(f"{LEGEND}   All {len(found)} as `romana policy matrix` says.")
        return found

    async def _judged(self) -> dict[Pair, bool]:
        """What the policy service says, once all nodes have applied it."""
        deadline = time.monotonic() + APPLIED_TIMEOUT
        while True:
            matrix = await self._commands.ask(
                "policy", "matrix", "--to-tenant", TENANT, "--port", str(PORT)
            )
            if not matrix["unrealized_nodes"]:
                break
            if time.monotonic() > deadline:
                raise Unexpected(f"not applied by {', '.join(matrix['unrealized_nodes'])}")
            await asyncio.sleep(PAUSE)
        return {
            (row["source"], destination): action == "RULE_ACTION_ALLOW"
            for row in matrix["rows"]
            for destination, action in zip(matrix["destinations"], row["actions"], strict=True)
        }

    def _columns(self, found: Mapping[Pair, bool]) -> list[Column[Host]]:
        def cell(destination: str) -> Callable[[Host], str]:
            def text(source: Host) -> str:
                if source.name == destination:
                    return "-"
                return "+" if found[source.name, destination] else "·"

            return text

        return [
            Column("FROM", lambda host: host.name),
            Column("OWNER", lambda host: self._owners[host.name]),
            Column("ON", lambda host: host.node),
            *(Column(host.name, cell(host.name), solid=True) for host in self._destinations),
        ]
