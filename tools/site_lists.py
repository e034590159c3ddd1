"""Lists as the site's Markdown reads them: what belongs to an item is indented by four a level.

Documents are written for GitHub, where it is indented as far as the item's text.
"""

from __future__ import annotations

import re
from typing import Final

ITEM: Final = re.compile(r"(?:[-*]|\d+\.) +")
CODE_INDENT: Final = 4


def indented_by_four(markdown: str) -> str:
    """The same document."""
    lines, levels, fence, loose = [], [0], "", False
    for line in markdown.splitlines():
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if text and not fence:
            while indent < levels[-1]:
                levels.pop()
        inside = max(0, indent - levels[-1])
        depth = len(levels) - 1
        item = ITEM.match(text) if not fence and inside < CODE_INDENT else None
        if item and loose and lines[-1]:
            lines.append("")  # or it would be a line of the paragraph before
        lines.append(" " * (CODE_INDENT * depth + inside) + text if text else "")
        if text.startswith(fence or "```"):
            fence = "" if fence else "```"
        loose = not text or (loose and not item)
        if item:
            levels.append(indent + item.end())
    return "\n".join(lines) + "\n"
