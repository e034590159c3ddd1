from __future__ import annotations

from collections.abc import Sequence

from romana.ipam.v1 import utilization_pb2
from romana.topology.v1 import topology_pb2

from services.ctl.views import tree_view
from tests.unit.ctl.screens import Captured


def group(
    path: str, prefixes: dict[str, str], count: int, groups: Sequence[topology_pb2.PrefixGroup] = ()
) -> topology_pb2.PrefixGroup:
    return topology_pb2.PrefixGroup(
        name=path.rpartition("/")[2],
        path=path,
        carved_prefixes=prefixes,
        node_count=count,
        groups=groups,
    )


TOPOLOGY = topology_pb2.Topology(
    name="dc",
    networks=["prod", "prod6"],
    groups=[
        group(
            "dc/a",
            {"prod": "10.0.0.0/17", "prod6": "fd00::/49"},
            3,
            [group("dc/a/r1", {"prod": "10.0.0.0/18"}, 3)],
        ),
        group("dc/b", {"prod": "10.0.128.0/17"}, 1),
    ],
)
USAGE = utilization_pb2.NetworkUtilization(
    network="prod",
    groups=[
        utilization_pb2.GroupUtilization(
            group="dc/a/r1", usage=utilization_pb2.Usage(size=16384, used=8192)
        )
    ],
)


def drawn(*, with_usage: bool) -> list[str]:
    captured = Captured()
    rows = tree_view.rows(TOPOLOGY, tree_view.usage_of([USAGE] if with_usage else []))
    captured.screen.table(rows, tree_view.columns(rows, with_usage=with_usage), wide=False)
    return captured.out.splitlines()


def test_the_tree_stands_beside_prefixes_of_every_network() -> None:
    assert drawn(with_usage=False) == [
        "GROUP     NODES  NETWORK  PREFIX",
        "dc            4",
        "├─ a          3  prod     10.0.0.0/17",
        "│  │             prod6    fd00::/49",
        "│  └─ r1      3  prod     10.0.0.0/18",
        "└─ b          1  prod     10.0.128.0/17",
    ]


def test_usage_is_drawn_where_it_is_known() -> None:
    lines = drawn(with_usage=True)
    assert "█████····· 50.0%" in lines[4]
    assert "%" not in lines[5]


def test_assignment_is_a_column_only_if_there_is_one() -> None:
    labelled = topology_pb2.Topology(
        name="dc", groups=[topology_pb2.PrefixGroup(name="a", assignment={"rack": "1"})]
    )
    rows = tree_view.rows(labelled, {})
    assert tree_view.columns(rows, with_usage=False)[-1] is tree_view.NOTE_COLUMN
    assert tree_view.NOTE_COLUMN not in tree_view.columns(
        tree_view.rows(TOPOLOGY, {}), with_usage=False
    )
