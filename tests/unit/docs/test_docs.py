"""What the documents say exists: commands, links, settings, metrics, reasons."""

from __future__ import annotations

import ast
import errno
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from romana.ipam.v1 import utilization_pb2

from services.agent.kernel import numbers
from services.agent.settings import AgentSettings
from services.common import errors
from services.common.process.settings import ServiceSettings
from services.ctl.main import NOUNS
from services.ipam.settings import IpamSettings
from services.kubernetes.settings import KubernetesSettings
from services.policy.settings import PolicySettings
from services.topology.settings import TopologySettings

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "DESIGN.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
GUIDES = [file for file in DOCUMENTS if file.name not in {"CHANGELOG.md", "DESIGN.md"}]
SERVICES = (TopologySettings, IpamSettings, PolicySettings)
FILES = [file for name in ("services", "lab") for file in sorted((ROOT / name).rglob("*.py"))]
SOURCES = "\n".join(file.read_text() for file in FILES)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
SETTINGS_COLUMNS = 4
STOPPED = re.compile(r"[|>]|&&")
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""typer brings its own click, under a private name."""
PLACEHOLDERS = {"NAME", "FILE", "NOUN", "VERB", "..."}


def commands(file: Path) -> Iterator[str]:
    """Command lines after "$ romana" and in inline code, without what follows a pipe."""
    text = file.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip().startswith("$ romana "):
            yield STOPPED.split(line.strip().removeprefix("$ romana "))[0]
    for paragraph in re.sub(r"(?m)^( {4}|```).*$", "", text).split("\n\n"):
        for code in CODE.findall(" ".join(paragraph.split())):
            if code.startswith("romana ") and "..." not in code:
                yield code.removeprefix("romana ")


def parse(line: str) -> None:
    """Has typer read the line without running it; raises BadParameter or another USAGE_ERROR."""
    words = [word for word in shlex.split(line) if word != "..."]
    if not words or words[0].startswith("-") or words[0] in PLACEHOLDERS:
        return
    noun, *rest = words
    if noun not in NOUNS:
        raise typer.BadParameter(f"no noun {noun!r}")
    command = typer.main.get_command(
        importlib.import_module(f"services.ctl.verbs.{NOUNS[noun][0]}").app
    )
    verbs = getattr(command, "commands", None)
    if verbs is not None:
        if not rest or rest[0] in PLACEHOLDERS:
            return
        if rest[0].startswith("-"):
            return
        if rest[0] not in verbs:
            raise typer.BadParameter(f"no verb {rest[0]!r} of {noun}")
        command, rest = verbs[rest[0]], rest[1:]
    parser = command.make_parser(command.context_class(command, info_name=noun))
    parser.parse_args(list(rest))


@pytest.mark.parametrize("file", GUIDES, ids=lambda file: file.name)
def test_every_quoted_command_parses(file: Path) -> None:
    for line in commands(file):
        try:
            parse(line)
        except USAGE_ERROR as error:
            pytest.fail(f"romana {line}: {error}")


def test_commands_are_found_and_wrong_ones_refused() -> None:
    found = list(commands(ROOT / "README.md"))
    assert "topology apply examples/datacenter.yaml" in found
    assert any(line.startswith("node register qa-1") and "--attach" in line for line in found)
    for wrong in ("no-such noun", "topology no-such-verb", "status --no-such-option"):
        with pytest.raises(USAGE_ERROR):
            parse(wrong)


def anchors(file: Path) -> set[str]:
    """Those that GitHub makes of headings."""
    titles = re.findall(r"(?m)^#+ (.+)$", file.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in LINK.findall(file.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), f"{target} leads nowhere"
        assert there.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


TABLE = re.compile(r"(?m)^(?:\|.*\n)+")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_table_has_a_head(file: Path) -> None:
    """An empty line in a table makes lines of text of the rows after it."""
    for table in TABLE.findall(file.read_text() + "\n"):
        head = table.splitlines()[1:2]
        assert head, table
        assert set(head[0]) <= set("|-: "), f"{table.splitlines()[0]}: no line of dashes below it"


def test_the_index_has_every_document() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    assert {file for file in GUIDES if file != index} <= linked


def settings_of(kind: type[BaseModel], values: BaseModel, path: str = "") -> dict[str, object]:
    """Default values by path."""
    found: dict[str, object] = {}
    for name in kind.model_fields:
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            found |= settings_of(type(value), value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def default_of(value: object) -> str:
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def rows(prefix: str) -> dict[str, list[str]]:
    """Variable and default by setting, of the table for variables with this prefix."""
    found: dict[str, list[str]] = {}
    here = False
    for line in (ROOT / "docs" / "settings.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "setting":
            here = f"`{prefix}`" in cells[1]
        elif here and len(cells) == SETTINGS_COLUMNS and cells[0] != "---":
            found[cells[0].strip("`")] = cells[1:3]
        elif not line:
            here = False
    return found


def test_the_page_of_settings_lists_every_setting_with_its_default() -> None:
    listed = rows("ROMANA_IPAM__")
    defaults = {kind: settings_of(kind, kind()) for kind in SERVICES}
    paths = {path for found in defaults.values() for path in found}
    assert set(listed) == paths
    for path in paths:
        variable, default = listed[path]
        assert variable == f"`{path.replace('.', '__').upper()}`"
        values = {
            kind.__name__.removesuffix("Settings").lower(): default_of(found[path])
            for kind, found in defaults.items()
            if path in found
        }
        expected = ", ".join(f"{service} {value}" for service, value in values.items())
        if len(set(values.values())) == 1:
            expected = next(iter(values.values()))
        assert default == expected


DRAWN = {"node": "the host's name", "identity": "the host's name and a random number"}
"""Defaults that no two machines have alike."""


@pytest.mark.parametrize("kind", [AgentSettings, KubernetesSettings])
def test_the_page_of_settings_lists_every_setting_of_what_has_no_store_with_its_default(
    kind: type[ServiceSettings],
) -> None:
    listed = rows(str(kind.model_config.get("env_prefix")))
    defaults = settings_of(kind, kind())
    assert set(listed) == set(defaults)
    for path, value in defaults.items():
        variable, default = listed[path]
        assert variable == f"`{path.replace('.', '__').upper()}`"
        assert default == DRAWN.get(path, default_of(value))


def variables(kind: type[ServiceSettings]) -> set[str]:
    prefix = str(kind.model_config.get("env_prefix"))
    return {prefix} | {
        prefix + path.replace(".", "__").upper() for path in settings_of(kind, kind())
    }


@pytest.mark.parametrize("file", GUIDES, ids=lambda file: file.name)
def test_every_environment_variable_exists(file: Path) -> None:
    known = {
        name for kind in (*SERVICES, AgentSettings, KubernetesSettings) for name in variables(kind)
    }
    known |= set(re.findall(r'"(ROMANA_[A-Z_]+)"', SOURCES))
    known |= set(re.findall(r"\$\{(ROMANA_[A-Z_]+)", (ROOT / "compose/compose.yaml").read_text()))
    for test in sorted((ROOT / "tests").rglob("*.py")):  # CONTRIBUTING.md has those of tests, too
        known |= set(re.findall(r'"(ROMANA_[A-Z_]+)"', test.read_text()))
    named = set(re.findall(r"\bROMANA_[A-Z_]+", file.read_text()))
    # the example of a wrong setting
    assert named - known <= {"ROMANA_IPAM__LISTEN__ADRESS"}


REASON = re.compile(r'"([A-Z]+(?:_[A-Z]+)*)"')


def test_every_reason_in_the_tables_exists() -> None:
    known = set(REASON.findall(SOURCES)) | set(utilization_pb2.Refusal.keys())
    known |= set(errno.errorcode.values())  # what a kernel says
    for file in GUIDES:
        for line in file.read_text().splitlines():
            if line.startswith("|") and "__" not in line and line.count("|") < SETTINGS_COLUMNS + 1:
                named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", line))
                assert named <= known, (file.name, line)


def reasons(source: str) -> Iterator[str]:
    """Constant reasons of errors and failures that are made in a module."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = [word.value for word in node.keywords if word.arg == "reason"]
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        kind = getattr(errors, name, None)
        made = isinstance(kind, type) and issubclass(kind, errors.RomanaError)
        if made or name in {"Failure", "Trouble"}:
            given += node.args[1:2]  # the second, as in NotFound(message, reason)
        for value in given:
            if isinstance(value, ast.Constant) and re.fullmatch("[A-Z_]+", str(value.value)):
                yield str(value.value)


def test_reasons_are_found_however_they_are_given() -> None:
    source = (
        'NotFound("x", "A_B"); Unavailable("x", reason="C"); Trouble(r, "D", m); print("x", "E")'
    )
    assert list(reasons(source)) == ["A_B", "C", "D"]


def test_the_guides_name_every_reason_that_a_caller_can_see() -> None:
    """In the services, the agent, the command and the lab."""
    raised = {reason for file in FILES for reason in reasons(file.read_text())}
    assert {"NAME_TAKEN", "ATTACH_TIMEOUT", "LAB_EXISTS"} <= raised
    text = "\n".join(file.read_text() for file in GUIDES)
    missing = {reason for reason in raised if f"`{reason}`" not in text}
    assert not missing, f"not explained in docs: {sorted(missing)}"


def test_every_error_of_cni_is_explained() -> None:
    text = (ROOT / "docs" / "cni.md").read_text()
    listed = {int(number) for number in re.findall(r"(?m)^\| (\d+) \|", text)}
    source = (ROOT / "services" / "agent" / "cni" / "protocol.py").read_text()
    assert listed - {5} == {
        int(code) for code in re.findall(r"(?m)^[A-Z_]+: Final = (\d+)$", source)
    }


def test_the_agents_numbers_are_as_documented() -> None:
    text = (ROOT / "docs" / "agent.md").read_text()
    for first, count in (
        (numbers.FIRST_TABLE, numbers.TABLES),
        (numbers.FIRST_PRIORITY, numbers.LAST_PRIORITY - numbers.FIRST_PRIORITY + 1),
        (numbers.FIRST_NEXTHOP, numbers.NEXTHOPS),
    ):
        assert f"| {first} to {first + count - 1} |" in text
    assert f"protocol number {numbers.PROTOCOL} |" in text


def test_every_refusal_is_explained() -> None:
    text = (ROOT / "docs" / "concepts" / "addresses.md").read_text()
    names = set(utilization_pb2.Refusal.keys()) - {"REFUSAL_UNSPECIFIED"}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_nothing_refers_to_files_outside_of_the_project() -> None:
    for file in GUIDES:
        assert "../shared" not in file.read_text()
        assert "/work/" not in file.read_text()
