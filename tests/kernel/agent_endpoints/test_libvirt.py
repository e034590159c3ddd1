"""The hook of libvirt, given what libvirt's documentation says it is given, on a real agent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agent_node import ROOT, RealNode
from tests.support.netns import Namespace

HOOK = ROOT / "deploy/libvirt/qemu"
EXAMPLE = (ROOT / "deploy/libvirt/domain.xml").read_text()
COMMAND = Path(sys.executable).with_name("romana")
Dual = tuple[RealNode, Namespace]


async def call(
    node: RealNode, step: str, xml: str, name: str = "vm-1", **variables: str
) -> tuple[int, str]:
    """As libvirt calls it; exit status and what it says."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/usr/bin/python3", "-I", str(HOOK), name, *step.split()],
            input=xml,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={
                "PATH": os.environ["PATH"],
                "ROMANA": str(COMMAND),
                "ROMANA_AGENT": node.socket,
                **variables,
            },
        )

    done = await asyncio.to_thread(run)
    return done.returncode, done.stderr


async def endpoints(node: RealNode) -> list[str]:
    return [path.rpartition("-")[0] for path in node.records()]


async def test_a_domain_is_attached_when_it_starts_and_detached_when_it_has_ended(
    dual: Dual,
) -> None:
    node, _ = dual
    assert await call(node, "prepare begin -", EXAMPLE) == (0, "")
    node.home.run("ip tuntap add vm-1 mode tap")
    for step in ("start begin -", "started begin -", "reconnect begin -"):
        assert await call(node, step, EXAMPLE) == (0, "")
        assert await endpoints(node) == ["vm-1"]
    endpoint = (await node.check("vm-1")).endpoint
    assert (endpoint.tenant, endpoint.segment, endpoint.host_interface) == ("shop", "front", "vm-1")
    assert (dict(endpoint.labels), endpoint.dhcp) == ({"app": "db"}, True)
    assert {item.network for item in endpoint.addresses} >= {"six"}
    node.home.run("ip link del vm-1")
    assert await call(node, "stopped end -", EXAMPLE) == (0, "")
    assert await endpoints(node) == ["vm-1"]
    assert await call(node, "release end -", EXAMPLE) == (0, "")
    assert await endpoints(node) == []
    assert await node.addresses() == []


async def test_a_domain_that_has_migrated_keeps_its_addresses(dual: Dual) -> None:
    node, _ = dual
    node.home.run("ip tuntap add vm-1 mode tap")
    assert await call(node, "start begin -", EXAMPLE) == (0, "")
    addresses = await node.addresses()
    node.home.run("ip link del vm-1")
    assert await call(node, "stopped end migrated", EXAMPLE) == (0, "")
    assert await call(node, "release end migrated", EXAMPLE) == (0, "")
    assert await endpoints(node) == ["vm-1"]
    assert await node.addresses() == addresses
    assert await call(node, "release end shutdown", EXAMPLE) == (0, "")
    assert await node.addresses() == []


async def test_a_domain_that_may_not_come_is_refused(dual: Dual) -> None:
    """If the node's name is known, its move is prepared; the tap is not there yet."""
    node, _ = dual
    assert await call(node, "migrate begin -", EXAMPLE) == (0, "")
    status, said = await call(
        node, "migrate begin -", EXAMPLE, ROMANA_NODE="n9", ROMANA_IPAM="127.0.0.1:1"
    )
    assert status == 1
    assert said.startswith("romana: domain vm-1: ")
    assert await endpoints(node) == []


async def test_a_failure_keeps_the_domain_from_starting(dual: Dual) -> None:
    node, _ = dual
    status, said = await call(node, "start begin -", EXAMPLE)
    assert status == 1
    assert said.startswith("romana: domain vm-1: ")
    assert "there is no interface 'vm-1'" in said
    assert await endpoints(node) == []


@pytest.mark.parametrize("xml", [EXAMPLE, EXAMPLE.replace("tenant='shop' ", ""), "<domain"])
async def test_no_failure_ends_a_guest_that_runs_when_libvirt_starts_anew(
    dual: Dual, xml: str
) -> None:
    """libvirt kills the guest if the hook fails then, and the agent may be away at that moment."""
    node, _ = dual
    away = f"{node.socket}-of-nobody"
    status, said = await call(node, "reconnect begin -", xml, ROMANA_AGENT=away)
    assert status == 0
    assert said.startswith("romana: domain vm-1: ")
    status, _ = await call(node, "start begin -", xml, ROMANA_AGENT=away)
    assert status == 1


async def test_of_a_domain_that_has_ended_all_is_let_go_whatever_fails(dual: Dual) -> None:
    node, _ = dual
    own = "<r:interface name='{}' mac='52:54:00:00:00:0{}' tenant='t' dhcp='no'/>"
    tap = (
        "<interface type='ethernet'><mac address='52:54:00:00:00:0{}'/>"
        "<target dev='t{}'/></interface>"
    )
    said = [("--bad", "b"), ("two/c", "c")]
    xml = (
        "<domain type='qemu'><name>two</name><metadata><r:domain xmlns:r='urn:romana:libvirt:1'>"
        + "".join(own.format(name, end) for name, end in said)
        + "</r:domain></metadata><devices>"
        + "".join(tap.format(end, end) for _, end in said)
        + "</devices></domain>"
    )
    node.home.run("ip tuntap add tc mode tap")
    assert await call(node, "start begin -", xml.replace(own.format(*said[0]), ""), "two") == (
        0,
        "",
    )
    assert await endpoints(node) == ["two-c"]
    status, error = await call(node, "release end -", xml, "two")
    assert status == 1
    assert "--bad" in error
    assert await endpoints(node) == []


async def test_variables_are_read_of_the_file_beside_it(dual: Dual) -> None:
    node, _ = dual
    hook = node.folder / "qemu"
    hook.write_text(HOOK.read_text())
    (node.folder / "romana.env").write_text(
        f"# of this node\nROMANA={COMMAND}\n\nROMANA_AGENT={node.socket}\n"
    )
    node.home.run("ip tuntap add vm-1 mode tap")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/usr/bin/python3", "-I", str(hook), "vm-1", "start", "begin", "-"],
            input=EXAMPLE,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": "/usr/bin:/bin"},
        )

    done = await asyncio.to_thread(run)
    assert (done.returncode, done.stderr) == (0, "")
    assert await endpoints(node) == ["vm-1"]


async def test_two_interfaces_are_told_apart_by_their_addresses(dual: Dual) -> None:
    node, _ = dual
    xml = """
    <domain type='qemu'><name>two</name>
      <metadata><r:domain xmlns:r='urn:romana:libvirt:1'>
        <r:interface name='two/a' mac='52:54:00:00:00:0A' tenant='t' dhcp='no'>
          <r:address network='net'/></r:interface>
        <r:interface name='two/b' mac='52:54:00:00:00:0b' tenant='t'>
          <r:address network='six' family='6'/></r:interface>
      </r:domain></metadata>
      <devices>
        <interface type='bridge'><mac address='52:54:00:00:00:0c'/><target dev='c'/></interface>
        <interface type='ethernet'><mac address='52:54:00:00:00:0b'/><target dev='tb'/></interface>
        <interface type='ethernet'><mac address='52:54:00:00:00:0a'/><target dev='ta'/></interface>
      </devices>
    </domain>"""
    for tap in ("ta", "tb"):
        node.home.run(f"ip tuntap add {tap} mode tap")
    assert await call(node, "start begin -", xml, "two") == (0, "")
    first, second = await node.check("two/a"), await node.check("two/b")
    assert (first.endpoint.host_interface, first.endpoint.dhcp) == ("ta", False)
    assert (second.endpoint.host_interface, second.endpoint.dhcp) == ("tb", True)
    assert await call(node, "release end -", xml, "two") == (0, "")
    assert await node.addresses() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("tenant='shop' ", ""), "it has no tenant"),
        (("type='ethernet'", "type='bridge'"), "of type 'bridge'"),
        (("tenant='shop'", "tenant='shop' dhcp='maybe'"), "dhcp is 'maybe'"),
        (("mac='52:54:00:00:00:01'", "mac='52:54:00:00:00:99'"), "no interface with the MAC"),
        (("<target dev='vm-1'/>", ""), "names no tap"),
        (("</domain>", ""), "no element found"),
    ],
)
async def test_what_is_wrong_is_said(dual: Dual, change: tuple[str, str], said: str) -> None:
    node, _ = dual
    status, error = await call(node, "start begin -", EXAMPLE.replace(*change))
    assert status == 1
    assert said in error


async def test_other_domains_are_left_alone(dual: Dual) -> None:
    node, _ = dual
    plain = EXAMPLE.replace("urn:romana:libvirt:1", "urn:somebody")
    for step in ("start begin -", "release end -"):
        assert await call(node, step, plain) == (0, "")
    assert await endpoints(node) == []
