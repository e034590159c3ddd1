"""The site: its top with several versions, and lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.site_lists import indented_by_four
from tools.site_versions import write


def built(site: Path, *versions: str) -> None:
    for version in versions:
        (site / version).mkdir(parents=True)
        (site / version / "index.html").write_text(version)


def test_the_selector_has_every_version_and_the_top_leads_to_the_newest(tmp_path: Path) -> None:
    built(tmp_path, "0.9.0", "0.10.1", "0.10.0", "assets")
    write(tmp_path)
    listed = json.loads((tmp_path / "versions.json").read_text())
    assert [each["version"] for each in listed] == ["0.10.1", "0.10.0", "0.9.0"]
    assert [each["aliases"] for each in listed] == [["latest"], [], []]
    assert "url=0.10.1/index.html" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(("before", "newest"), [("1.0.0", "1.0.0"), ("2.0.0rc1", "2.0.0rc2")])
def test_a_version_to_come_is_the_newest_only_where_no_release_is(
    tmp_path: Path, before: str, newest: str
) -> None:
    built(tmp_path, before, "2.0.0rc2")
    write(tmp_path)
    listed = json.loads((tmp_path / "versions.json").read_text())
    assert listed[0]["version"] == newest


LISTS = """\
1. one
   goes on

       $ command

   more
2. two
   - inner
     goes on
- bullet

  paragraph

```yaml
- {a: 1}
  b
```

    code
"""
BY_FOUR = """\
1. one
    goes on

        $ command

    more

2. two
    - inner
        goes on
- bullet

    paragraph

```yaml
- {a: 1}
  b
```

    code
"""


def test_what_belongs_to_an_item_is_indented_by_four() -> None:
    assert indented_by_four(LISTS) == BY_FOUR
