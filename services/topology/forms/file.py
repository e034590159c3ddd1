"""Reads topology files: YAML, JSON, and the JSON of Romana 2, told apart by content.

    networks:
      - {name: test, cidr: 10.20.0.0/16, vlan: 20, gateway: 10.20.0.1, mode: onlink,
         tenants: [test], reuse_delay: 30s}
    topologies:
      - networks: [test]
        groups:
          - name: rack-1
            assignment: {rack: rack-1}
            nodes:
              - {name: node-1, address: 192.0.2.11}
              - node-2                                # known already

A file is the JSON form of the API's TopologySpec, with a few spellings more: `vlan` for `vlan_id`,
the words of enums alone, a node's name for a node, minutes and hours. Field paths in errors are
those of the file; unknown fields are errors. All values are taken as the text that is written, see
`tree`.
"""

from __future__ import annotations

from enum import StrEnum

from services.common.document.fields import Findings
from services.common.document.tree import Items, Table, Tree, read_json, read_tree, read_yaml
from services.topology.forms import romana_v2
from services.topology.forms.apply_request import ApplyRequest


class Format(StrEnum):
    """How a document is written."""

    YAML = "yaml"
    JSON = "json"
    ROMANA_V2 = "romana_v2"


def read_document(text: str, form: Format | None = None) -> ApplyRequest:
    """Reads a topology file.

    Args:
        text: at most 8 MiB.
        form: None: told by the content.

    Raises:
        InvalidInput: it is not YAML or JSON at all; says line and column.
    """
    tree = _parse(text, form)
    findings = Findings()
    if form is Format.ROMANA_V2 or (form is None and _is_romana_v2(tree)):
        tree = romana_v2.translate(tree, findings)
    return ApplyRequest.of(tree, findings=findings)


def _parse(text: str, form: Format | None) -> Tree:
    if form is Format.YAML:
        return read_yaml(text)
    if form is not None:
        return read_json(text.removeprefix("\ufeff"))
    return read_tree(text)


def _is_romana_v2(tree: Tree) -> bool:
    """Only Romana 2 has `map` and `block_mask`."""
    if not isinstance(tree, Table):
        return False

    def any_has(name: str, field: str) -> bool:
        items = tree.items.get(name)
        return isinstance(items, Items) and any(
            isinstance(item, Table) and field in item.items for item in items.items
        )

    return any_has("topologies", "map") or any_has("networks", "block_mask")
