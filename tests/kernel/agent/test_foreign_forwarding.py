"""Chains of others that drop what is forwarded are named, whoever made them and however."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.agent.kernel.foreign_forwarding import closed_chains
from tests.support.netns import Namespaces


def chain(table: str, name: str, hook: str, policy: str) -> str:
    base = f"type filter hook {hook} priority 0; policy {policy};" if hook else "drop;"
    return f"table {table} {{\nchain {name} {{\n{base}\n}}\n}}\n"


OPEN = (
    chain("inet theirs", "f", "forward", "accept")
    + chain("ip filter", "INPUT", "input", "drop")
    + chain("bridge b", "FORWARD", "forward", "drop")
    + chain("inet romana", "forward", "forward", "drop")
    + chain("ip other", "FORWARD", "", "")
)
CLOSED = chain("ip filter", "FORWARD", "forward", "drop") + chain(
    "inet fw", "through", "forward", "drop"
)


def test_chains_of_nftables(made: Namespaces) -> None:
    node = made.new("node")
    assert node.call(closed_chains) == []
    node.run("nft -f -", stdin=OPEN)
    assert node.call(closed_chains) == []
    node.run("nft -f -", stdin=CLOSED)
    assert sorted(node.call(closed_chains)) == [
        "FORWARD of table ip filter",
        "through of table inet fw",
    ]


@pytest.mark.parametrize(("command", "family"), [("iptables", "ip"), ("ip6tables", "ip6")])
def test_chains_of_xtables(made: Namespaces, command: str, family: str) -> None:
    program = f"{command}-legacy"
    node = made.new("node")
    if not shutil.which(program) or not node.succeeds(f"{program} -S"):
        pytest.skip(f"needs {program}")
    assert node.call(closed_chains) == []
    node.run(f"{program} -A FORWARD -s {'10.0.0.1' if family == 'ip' else 'fd00::1'} -j DROP")
    node.run(f"{program} -P INPUT DROP")
    assert node.call(closed_chains) == []
    node.run(f"{program} -P FORWARD DROP")
    assert node.call(closed_chains) == [f"FORWARD of table {family} filter"]
    node.run(f"{program} -P FORWARD ACCEPT")
    assert node.call(closed_chains) == []


def test_asking_brings_no_table_into_use(made: Namespaces) -> None:
    node = made.new("node")
    assert node.call(closed_chains) == []
    for name in ("ip_tables_names", "ip6_tables_names"):
        path = Path("/proc/thread-self/net", name)
        assert node.call(lambda path=path: path.read_text() if path.exists() else "") == ""
