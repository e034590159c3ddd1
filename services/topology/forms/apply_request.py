"""A request to apply a topology, wherever it comes from: messages, a file, or a built-in name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.errors import InvalidInput
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.topology.checks.topology import read_spec
from services.topology.layout.plan import Plan, plan_topology
from services.topology.layout.usage import InUse
from services.topology.model.spec import Spec


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """What was read. Its problems wait for those that only the state can tell."""

    spec: Spec
    findings: Findings

    @classmethod
    def of(cls, tree: Tree, at: str = "", findings: Findings | None = None) -> ApplyRequest:
        """Reads and checks networks and topologies.

        Args:
            tree: The JSON form of the API's TopologySpec.
            at: The field path of it all.
            findings: What was wrong before.
        """
        found = findings or Findings()
        return cls(read_spec(Fields(tree, at, found)), found)

    def plan(self, layout: Layout, nodes: Mapping[NodeName, Node], usage: InUse, now: int) -> Plan:
        """What it would do; raises InvalidInput with everything that is wrong."""
        problems = self.findings.problems
        try:
            return plan_topology(
                self.spec, layout, nodes, usage.blocks(), now=now, problems=problems
            )
        except InvalidInput as error:
            raise InvalidInput.of(self.findings.located(list(error.violations))) from None
