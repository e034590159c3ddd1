"""python -m tools.site_versions SITE: what a site of several versions has at its top.

Each folder in SITE that is named after a version is the site of that version. `versions.json` lists
them for the theme's selector, and `index.html` leads to the newest. No folder is removed: who
publishes the documents keeps SITE, and builds one version after another into it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

FIRST_PAGE: Final = """\
<!doctype html>
<meta charset="utf-8">
<title>Romana</title>
<meta http-equiv="refresh" content="0; url={version}/index.html">
<a href="{version}/index.html">Romana {version}</a>
"""


def write(site: Path) -> None:
    """Writes both files of the versions that are there."""
    found = versions(site)
    entries = [
        {"version": version, "title": version, "aliases": ["latest"] if version == found[0] else []}
        for version in found
    ]
    (site / "versions.json").write_text(json.dumps(entries, indent=1) + "\n")
    (site / "index.html").write_text(FIRST_PAGE.format(version=found[0]))


def versions(site: Path) -> list[str]:
    """The newest first; a release is newer than what was published before it."""
    found = {}
    for page in site.glob("*/index.html"):
        try:
            found[page.parent.name] = Version(page.parent.name)
        except InvalidVersion:
            continue
    return sorted(
        found, key=lambda name: (not found[name].is_prerelease, found[name]), reverse=True
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
