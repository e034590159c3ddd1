"""docs/limits.md says the numbers that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.common import sizes
from services.common.model import network, rules
from services.ipam import model as ipam
from services.policy.checks import devices, parts, policies
from services.topology.checks import networks, nodes, topology

PAGE = Path(__file__).parents[3] / "docs" / "limits.md"
ROW = re.compile(r"(?m)^\| ([^|]+) \| ([^|]+) \|")
DAY = 86400
LIMITS: dict[str, list[float]] = {
    "addresses of a block": [1 << network.MAX_BLOCK_BITS],
    "VLAN id": [1, networks.MAX_VLAN_ID],
    "MTU": [networks.MIN_MTU[4], networks.MIN_MTU[6], networks.MAX_MTU],
    "reuse delay": [networks.MAX_REUSE_DELAY / DAY],
    "DNS servers, and search domains, of a network": [networks.MAX_DNS],
    "prefix groups of a topology": [topology.MAX_GROUPS],
    "levels of groups": [topology.MAX_DEPTH],
    "slots of a level": [topology.MAX_SLOTS],
    "the stored layout of all topologies": [sizes.LAYOUT_BYTES],
    "labels of a node": [nodes.MAX_LABELS],
    "attachments of a node": [nodes.MAX_ATTACHMENTS],
    "name patterns of a node": [nodes.MAX_NAME_PATTERNS],
    "tenants of a node": [nodes.MAX_TENANTS],
    "addresses in one request": [ipam.ADDRESSES_MOST],
    "requests in one batch": [sizes.BATCH_ITEMS],
    "addresses in one batch": [sizes.BATCH_ADDRESSES],
    "rules of a policy in one direction": [policies.MAX_RULES],
    "targets of a policy": [policies.MAX_TARGETS],
    "peers, and ports, of a rule": [policies.MAX_PARTS],
    "labels of a policy": [policies.MAX_LABELS],
    "priority": [0, rules.MAX_PRIORITY],
    "the texts of a policy": [policies.MAX_SIZE],
    "conditions of a selector": [parts.MAX_REQUIREMENTS],
    "excepted prefixes of a peer": [parts.MAX_EXCEPTIONS],
    "devices of a group": [devices.MAX_DEVICES],
    "MAC addresses of a device": [devices.MAX_MACS],
    "seconds between probes": [devices.MIN_INTERVAL, devices.MAX_INTERVAL],
    "a message over gRPC": [sizes.MESSAGE_BYTES >> 20],
    "a transaction of etcd": [sizes.TRANSACTION_OPERATIONS, sizes.TRANSACTION_BYTES],
}


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize("what", LIMITS)
def test_the_page_says_the_limit(what: str) -> None:
    said = dict(ROW.findall(PAGE.read_text()))
    text = re.sub(r"\(IPv\d\)", "", said[what])
    assert numbers(text) == [float(limit) for limit in LIMITS[what]]
