from __future__ import annotations

from romana.topology.v1 import topology_pb2

from services.ctl.views import plan_view
from tests.unit.ctl.screens import Captured

PLAN = topology_pb2.TopologyPlan(
    networks=[
        topology_pb2.NetworkChange(
            network="prod", kind=topology_pb2.CHANGE_KIND_UPDATED, fields=["gateway", "mtu"]
        )
    ],
    groups=[
        topology_pb2.GroupChange(
            group="dc/a",
            network="prod",
            kind=topology_pb2.CHANGE_KIND_MOVED,
            before="10.0.0.0/18",
            after="10.0.64.0/18",
        ),
        topology_pb2.GroupChange(
            group="dc/a", network="prod6", kind=topology_pb2.CHANGE_KIND_ADDED, after="fd00::/64"
        ),
    ],
    nodes=[topology_pb2.NodeMove(node="n1", topology="dc", before="dc/a")],
    stranded=[topology_pb2.StrandedBlock(network="prod", block="10.0.0.0/29", node="n1", used=5)],
    stranded_addresses=5,
)


def test_an_empty_plan_says_so() -> None:
    captured = Captured()
    plan_view.show(captured.screen, topology_pb2.TopologyPlan())
    assert captured.out == "Nothing changes.\n"


def test_a_plan_shows_every_kind_of_change() -> None:
    captured = Captured()
    plan_view.show(captured.screen, PLAN)
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["~", "prod", "updated", "gateway,", "mtu"] in lines
    assert ["~", "dc/a", "prod", "moved", "10.0.0.0/18", "->", "10.0.64.0/18"] in lines
    assert ["+", "dc/a", "prod6", "added", "fd00::/64"] in lines
    assert ["~", "n1", "dc", "dc/a", "->", "none"] in lines
    assert ["!", "10.0.0.0/29", "prod", "n1", "5"] in lines


def test_the_summary_counts_groups_once() -> None:
    assert plan_view.summary(PLAN) == (
        "1 network, 1 group and 1 node change; 5 addresses in use in 1 block would be stranded"
    )
