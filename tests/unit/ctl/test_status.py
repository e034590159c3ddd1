"""What `romana status` and `romana ipam status` show of a replica."""

from __future__ import annotations

import pytest
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.ctl.verbs.ipam import rows
from services.ctl.verbs.status import COLUMNS, Detail, ServiceState


def cell(detail: Detail, title: str) -> str:
    state = ServiceState("ipam", "127.0.0.1:9620", "not serving", 1.0, detail)
    (column,) = (each for each in COLUMNS if each.title == title)
    return str(column.text(state))


@pytest.mark.parametrize(
    "detail",
    [
        ipam_api.GetStatusResponse(version="1"),
        topology_api.GetStatusResponse(version="1"),
        policy_api.GetStatusResponse(version="1"),
    ],
)
def test_a_replica_that_has_not_read_the_store_is_not_said_to_hold_nothing(detail: Detail) -> None:
    assert cell(detail, "REVISION") == "-"
    assert "not known" in cell(detail, "HOLDS")
    detail.revision = 7
    assert cell(detail, "REVISION") == "7"
    assert cell(detail, "HOLDS").startswith("0 ")


def test_no_more_does_ipam_status_say_so() -> None:
    answer = ipam_api.GetStatusResponse(replica="a")
    unread = dict(rows(answer))
    assert "not known" in unread["Revision"]
    assert not {"Addresses", "Blocks"} & unread.keys()
    answer.revision = 7
    assert dict(rows(answer)).items() >= {"Revision": "7", "Addresses": "0", "Blocks": "0"}.items()
