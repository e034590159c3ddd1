"""Spellings of addresses that mean nothing here are refused wherever an address is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_cluster import Up, up

pytestmark = pytest.mark.timeout(300)

TOPOLOGY = """
networks: [{name: v4, cidr: 10.5.0.0/24}, {name: v6, cidr: "fd00::/64"}]
topologies: [{name: t, networks: [v4, v6]}]
"""
NETWORK = "networks: [{{name: n, {}}}]\ntopologies: [{{name: t, networks: [n]}}]\n"
GROUP = (
    "networks: [{{name: n, cidr: 10.9.0.0/16}}]\n"
    'topologies: [{{name: t, networks: [n], groups: [{{name: g, prefixes: {{n: "{}"}}}}]}}]\n'
)
PEER = (
    "policies: [{{name: p, tier: admin, targets: [{{endpoints: {{}}}}],"
    ' ingress: [{{action: deny, peers: [{{cidr: {{cidr: "{}", except: [{}]}}}}]}}]}}]\n'
)

DOCUMENTS = {
    "network-mapped": ("topology", NETWORK.format('cidr: "::ffff:10.9.0.0/112"')),
    "network-length": ("topology", NETWORK.format("cidr: 10.9.0.0/016")),
    "network-zone": ("topology", NETWORK.format('cidr: "fd01::%eth0/64"')),
    "gateway-zone": ("topology", NETWORK.format('cidr: "fd01::/64", gateway: "fd01::1%eth0"')),
    "gateway-mapped": (
        "topology",
        NETWORK.format('cidr: 10.9.0.0/16, gateway: "::ffff:10.9.0.1"'),
    ),
    "group": ("topology", GROUP.format("10.9.0.0/017")),
    "policy-mapped": ("policy", PEER.format("::ffff:10.0.0.0/104", "")),
    "policy-length": ("policy", PEER.format("10.0.0.0/08", "")),
    "policy-except": ("policy", PEER.format("10.0.0.0/8", '"10.1.0.0/016"')),
}
COMMANDS = {
    "node-mapped": "node register twin --address ::ffff:192.0.2.9",
    "node-zone": "node register twin --address fd01::9%eth0",
    "attachment": "node register twin --attach network=v4,interface=e,address=::ffff:10.5.0.9",
    "allocation-zone": "address allocate z --node n1 --tenant t --address fd00::77%eth0",
    "allocation-mapped": "address allocate z --node n1 --tenant t --address ::ffff:10.5.0.7",
    "reservation-zone": "reservation create r --network v6 fd00::1000%eth0-fd00::1010",
    "reservation-length": "reservation create r --network v4 10.5.0.0/028",
    "reservation-mapped": "reservation create r --network v4 ::ffff:10.5.0.7",
    "address-shown": "address show fd00::77%eth0",
    "party": "policy explain fd00::77%eth0 10.5.0.7",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "dc.yaml").write_text(TOPOLOGY)
    with up(folder / "data", ["--initial-topology", str(folder / "dc.yaml")]) as made:
        made.json("node", "register", "n1", "--address", "192.0.2.1")
        yield made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_refused(cluster: Up, tmp_path: Path, name: str) -> None:
    noun, text = DOCUMENTS[name]
    file = tmp_path / "file.yaml"
    file.write_text(text)
    done = cluster.romana(noun, "apply", str(file))
    assert done.returncode == 2, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_refused(cluster: Up, name: str) -> None:
    done = cluster.romana(*COMMANDS[name].split())
    assert done.returncode == 2, done.stdout + done.stderr
