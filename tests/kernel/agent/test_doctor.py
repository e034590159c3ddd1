"""`romana doctor` on a real kernel, in namespaces."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from services.agent.doctor.facts import NEXTHOP, PROXY, RULE, TABLES, TRACKING, VETH, Listener
from services.agent.doctor.looking import Places, look
from tests.support.netns import Namespaces

COMMAND = f"{sys.executable} -m services.ctl.main doctor"
FILTER = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"


def test_what_the_agent_needs_is_tried_and_leaves_nothing(made: Namespaces, tmp_path: Path) -> None:
    node = made.new("node")
    before = node.run("ip -o link") + node.run("ip rule") + node.run("nft list ruleset")
    facts = node.call(lambda: look(Places(tmp_path)))
    assert {each.name for each in facts.features if not each.problem} >= {
        *(VETH, NEXTHOP, RULE, PROXY, TABLES, TRACKING)
    }
    assert node.run("ip -o link") + node.run("ip rule") + node.run("nft list ruleset") == before


def test_what_others_have_on_the_node_is_seen(made: Namespaces, tmp_path: Path) -> None:
    node = made.new("node")
    node.run("ip link add cni0 type bridge")
    node.run("nft -f -", stdin=FILTER)
    folder = tmp_path / "etc/cni/net.d"
    folder.mkdir(parents=True)
    for name in ("10-romana.conflist", "05-other.conf", "README", ".hidden.conf"):
        (folder / name).write_text("{}")
    (tmp_path / "run/systemd/netif").mkdir(parents=True)
    (tmp_path / "run/systemd/netif/state").touch()
    (tmp_path / "etc/systemd").mkdir()
    (tmp_path / "etc/systemd/networkd.conf").write_text("[Network]\nManageForeignRoutes=no\n")
    with node.call(lambda: socket.create_server(("0.0.0.0", 9641))):
        facts = node.call(lambda: look(Places(tmp_path)))
    assert "cni0" in facts.interfaces
    assert facts.tables == ("ip filter",)
    assert facts.closed_chains == ("FORWARD of table ip filter",)
    assert facts.configurations == ("05-other.conf", "10-romana.conflist")
    assert facts.networkd_removes == ("ManageForeignRoutingPolicyRules",)
    (listener,) = facts.listeners
    assert listener == Listener(9641, Path("/proc/self/comm").read_text().strip())


def test_the_command_says_no_by_its_exit_code(made: Namespaces, tmp_path: Path) -> None:
    node = made.new("node")
    found = json.loads(node.run(f"{COMMAND} --root {tmp_path} -o json"))
    assert found["fits"]
    assert {each["verdict"] for each in found["findings"]} <= {"ok", "warning"}
    folder = tmp_path / "etc/cni/net.d"
    folder.mkdir(parents=True)
    (folder / "00-first.conflist").write_text("{}")
    said = node.run(f"{COMMAND} --root {tmp_path}", check=False)
    assert "runtimes would take 00-first.conflist, not 10-romana.conflist" in said
    assert not node.succeeds(f"{COMMAND} --root {tmp_path}")


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        ("-sys_admin", "run without CAP_SYS_ADMIN: "),
        ("-all", "run without CAP_NET_ADMIN and CAP_SYS_ADMIN: "),
    ],
)
def test_without_rights_it_says_so_and_looks_at_the_rest(
    taken: str, found: str, made: Namespaces, tmp_path: Path
) -> None:
    closed = tmp_path / "run/containerd"
    closed.mkdir(parents=True, mode=0o700)
    os.chown(closed, 65534, 65534)
    dropped = f"setpriv --inh-caps={taken} --bounding-set={taken}"
    said = made.new("node").run(f"{dropped} {COMMAND} --root {tmp_path} -o json")
    findings = {each["check"]: each["found"] for each in json.loads(said)["findings"]}
    assert findings["rights"].startswith(found)
    assert {"kernel", "runtime", "cni", "ports", "state"} <= findings.keys()
    assert (findings["runtime"] == "containerd") == (taken == "-all")
