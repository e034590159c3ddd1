from __future__ import annotations

import importlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer._click import Parameter
from typer.core import TyperArgument, TyperGroup

from services.ctl.failures.exit_codes import ExitCode
from services.ctl.main import NOUNS, root, run


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_help(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed(capsys, noun, "--help")
    assert code == 0
    assert out.startswith(f"Usage: romana {noun}")


@pytest.mark.parametrize(
    ("noun", "verbs"),
    [
        ("topology", "apply plan show export watch"),
        ("network", "list show"),
        ("node", "list show register update delete"),
        ("address", "allocate release show list"),
        ("block", "list watch"),
        ("reservation", "create delete list"),
        ("ipam", "check status"),
        ("policy", "apply plan convert list show delete export endpoints explain matrix test"),
        ("tenant", "list set delete"),
    ],
)
def test_every_verb_has_examples(noun: str, verbs: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in verbs.split():
        code, out, _ = printed(capsys, noun, verb, "--help")
        assert code == 0
        assert f"romana {noun} {verb}" in out.partition("Examples:")[2]


def test_the_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = printed(capsys, "--help")
    codes = {*map(int, ExitCode), 128 + signal.SIGINT}
    assert {*map(int, re.findall(r"^ +(\d+)  ", out, re.MULTILINE))} == codes
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    assert {*map(int, re.findall(r"^\| the command \| (\d+) ", page, re.MULTILINE))} == codes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nod"], "Did you mean 'node'?"),
        (["node", "show"], "Missing argument"),
        (["address", "allocate", "x", "--tenant", "t"], "Missing option '--node'"),
        (["node", "register", "n", "--label", "x"], "is not KEY=VALUE"),
        (["node", "update", "n"], "say what to change"),
        (["topology", "apply"], "either FILE (- for stdin) or --builtin"),
        (["topology", "apply", "f", "--builtin", "flat"], "either FILE"),
        (["topology", "plan", "/no/such/file"], "No such file"),
        (["address", "release", "x", "--segment", "s"], "only checked with --tenant"),
        (["status", "--tls-ca", "x"], "go together"),
        (["status", "--topology-address", "host:1"], "is not on this machine"),
        (["status", "--ipam-address", "nonsense"], "address of ipam: 'nonsense': an address is"),
        (["status", "-o", "xml"], "'xml' is not one of table, wide, name"),
        (["status", "--timeout", "soon"], "'--timeout'"),
        (["address", "list", "--limit", "1.5"], "'--limit'"),
        (["status", "--timeout", "0"], "0 is less than 0.01"),
        (["status", "--timeout", "inf"], "'inf' is not a number"),
        (["status", "--timeout", "nan"], "'nan' is not a number"),
        (["status", "--timeout", "1e300"], "1e300 is more than 1e+09"),
        (["audit", "--kind", "nodes"], "'nodes' is not one of topology, node, "),
        (["undo", "last"], "'last' is not a whole number"),
        (["policy", "explain", "a", "b", "--port", "70000"], "70000 is more than 65535"),
        (["tenant", "set", "shop"], "say what to set"),
        (["node", "show", "n\udcff"], "is not UTF-8 text"),
        (["address", "release", "a", "n\udcff"], "is not UTF-8 text"),
        (["node", "list", "--label", "rack=\udcff"], "is not UTF-8 text"),
        (["status", "--topology-address", "\udcff:1"], "is not UTF-8 text"),
        (["topology", "plan", "/no/such/\udcff"], "No such file"),
    ],
)
def test_wrong_use_ends_with_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = printed(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_a_folder_that_cannot_be_written_is_no_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, out, err = printed(capsys, "certificates", "init", "--dir", str(tmp_path / "file" / "x"))
    assert (code, out) == (4, "")
    assert err == f"Error: Not a directory: {tmp_path}/file/x\n"


def test_nothing_there_ends_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = printed(
        capsys, "node", "list", "--topology-address", "127.0.0.1:1", "--timeout", "0.3"
    )
    assert (code, out) == (5, "")
    assert "Error: topology at 127.0.0.1:1 cannot be reached" in err
    assert "romana up" in err


def test_status_of_nothing_is_still_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = printed(
        *(capsys, "status", "--topology-address", "127.0.0.1:1", "--ipam-address", "127.0.0.1:1"),
        *("--policy-address", "127.0.0.1:1"),
    )
    assert code == 5
    assert out.count("unreachable") == 3
    assert "cannot be reached" in err


def test_a_nouns_module_is_loaded_only_when_used() -> None:
    heavy = "{'grpc', 'rich', 'google.protobuf', 'yaml', 'pydantic'}"
    program = (
        "import sys; from services.ctl.main import root; root().get_help;"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "list"],
        ["node", "list", "--label", "rack=1", "--label", "x=y", "-o", "json"],
        ["node", "show", "n1"],
        ["address", "list"],
        ["address", "allocate", "web-1", "--node", "n1", "--tenant", "shop"],
        ["policy", "list", "-o", "name"],
        ["tenant", "list"],
        ["status"],
    ],
    ids=" ".join,
)
def test_a_short_command_imports_neither_pydantic_nor_a_service(arguments: list[str]) -> None:
    nowhere = [
        *("--topology-address", "127.0.0.1:1", "--ipam-address", "127.0.0.1:1"),
        *("--policy-address", "127.0.0.1:1", "--timeout", "0.1"),
    ]
    program = (
        "import sys\n"
        "from services.ctl.main import run\n"
        "try:\n"
        f"    run({[*arguments, *nowhere]!r})\n"
        "except SystemExit:\n"
        "    print(sorted({'pydantic', 'services.policy', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


NAMES_OF_THINGS = {
    "node": ("node", "to_node"),
    "network": ("network", "detach"),
    "tenant": ("tenant", "to_tenant"),
    "group": ("group_path", "pin"),
}


@pytest.mark.parametrize("thing", NAMES_OF_THINGS)
def test_names_that_services_know_are_completed(thing: str) -> None:
    local = {"lab", "certificates", "serve", "support-bundle"}  # they name nothing of services
    asked = {
        f"{noun} {verb} {parameter.name}": parameter
        for noun in sorted(NOUNS.keys() - local)
        for verb, parameter in parameters(noun)
        if parameter.name in NAMES_OF_THINGS[thing]
    }
    assert asked
    assert not [where for where, found in asked.items() if not found._custom_shell_complete]


def parameters(noun: str) -> Iterator[tuple[str, Parameter]]:
    """Options and arguments of a noun's verbs."""
    app: typer.Typer = importlib.import_module(f"services.ctl.verbs.{NOUNS[noun][0]}").app
    command = typer.main.get_command(app)
    verbs = command.commands if isinstance(command, TyperGroup) else {"": command}
    for name, verb in verbs.items():
        for parameter in verb.params:
            yield name, parameter


TAKE_A_FILE = sorted(
    f"{noun} {verb}".strip()
    for noun in NOUNS.keys() - {"lab"}  # it takes names as well
    for verb, parameter in parameters(noun)
    if isinstance(parameter, TyperArgument) and str(parameter.metavar).startswith(("FILE", "[FILE"))
)


@pytest.mark.parametrize("words", TAKE_A_FILE)
@pytest.mark.parametrize("wrong", ["none.yaml", "folder", "folder/below/it"])
def test_a_file_that_cannot_be_read_is_named_and_is_no_defect(
    words: str, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    file = str(tmp_path / wrong)
    code, out, err = printed(capsys, *words.split(), file)
    assert (code, out) == (2, "")
    assert f"cannot read {file}: " in err
    assert "Errno" not in err


@pytest.mark.parametrize("words", ["topology plan", "policy test", "device apply", "lab up"])
def test_a_file_that_is_no_text_is_named_once(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0")
    code, out, err = printed(capsys, *words.split(), str(file))
    assert (code, out) == (2, "")
    assert err.count(str(file)) == 1
    assert "not UTF-8 text" in err


@pytest.mark.parametrize("words", ["policy test -", "device apply -"])
def test_a_closed_standard_input_is_an_empty_one(words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m services.ctl.main {words} <&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "empty" in done.stderr
    assert "standard input" in done.stderr


def test_a_labs_file_that_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dc.yaml"
    file.write_text("networks: []\n")
    code, _, err = printed(capsys, "lab", "ping", str(file))
    assert code == 2
    assert err == f"Error: {file}: name: is missing [INVALID_INPUT]\n"


def test_all_nouns_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = printed(capsys, "--help")
    assert all(f"\n  {noun} " in out for noun in root().commands)
    assert "...\n" not in out.partition("Commands:")[2]  # none is cut


@pytest.mark.parametrize(
    ("service", "option", "fits"),
    [
        ("agent", "--etcd", "topology and ipam"),
        ("ipam", "--initial-topology", "topology"),
        ("topology", "--node", "agent"),
    ],
)
def test_serve_refuses_options_of_another_service(
    service: str, option: str, fits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = printed(capsys, "serve", service, option, "x")
    assert code == 2
    assert f"{option} is for {fits}" in error
