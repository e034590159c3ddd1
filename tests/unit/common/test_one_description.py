"""The fields of a model stand in the model and in its message, and nobody else repeats them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.message import Message
from romana.topology.v1 import network_pb2, node_pb2

from services.common.model.description import describe
from services.common.model.network import Network
from services.common.model.node import Attachment, Node, NodeAllowance

ROOT = Path(__file__).parents[3]

MODELS: list[tuple[type, type[Message], set[str]]] = [
    (Network, network_pb2.Network, {"topology"}),
    (Attachment, node_pb2.Attachment, set()),
    (NodeAllowance, node_pb2.NodeAllowance, set()),
    (Node, node_pb2.Node, {"networks", "etag", "empty_attachments"}),
]
"""With what only the message has."""


@pytest.mark.parametrize(("model", "message", "more"), MODELS)
def test_a_model_has_the_fields_of_its_message(
    model: type, message: type[Message], more: set[str]
) -> None:
    assert {field.name for field in describe(model)} | more == set(
        message.DESCRIPTOR.fields_by_name
    )


FOLDERS = [
    "services/common/document",
    "services/common/records",
    "services/common/rpc",
    "services/ipam/api",
    "services/agent/routing",
    "services/topology",
]
"""What a network passes from the file to a node."""
FIELDS = ["reuse_delay", "isolation", "masquerade"]
"""Which nobody on the way uses."""


@pytest.mark.parametrize("field", FIELDS)
def test_nobody_on_the_way_names_a_field_but_its_check(field: str) -> None:
    naming = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if re.search(rf"\b\w+\.{field}\b|\b{field}=", path.read_text())
    }
    assert naming <= {"services/topology/checks/networks.py"}
