from __future__ import annotations

import json
from enum import StrEnum

import pytest
import yaml
from romana.ipam.v1 import block_pb2

from services.common.rpc.message_json import plain
from services.ctl.verbs import block
from services.ctl.views.output import Format, Output
from tests.unit.ctl.screens import Captured

BLOCKS = [
    block_pb2.Block(prefix="10.0.0.0/29", network="prod", node="n1", tenant="t", size=8, used=3),
    block_pb2.Block(prefix="10.0.0.8/29", network="prod", node="n2", tenant="t", stranded=True),
]


def listed(form: Format, capsys: pytest.CaptureFixture[str], count: int = 2) -> str:
    captured = Captured()
    Output(form, captured.screen).listing(
        BLOCKS[:count],
        block.COLUMNS,
        document=plain,
        name=lambda item: item.prefix,
        empty="nothing",
    )
    return captured.out + capsys.readouterr().out


def test_json_is_a_list_with_the_apis_field_names_all_present(
    capsys: pytest.CaptureFixture[str],
) -> None:
    [first, second] = json.loads(listed(Format.JSON, capsys))
    assert first["prefix"] == "10.0.0.0/29"
    assert first.keys() == second.keys() == {field.name for field in BLOCKS[0].DESCRIPTOR.fields}
    assert second["stranded"] is True


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(listed(Format.YAML, capsys)) == [plain(item) for item in BLOCKS]


class Word(StrEnum):
    OK = "ok"


def test_words_of_enums_are_text_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    for form, read in ((Format.JSON, json.loads), (Format.YAML, yaml.safe_load)):
        Output(form, Captured().screen).value({"verdict": Word.OK, "found": (1, None)})
        assert read(capsys.readouterr().out) == {"verdict": "ok", "found": [1, None]}


def test_names_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(Format.NAME, capsys) == "10.0.0.0/29\n10.0.0.8/29\n"


def test_an_empty_list_is_empty_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(listed(Format.JSON, capsys, count=0)) == []


def test_an_empty_list_is_said_on_stderr_for_people() -> None:
    captured = Captured()
    Output(Format.TABLE, captured.screen).listing(
        [], block.COLUMNS, document=plain, name=str, empty="nothing"
    )
    assert (captured.out, captured.err) == ("", "nothing\n")


def test_events_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(Format.JSON, Captured().screen)
    for item in BLOCKS:
        out.event(plain(item))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["node"] for line in lines] == ["n1", "n2"]
