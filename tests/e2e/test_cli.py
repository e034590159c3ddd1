"""The command as processes against a cluster of `romana up`."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.etcd.process import LocalEtcd, free_port
from services.common.process.version import version
from tests.e2e.local_cluster import (
    COMMAND,
    FREE_PORTS,
    Up,
    children,
    environment,
    romana,
    up,
    wait_until_gone,
    wait_until_listening,
)

NUMBERS = itertools.count(1)

pytestmark = pytest.mark.timeout(300)

TOPOLOGY = """
networks:
  - {name: prod, cidr: 10.1.0.0/24, block_length: 30, reuse_delay: 0s}
  - {name: qa, cidr: 10.2.0.0/24, tenants: [qa]}
  - {name: prod6, cidr: "fd00:1::/64"}
topologies:
  - name: dc
    networks: [prod, prod6]
    groups:
      - {name: rack-1, assignment: {rack: "1"}}
      - {name: rack-2, assignment: {rack: "2"}}
  - name: lab
    networks: [qa]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A cluster with a topology and two nodes that the tests of this module share."""
    folder = tmp_path_factory.mktemp("up")
    file = folder / "dc.yaml"
    file.write_text(TOPOLOGY)
    with up(folder / "data", ["--initial-topology", str(file)]) as made:
        for number in (1, 2):
            made.json(
                *("node", "register", f"n{number}", "--address", f"192.168.0.{number}"),
                *("--label", f"rack={number}"),
            )
        yield made
        assert made.stop() == 0, "".join(made.lines)


@pytest.fixture
def node(cluster: Up, request: pytest.FixtureRequest) -> str:
    """A node of the test's own."""
    name = f"n-{abs(hash(request.node.name)) % 10**8}"
    address = f"192.168.9.{next(NUMBERS)}"
    cluster.json("node", "register", name, "--address", address, "--label", "rack=1")
    return name


def test_everything_serves(cluster: Up) -> None:
    done = cluster.romana("status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" serving") == 3
    assert " active " in done.stdout
    assert done.stdout.count(f" {version()} ") == 3


def test_the_status_of_every_service_has_version_and_revision(cluster: Up) -> None:
    states = cluster.json("status")
    assert [state["service"] for state in states] == ["topology", "ipam", "policy"]
    for state in states:
        assert list(state) == [
            *("service", "address", "health", "round_trip_ms", "status", "problem"),
        ]
        assert state["status"]["version"] == version()
        assert int(state["status"]["revision"]) > 0
        assert state["status"]["replica"]
    assert len({state["status"]["epoch"] for state in states}) == 1
    assert states[0]["status"]["in_sync"] is True


def test_the_tree_shows_prefixes_and_usage(cluster: Up) -> None:
    done = cluster.romana("topology", "show")
    assert done.returncode == 0, done.stderr
    assert "├─ rack-1" in done.stdout
    assert "10.1.0.0/25" in done.stdout
    assert "%" in done.stdout


def test_an_export_applied_again_changes_nothing(cluster: Up) -> None:
    exported = cluster.romana("topology", "export")
    assert exported.returncode == 0, exported.stderr
    planned = cluster.romana("topology", "plan", "-", stdin=exported.stdout)
    assert (planned.returncode, planned.stdout) == (0, "Nothing changes.\n"), planned.stderr
    with_nodes = cluster.romana("topology", "export", "--with-nodes", "-o", "json").stdout
    assert "n1" in with_nodes
    applied = cluster.romana("topology", "apply", "-", stdin=exported.stdout)
    assert applied.returncode == 0
    assert "Nothing was to change" in applied.stderr


def test_networks_are_not_removed_without_a_word(cluster: Up) -> None:
    exported = cluster.romana("topology", "export", "-o", "json").stdout
    document = json.loads(exported)
    gone = document["networks"].pop()["name"]
    for topology in document["topologies"]:
        topology["networks"] = [name for name in topology["networks"] if name != gone]
    document["topologies"] = [each for each in document["topologies"] if each["networks"]]
    done = cluster.romana("topology", "apply", "-", stdin=json.dumps(document))
    assert done.returncode == 4, done.stderr
    assert "NOT_CONFIRMED" in done.stderr
    assert gone in done.stdout
    assert cluster.romana("topology", "export", "-o", "json").stdout == exported


def test_a_wrong_file_is_refused_with_all_its_field_paths(cluster: Up) -> None:
    wrong = TOPOLOGY.replace("10.1.0.0/24", "10.1.0.1/24").replace("[qa]\n", "[nowhere]\n")
    done = cluster.romana("topology", "apply", "-", stdin=wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "networks[0].cidr" in done.stderr


def test_networks_are_listed_for_a_tenant_in_order(cluster: Up) -> None:
    own = cluster.json("network", "list", "--tenant", "qa")
    assert [each["name"] for each in own] == ["qa", "prod", "prod6"]
    assert cluster.romana("network", "list", "-o", "name").stdout.split() == [
        "prod",
        "qa",
        "prod6",
    ]


def test_a_network_is_shown_with_its_usage(cluster: Up, node: str) -> None:
    cluster.json("address", "allocate", f"x-{node}", "--node", node, "--tenant", "shown")
    shown = cluster.json("network", "show", "prod")
    assert shown["network"]["cidr"] == "10.1.0.0/24"
    assert node in [each["node"] for each in shown["utilization"]["nodes"]]
    done = cluster.romana("network", "show", "prod")
    assert "shown" in done.stdout
    assert "dc/rack-1" in done.stdout


def test_a_node_is_registered_changed_and_removed(cluster: Up) -> None:
    cluster.json("node", "register", "gone", "--address", "192.168.8.8", "--label", "rack=1")
    changed = cluster.json("node", "update", "gone", "--label", "rack=2", "--label", "zone=z")
    assert changed["node"]["labels"] == {"rack": "2", "zone": "z"}
    groups = [each["group"] for each in changed["node"]["placements"]]
    assert "dc/rack-2" in groups
    assert cluster.romana("node", "delete", "gone").returncode == 0
    assert cluster.romana("node", "show", "gone").returncode == 3
    again = cluster.romana("node", "delete", "gone", "--force", "-y")
    assert (again.returncode, again.stdout) == (3, "")
    assert "there is no node 'gone'" in again.stderr
    ignored = cluster.romana("node", "delete", "gone", "--ignore-not-found")
    assert (ignored.returncode, ignored.stdout) == (0, "")
    assert "nothing was deleted" in ignored.stderr
    assert cluster.json("node", "delete", "gone", "--ignore-not-found") == {
        "name": "gone",
        "existed": False,
        "released_addresses": 0,
    }


def test_addresses_are_allocated_shown_and_released(cluster: Up, node: str) -> None:
    name = f"web-{node}"
    arguments = ("address", "allocate", name, "--node", node, "--tenant", "shop")
    made = cluster.json(*arguments, "--segment", "front", "--network", "prod")
    [allocation] = made["allocations"]
    assert made["existed"] is False
    again = cluster.json(*arguments, "--segment", "front", "--network", "prod")
    assert (again["existed"], again["allocations"]) == (True, made["allocations"])
    assert cluster.json("address", "show", allocation["address"]) == [allocation]
    assert cluster.json("address", "show", name) == [allocation]
    assert cluster.json("address", "list", "--node", node) == [allocation]
    refused = cluster.romana("address", "release", name, "--tenant", "other")
    assert refused.returncode == 4
    [released] = cluster.json("address", "release", name, "--tenant", "shop", "--segment", "front")
    assert released["addresses"] == [allocation["address"]]
    assert cluster.romana("address", "show", name).returncode == 3
    again = cluster.romana("address", "release", name)
    assert again.returncode == 3
    assert f"0 addresses released: {name} had none" in again.stderr
    assert cluster.romana("address", "release", name, "--ignore-not-found").returncode == 0


def test_what_is_listed_by_name_can_be_released(cluster: Up, node: str) -> None:
    """An address stands for its name: two of one name are released once."""
    for name in ("one", "two"):
        want = ("--want", "family=4", "--want", "family=6")
        place = ("--node", node, "--tenant", "shop", *want)
        assert cluster.romana("address", "allocate", f"{name}-{node}", *place).returncode == 0
    listed = cluster.romana("address", "list", "--node", node, "-o", "name").stdout.split()
    assert len(listed) == 4
    refused = cluster.romana("address", "release", *listed, "10.255.255.254")
    assert refused.returncode == 3  # and nothing is released
    released = cluster.json("address", "release", *listed)
    assert [each["name"] for each in released] == [f"one-{node}", f"two-{node}"]
    assert {address for each in released for address in each["addresses"]} == set(listed)


def test_only_nodes_that_fit_are_evaluated_by_name(cluster: Up, node: str) -> None:
    place = ("--tenant", "shop", "--network", "nowhere")
    assert cluster.romana("evaluate", *place, "-o", "name").stdout == ""
    fitting = cluster.romana("evaluate", "--tenant", "shop", "-o", "name").stdout.split()
    assert node in fitting


def test_several_addresses_are_given_together(cluster: Up, node: str) -> None:
    made = cluster.json(
        *("address", "allocate", f"dual-{node}", "--node", node, "--tenant", "shop"),
        *("--want", "family=4", "--want", "family=6"),
    )
    assert [":" in each["address"] for each in made["allocations"]] == [False, True]


def test_exhaustion_is_explained_network_by_network(cluster: Up, node: str) -> None:
    done = cluster.romana(
        *("address", "allocate", f"no-{node}", "--node", node, "--tenant", "shop"),
        *("--network", "prod", "--address", "10.1.0.200"),
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "address outside" in done.stderr


def test_lists_are_paged_and_limited(cluster: Up, node: str) -> None:
    for number in range(3):
        cluster.json("address", "allocate", f"{node}-{number}", "--node", node, "--tenant", "many")
    assert len(cluster.json("address", "list", "--node", node)) == 3
    limited = cluster.romana("address", "list", "--node", node, "--limit", "2", "-o", "name")
    assert len(limited.stdout.split()) == 2
    assert "more than 2" in limited.stderr


def test_an_empty_list_says_nothing_of_what_its_options_leave_out(cluster: Up, node: str) -> None:
    cluster.json("address", "allocate", f"{node}-a", "--node", node, "--tenant", "shop")
    for words in (
        ("node", "list", "--label", "rack=9"),
        ("address", "list", "--tenant", "nobody"),
        ("block", "list", "--node", "nowhere"),
    ):
        done = cluster.romana(*words)
        assert (done.returncode, done.stdout) == (0, ""), words
        assert done.stderr == "nothing matches the options\n", words


def test_nodes_are_evaluated_best_first(cluster: Up, node: str) -> None:
    evaluations = cluster.json("evaluate", "--tenant", "shop", "--node", node)
    assert [each["node"] for each in evaluations] == [node]
    done = cluster.romana("evaluate", "--tenant", "shop", "--network", "qa")
    assert done.returncode == 1
    assert "not this tenant" in done.stdout


def test_a_cordoned_node_gives_no_new_addresses_and_is_drained(cluster: Up, node: str) -> None:
    mine = f"drained-{node}"
    before = cluster.json("address", "allocate", mine, "--node", node, "--tenant", "shop")
    assert cluster.romana("node", "cordon", node).returncode == 0
    assert "(cordoned)" in cluster.romana("node", "list").stdout
    again = cluster.json("address", "allocate", mine, "--node", node, "--tenant", "shop")
    assert again["allocations"] == before["allocations"]
    refused = cluster.romana("address", "allocate", "x", "--node", node, "--tenant", "shop")
    assert refused.returncode != 0
    assert "is cordoned" in refused.stderr
    nowhere = cluster.romana("evaluate", "--tenant", "shop", "--node", node, "-o", "json")
    assert nowhere.returncode == 1
    evaluated = json.loads(nowhere.stdout)
    assert [each["fits"] for each in evaluated] == [False]
    assert {each["refusal"] for each in evaluated[0]["refusals"]} >= {"REFUSAL_NODE_CORDONED"}
    exported = cluster.romana("topology", "export", "--with-nodes").stdout
    assert "cordoned: true" in exported
    assert cluster.romana("topology", "apply", "-", stdin=exported).returncode == 0
    left = cluster.romana("node", "drain", node, "-o", "name")
    assert (left.returncode, left.stdout.split()) == (1, [mine])
    assert cluster.romana("address", "release", mine).returncode == 0
    assert cluster.romana("node", "drain", node, "--wait", "60").returncode == 0
    assert cluster.romana("node", "uncordon", node).returncode == 0
    assert cluster.json("evaluate", "--tenant", "shop", "--node", node)[0]["fits"]


def test_a_node_in_use_is_only_removed_by_force(cluster: Up, node: str) -> None:
    cluster.json("address", "allocate", f"last-{node}", "--node", node, "--tenant", "shop")
    shown = cluster.romana("node", "show", node)
    assert "shop" in shown.stdout
    assert "REACHED BY" in shown.stdout
    refused = cluster.romana("node", "delete", node)
    assert refused.returncode == 4
    done = cluster.romana("node", "delete", node, "--force", "--machine-is-off")
    assert done.returncode == 0, done.stderr
    assert "1 address" in done.stderr


def test_reservations_come_and_go(cluster: Up) -> None:
    made = cluster.json("reservation", "create", "aside", "--network", "qa", "10.2.0.8-10.2.0.11")
    assert (made["name"], made["size"]) == ("aside", "4")
    assert [each["name"] for each in cluster.json("reservation", "list")] == ["aside"]
    refused = cluster.romana("reservation", "delete", "aside", "nothing")
    assert refused.returncode == 3
    assert "there is no reservation 'nothing'" in refused.stderr
    assert [each["name"] for each in cluster.json("reservation", "list")] == ["aside"]
    assert cluster.json("reservation", "delete", "aside", "nothing", "--ignore-not-found") == [
        {"name": "aside", "existed": True},
        {"name": "nothing", "existed": False},
    ]
    assert cluster.json("reservation", "list") == []


def test_a_node_is_on_every_network_or_on_none_only_when_that_is_said(cluster: Up) -> None:
    attach = "network=qa,interface=eth1,address=10.2.0.9"
    cluster.json("node", "register", "n9", "--address", "192.168.0.9", "--attach", attach)
    refused = cluster.romana("node", "update", "n9", "--detach", "qa")
    assert refused.returncode == 2
    assert "--no-network" in refused.stderr
    assert cluster.json("node", "show", "n9")["node"]["networks"] == ["qa"]

    nowhere = cluster.json("node", "update", "n9", "--detach", "qa", "--no-network")
    assert nowhere["node"]["networks"] == []
    exhausted = cluster.romana("address", "allocate", "x", "--node", "n9", "--tenant", "qa")
    assert exhausted.returncode == 4
    assert "no network" in cluster.romana("node", "show", "n9").stdout
    cluster.json("node", "update", "n9", "--label", "colour=blue")
    assert cluster.json("node", "show", "n9")["node"]["networks"] == []

    everywhere = cluster.json("node", "update", "n9", "--every-network")
    assert everywhere["node"]["networks"] == ["qa"]  # its labels fit no rack of the other topology
    cluster.json("node", "delete", "n9")


def test_a_node_has_a_main_address_of_each_family(cluster: Up) -> None:
    cluster.json("node", "register", "n9", "--address", "192.168.0.9", "--other-address", "fd00::9")
    assert "192.168.0.9, fd00::9" in cluster.romana("node", "show", "n9").stdout
    assert cluster.json("node", "show", "FD00:0::9")["node"]["name"] == "n9"
    refused = cluster.romana("node", "update", "n9", "--other-address", "192.168.0.10")
    assert "node.other_address: 192.168.0.10 is of the same family" in refused.stderr
    updated = cluster.json("node", "update", "n9", "--other-address", "fd00::10")["node"]
    assert (updated["address"], updated["other_address"]) == ("192.168.0.9", "fd00::10")
    bare = cluster.json("node", "update", "n9", "--no-other-address")["node"]
    assert (bare["address"], bare["other_address"]) == ("192.168.0.9", "")
    cluster.json("node", "delete", "n9")


def test_the_store_is_consistent(cluster: Up) -> None:
    done = cluster.romana("ipam", "check")
    assert done.returncode == 0, done.stderr
    assert "consistent" in done.stdout
    assert cluster.json("ipam", "check")["done"] is True


def test_watches_begin_with_everything(cluster: Up) -> None:
    for noun in ("topology", "block"):
        watching = subprocess.Popen(
            [*COMMAND, noun, "watch", "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(cluster.folder),
        )
        assert watching.stdout is not None
        with watching.stdout:
            assert any(json.loads(line)["in_sync"] for line in watching.stdout)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


def test_names_are_completed(cluster: Up) -> None:
    done = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        check=False,
        env={
            **environment(cluster.folder),
            "_ROMANA_COMPLETE": "complete_bash",
            "COMP_WORDS": "romana node show n",
            "COMP_CWORD": "3",
        },
    )
    assert {"n1", "n2"} <= set(done.stdout.split())


def test_a_terminal_of_80_columns_is_not_exceeded(cluster: Up) -> None:
    for arguments in (["topology", "show"], ["node", "list"], ["network", "show", "prod"]):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=slave,
            stderr=subprocess.DEVNULL,
            env={**environment(cluster.folder), "COLUMNS": "80", "TERM": "xterm"},
        )
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            text += piece
        os.close(master)
        assert process.wait(60) == 0
        plain = [line for line in text.decode().splitlines() if "\x1b" not in line]
        assert plain
        assert all(len(line) <= 80 for line in plain)


def test_a_data_directory_has_one_cluster(cluster: Up) -> None:
    second = romana(cluster.folder, "up", *FREE_PORTS)
    assert second.returncode == 4
    assert f"process {cluster.cluster['pid']}" in second.stderr


def test_a_second_start_finds_its_data(tmp_path: Path) -> None:
    with up(tmp_path, ["--initial-topology", "flat"]) as first:
        first.json("node", "register", "n1", "--address", "192.168.0.1")
        made = first.json("address", "allocate", "a", "--node", "n1", "--tenant", "t")
        assert first.stop() == 0, "".join(first.lines)
    assert not (tmp_path / "endpoints.json").exists()
    with up(tmp_path, ["--initial-topology", "flat"]) as second:
        assert second.json("address", "show", "a") == made["allocations"]
        assert second.stop(signal.SIGTERM) == 0


def test_a_child_that_dies_ends_all(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        own = children(running.process.pid)
        os.kill(own["services.ipam.main"], signal.SIGKILL)
        assert running.process.wait(100) == 1
        wait_until_gone(list(own.values()))
    assert any("ipam ended by SIGKILL" in line for line in running.lines)


def test_children_do_not_outlive_it(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        own = children(running.process.pid)
        assert len(own) == 4
        running.process.kill()
        wait_until_gone(list(own.values()))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = romana(tmp_path, "up", *FREE_PORTS, "--ipam-port", str(port))
    assert done.returncode == 4
    assert f"port {port}" in done.stderr
    assert "--ipam-port" in done.stderr


@pytest.mark.parametrize(
    ("service", "question"), [("topology", "topology show"), ("ipam", "ipam status")]
)
def test_one_service_is_served_from_options_and_a_file(
    shared_etcd: LocalEtcd, tmp_path: Path, service: str, question: str
) -> None:
    port = free_port()
    config = tmp_path / "settings.yaml"
    config.write_text(
        f"etcd: {{root: /serve-{port}}}\nlisten: {{address: '127.0.0.1:1'}}\n"
        "metrics: {address: '127.0.0.1:0'}\n"
    )
    serving = subprocess.Popen(
        [
            *(*COMMAND, "serve", service, "--config", str(config)),
            *("--etcd", shared_etcd.endpoint, "--listen", f"127.0.0.1:{port}"),
        ],
        stderr=subprocess.DEVNULL,
        env=environment(tmp_path),
    )
    try:
        wait_until_listening(port)
        done = romana(tmp_path, *question.split(), f"--{service}-address", f"127.0.0.1:{port}")
        assert done.returncode == 0, done.stderr
    finally:
        serving.terminate()
        assert serving.wait(100) == 0
