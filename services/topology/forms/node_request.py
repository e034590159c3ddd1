"""A request to register or update a node: what it says depends on the networks that there are."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.errors import InvalidInput
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.topology.checks.nodes import check_pins, read_node
from services.topology.model.spec import NodeSpec

AT = "node"
"""The field path of the node in requests."""


@dataclass(frozen=True, slots=True)
class NodeRequest:
    name: NodeName
    tree: Tree
    """The JSON form of the API's Node."""

    def read(self, layout: Layout, known: Node | None) -> NodeSpec:
        """Reads and checks it, beside the node that there is; raises InvalidInput."""
        findings = Findings()
        fields = Fields(self.tree, AT, findings)
        networks = {str(network.name): network for network in layout.networks}
        spec = read_node(fields, networks, known=known)
        check_pins(spec.node, layout, fields)
        if findings.problems:
            raise InvalidInput.of(findings.problems)
        return spec
