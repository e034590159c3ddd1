"""Reads a lab's file: text in, a lab that was checked out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from lab.checks import checked
from lab.spec import Lab, Mode
from services.common.errors import InvalidInput, Violation


def parse(text: str) -> Lab:
    """Reads a lab's file, YAML.

    Raises:
        InvalidInput: With the field path of everything that is wrong.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput.at("", f"is not YAML: {error}") from error
    try:
        lab = Lab.model_validate(document)
    except ValidationError as error:
        raise InvalidInput.of(
            [Violation(_path(each["loc"]), each["msg"]) for each in error.errors()]
        ) from error
    violations = [*checked(lab)]
    if violations:
        raise InvalidInput.of(violations)
    return lab


def topology_document(text: str) -> str:
    """The topology file that is in a lab's file, as YAML.

    It says the mode of every network, since the default is another one there.
    """
    document = yaml.safe_load(text)
    networks = [{"mode": Mode.ONLINK.value, **network} for network in document["networks"]]
    return yaml.safe_dump(
        {"networks": networks, "topologies": document["topologies"]}, sort_keys=False
    )


def _path(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")
