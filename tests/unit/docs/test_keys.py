"""docs/concepts/consistency.md lists the keys that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from services.common.etcd import keys

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "consistency.md"


def test_every_key_is_listed() -> None:
    spelt = set(re.findall(r"(?m)^ +<root>(/\S+)", keys.__doc__ or ""))
    assert "/topology/layout" in spelt
    assert spelt == set(re.findall(r"(?m)^\| `/romana(/[^`]+)` \|", PAGE.read_text()))
