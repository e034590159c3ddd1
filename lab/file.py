"""Reads a lab's file: text in, a lab that was checked out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import yaml
from pydantic import ValidationError

from lab.checks import checked
from lab.spec import Lab, Mode
from services.common.document.fields import Findings
from services.common.document.tree import Items, Table, Tree, read_tree, to_json
from services.common.errors import InvalidInput, Violation

_WORDS: Final = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "model_type": "must be a mapping of fields",
    "dict_type": "must be a mapping of fields",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be a text",
}
"""What pydantic finds, as all readers of documents say it; others in its own words."""


def parse(text: str) -> Lab:
    """Reads a lab's file, YAML.

    Raises:
        InvalidInput: With the field path and the line of everything that is wrong.
    """
    tree = read_tree(text)
    findings = Findings(lines=dict(_lines(tree, "")))
    try:
        lab = Lab.model_validate(to_json(tree))
    except ValidationError as error:
        violations = [
            Violation(
                path, f"{'' if path else 'the document '}{_WORDS.get(each['type'], each['msg'])}"
            )
            for each in error.errors()
            for path in (_path(each["loc"]),)
        ]
        raise InvalidInput.of(findings.located(violations)) from error
    if violations := [*checked(lab)]:
        raise InvalidInput.of(findings.located(violations))
    return lab


def topology_document(text: str) -> str:
    """The topology file that is in a lab's file, as YAML.

    It says the mode of every network, since the default is another one there.
    """
    document = cast("dict[str, Any]", to_json(read_tree(text)))
    networks = [{"mode": Mode.ONLINK.value, **network} for network in document["networks"]]
    return yaml.safe_dump(
        {"networks": networks, "topologies": document["topologies"]}, sort_keys=False
    )


def _path(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def _lines(tree: Tree, at: str) -> Iterator[tuple[str, int]]:
    yield at, tree.line
    match tree:
        case Table():
            for key, item in tree.items.items():
                yield from _lines(item, f"{at}.{key}" if at else key)
        case Items():
            for number, item in enumerate(tree.items):
                yield from _lines(item, f"{at}[{number}]")
