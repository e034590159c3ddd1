"""Reads groups of devices in our own form: the API's message, as YAML or JSON.

name: firewalls
networks: [production]
devices:
  - {name: fw-1, addresses: [{network: production, address: 10.40.0.251}]}
  - {name: fw-2, addresses: [{network: production, address: 10.40.0.252}], weight: 2}
probe: {kind: icmp, interval: 200ms, threshold: 3}
when_down: closed
"""

from __future__ import annotations

from services.common.document import models
from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.errors import InvalidInput
from services.policy.checks.devices import check_device_group
from services.policy.forms.documents import read_texts
from services.policy.forms.reading import Read
from services.policy.model import Device, DeviceGroup


def read_device_document(content: str, source: str) -> tuple[DeviceGroup, str]:
    """A group that a text has, sound in itself, and the etag that it names; raises InvalidInput."""
    trees = read_texts(content.encode(), source)
    findings = Findings(source=source)
    if len(trees) != 1:
        raise InvalidInput.at("", f"has {len(trees)} documents: a group of devices is one")
    found = read_device_group(trees[0], "", findings).value
    problems = findings.problems or list(check_device_group(found))
    if problems:
        raise InvalidInput.of(findings.located(problems))
    return found, Fields(trees[0], "", Findings()).text("etag")


def read_device_group(tree: Tree, at: str, findings: Findings) -> Read[DeviceGroup]:
    """Reads a group; if anything is added to `findings`, it must not be used."""
    fields = Fields(tree, at, findings)
    models.ignore_output(fields, "etag")
    group = models.read(
        DeviceGroup,
        fields,
        devices=tuple(
            models.read(Device, part, spelled={"is_draining": "drain"})
            for part in fields.parts("devices")
        ),
    )
    return Read(group, at)
