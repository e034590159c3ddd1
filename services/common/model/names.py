"""Names and their rules, the same for every service."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NewType

from services.common.errors import Violation

NetworkName = NewType("NetworkName", str)
TopologyName = NewType("TopologyName", str)
GroupPath = NewType("GroupPath", str)
"""Names from the topology down to a group, joined by `/`."""
NodeName = NewType("NodeName", str)
Tenant = NewType("Tenant", str)
Segment = NewType("Segment", str)
EndpointName = NewType("EndpointName", str)
"""A caller's name for what has addresses."""

_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GROUP = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._: -]{0,61}[A-Za-z0-9._-])?")
_SUBJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_LABEL_KEY = re.compile(r"([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_INTERFACE = re.compile(r"[^\s/:%]{1,15}")

ENDPOINT_NAME_BYTES = 253


def resource_name(text: str, path: str) -> Iterator[Violation]:
    """Checks the name of a network, topology or reservation."""
    if not _RESOURCE.fullmatch(text):
        yield Violation(
            path,
            f"{text[:80]!r} is not 1 to 63 of A-Z, a-z, 0-9, '-', '_' and '.', starting with a "
            "letter or digit",
        )


def group_name(text: str, path: str) -> Iterator[Violation]:
    """Checks the name of a prefix group. Romana 2's files have `failure-domain: us-east-1a`."""
    if not _GROUP.fullmatch(text):
        yield Violation(
            path,
            f"{text[:80]!r} is not 1 to 63 of A-Z, a-z, 0-9, '-', '_', '.', ':' and blanks inside, "
            "starting with a letter or digit",
        )


def subject_name(text: str, path: str, *, optional: bool = False) -> Iterator[Violation]:
    """Checks the name of a node, tenant or segment."""
    if not (text or optional):
        yield Violation(path, "is missing")
    elif text and not _SUBJECT.fullmatch(text):
        yield Violation(
            path,
            f"{text[:80]!r} is not 1 to 253 of A-Z, a-z, 0-9, '-', '_' and '.', "
            "with a letter or digit at both ends",
        )


def endpoint_name(text: str, path: str) -> Iterator[Violation]:
    """Checks a caller's name for what gets addresses."""
    if not text:
        yield Violation(path, "is missing")
    elif len(text) > ENDPOINT_NAME_BYTES or len(text.encode()) > ENDPOINT_NAME_BYTES:
        yield Violation(
            path, f"has {len(text.encode())} bytes, at most {ENDPOINT_NAME_BYTES} are allowed"
        )
    elif not text.isprintable():
        yield Violation(path, "has characters that cannot be printed")


def labels(items: Mapping[str, str], path: str) -> Iterator[Violation]:
    """Checks labels by Kubernetes' rules, so that its labels can be used as they are."""
    for key, value in items.items():
        if not _LABEL_KEY.fullmatch(key):
            yield Violation(
                f"{path}[{key[:80]!r}]",
                "is not a label key: [prefix/]name of at most 63 characters",
            )
        if not _LABEL_VALUE.fullmatch(value):
            yield Violation(
                f"{path}[{key[:80]!r}]",
                f"{value[:80]!r} is not a label value of at most 63 characters",
            )


def interface_name(text: str, path: str) -> Iterator[Violation]:
    """Checks a network interface's name by the kernel's rules (IFNAMSIZ is 16)."""
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        yield Violation(
            path,
            f"{text[:80]!r} is not an interface name: 1 to 15 bytes without '/', ':', '%', blanks",
        )
