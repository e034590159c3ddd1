"""What messages ask for. They are read as documents are: see `forms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from romana.topology.v1 import node_pb2, topology_pb2, topology_service_pb2

from services.common.errors import InvalidInput
from services.common.model.names import NodeName
from services.common.rpc.models import to_tree
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.builtin import Builtin, builtin
from services.topology.forms.file import Format, read_document
from services.topology.forms.node_request import NodeRequest

_FORMATS: Final[Mapping[int, Format | None]] = {
    topology_pb2.DOCUMENT_FORMAT_UNSPECIFIED: None,
    topology_pb2.DOCUMENT_FORMAT_YAML: Format.YAML,
    topology_pb2.DOCUMENT_FORMAT_JSON: Format.JSON,
    topology_pb2.DOCUMENT_FORMAT_ROMANA_V2: Format.ROMANA_V2,
}
_BUILTINS: Final = {
    topology_pb2.BUILTIN_NAME_FLAT: Builtin.FLAT,
    topology_pb2.BUILTIN_NAME_KUBEADM: Builtin.KUBEADM,
}


def apply_request(request: topology_service_pb2.ApplyTopologyRequest) -> ApplyRequest:
    """What is to be applied; raises InvalidInput if it cannot be read at all."""
    match request.WhichOneof("source"):
        case "spec":
            return ApplyRequest.of(to_tree(request.spec), "spec")
        case "document":
            form = document_format(request.document.format, "document.format")
            return read_document(request.document.text, form)
        case "builtin":
            name = _BUILTINS.get(request.builtin.name)
            if name is None:
                raise InvalidInput.at("builtin.name", "is not the name of a built-in topology")
            return ApplyRequest.of(builtin(name, request.builtin.cidr, at="builtin"))
        case _:
            raise InvalidInput.at("spec", "one of spec, document and builtin is needed")


def document_format(value: int, at: str) -> Format | None:
    """How a document is written; None: not said."""
    if value not in _FORMATS:
        raise InvalidInput.at(at, f"{value} is not a format")
    return _FORMATS[value]


def node(message: node_pb2.Node) -> NodeRequest:
    return NodeRequest(NodeName(message.name), to_tree(message))
