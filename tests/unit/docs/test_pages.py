"""What pages say of their commands, and whether those did it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.compare import agree
from tests.docs.page import Block, File, Hidden, Page, Varies, read
from tests.docs.plugin import pages

PAGE = """# A page

<!-- run
make ready
-->
<!-- varies: \\d+ MS -->

    $ one \\
        --option
    some output

    of two paragraphs
    (exit code 3)
    $ two

<!-- not run: another machine -->

    $ three

1. A list:

   <!-- goes on -->

       $ four
       ready

<!-- file: five.yaml -->

```yaml
a: 1
```

    no command
"""


def page(tmp_path: Path, text: str) -> Page:
    file = tmp_path / "page.md"
    file.write_text(text)
    return read(file)


def test_a_page_is_read_in_its_order(tmp_path: Path) -> None:
    found = page(tmp_path, PAGE)
    kinds = [type(part) for part in found.parts]
    assert kinds == [Hidden, Varies, Block, Block, Block, File]
    assert found.parts[0] == Hidden(3, "make ready")
    assert found.parts[-1] == File("five.yaml", "a: 1\n")
    first, second, third = found.blocks
    one, two = first.steps
    assert one.command == "one \\\n--option"
    assert one.output == ["some output", "", "of two paragraphs"]
    assert (one.exit_code, two.exit_code) == (3, 0)
    assert (two.command, two.output) == ("two", [])
    assert [first.not_run, second.not_run, third.not_run] == ["", "another machine", ""]
    assert third.goes_on
    assert third.steps[0].output == ["ready"]


def test_a_whole_page_is_not_run(tmp_path: Path) -> None:
    found = page(tmp_path, "<!-- page not run: Docker -->\n\n    $ one\n\ntext\n\n    $ two\n")
    assert [block.not_run for block in found.blocks] == ["Docker", "Docker"]
    assert not found.runs


@pytest.mark.parametrize("comment", ["rum: a slip", "", "not run: why", "goes on", "file: a"])
def test_a_comment_that_means_nothing_is_refused(tmp_path: Path, comment: str) -> None:
    with pytest.raises(ValueError, match="line "):
        page(tmp_path, f"<!-- {comment} -->\n\ntext\n")


def test_what_differs_is_seen_and_what_varies_is_not() -> None:
    said = ["NAME   AGE", "web-1    5 MS  2026-11-23T19:40:21Z", "", "the end"]
    varies = [re.compile(r"\d+ MS")]
    assert agree(said, ["NAME AGE", "web-1 12345 MS  2027-01-01T00:00:00Z", "the end"], varies)
    assert not agree(said, ["NAME AGE", "web-2 5 MS  2027-01-01T00:00:00Z", "the end"], varies)
    assert not agree(said, ["NAME AGE", "web-1 5 MS  2027-01-01T00:00:00Z"], varies)
    assert not agree(said[:1], ["NAME AGE", "web-1"], varies)


def test_dots_stand_for_any_lines() -> None:
    said = ["first", "...", "last"]
    assert agree(said, ["first", "last"], [])
    assert agree(said, ["first", "a", "b", "last"], [])
    assert not agree(said, ["a", "b", "last"], [])


def test_the_pages_can_be_read() -> None:
    found = [read(path) for path in pages()]
    assert sum(one.runs for one in found) > len(found) / 2
