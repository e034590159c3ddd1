"""What people write of a connection, as the API takes it: its two parties and its protocol."""

from __future__ import annotations

from romana.policy.v1 import explain_pb2, policy_pb2

from services.common.model.addresses import looks_like_address
from services.common.rpc.enums import PROTOCOLS

_PROTOCOLS = {
    "": policy_pb2.PROTOCOL_UNSPECIFIED,
    **{str(protocol): number for protocol, number in PROTOCOLS.items()},
}


def party(text: str) -> explain_pb2.Party:
    """Reads an endpoint's name, an address, or a node as "node:NAME"."""
    if text.startswith("node:"):
        return explain_pb2.Party(node=text.removeprefix("node:"))
    if looks_like_address(text):
        return explain_pb2.Party(address=text)
    return explain_pb2.Party(endpoint=text)


def protocol(text: str) -> policy_pb2.Protocol.ValueType:
    """Reads "tcp" and the like, or nothing; raises ValueError for anything else."""
    found = _PROTOCOLS.get(text.lower())
    if found is None:
        raise ValueError(f"{text[:32]!r} is not one of {', '.join(PROTOCOLS)}")
    return found
