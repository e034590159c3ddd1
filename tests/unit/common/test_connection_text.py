"""`services.common.rpc.connection_text`."""

from __future__ import annotations

import pytest
from romana.policy.v1 import policy_pb2

from services.common.rpc.connection_text import party, protocol


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("node:n1", "node"),
        ("10.0.0.1", "address"),
        ("fd00::1", "address"),
        ("web-1", "endpoint"),
    ],
)
def test_a_party_is_told_by_its_looks(text: str, kind: str) -> None:
    assert party(text).WhichOneof("party") == kind


def test_a_protocol_is_read_in_any_case() -> None:
    assert protocol("Tcp") == policy_pb2.PROTOCOL_TCP
    assert protocol("") == policy_pb2.PROTOCOL_UNSPECIFIED
    with pytest.raises(ValueError, match="'gre' is not one of tcp, udp, sctp, icmp, icmpv6"):
        protocol("gre")
