"""The metrics that the services' sources make, read off their syntax: names of series, and labels.

Read, not run: a collector's families come to be when a whole service is asked, and the tests of
compose shall not have to start one. `tests/compose` looks for the same names in a real Prometheus.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from services.common.process.metrics import new_registry

SERVICES: Final = Path(__file__).parents[2] / "services"
STREAMING: Final = ("ipam", "policy")
"""What `service` stands for in names of `services.common.sync.metrics`."""
SUFFIXES: Final = {
    "Histogram": ("_bucket", "_count", "_sum"),
    "Counter": ("_total",),
    "Gauge": ("",),
}
NAME: Final = re.compile(r"romana_[a-z_]+")


def declared() -> dict[str, set[str]]:
    """Labels by name of series."""
    found = {
        sample.name: set(sample.labels)
        for family in new_registry("x").collect()
        for sample in family.samples
    }
    for file in sorted(SERVICES.rglob("*.py")):
        text = file.read_text()
        if "prometheus_client" not in text:
            continue
        tree = ast.parse(text)
        for name, kind, labels in families(tree):
            base = name.removesuffix("_total")
            for suffix in SUFFIXES[kind]:
                found[base + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
        for name in _tabled(tree):  # gauges that are made in a loop over a table of whole names
            if NAME.fullmatch(name):
                found.setdefault(name, set())
    return found


def families(tree: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """Name, kind and labels of the metrics that a module makes."""
    tabled = ast.Tuple([ast.Constant(name) for name in _tabled(tree)])
    variables = {"name": tabled, **_assigned(tree)}
    makers = {
        function.name: call
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and len(function.args.args) == 2
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and _kind(call) and isinstance(call.args[0], ast.JoinedStr)
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
            continue
        if call.func.id in makers:  # such as gauge("networks", "Networks.") of topology
            maker = makers[call.func.id]
            own = dict(variables) | {"name": call.args[0]}
            yield from ((name, _kind(maker), set()) for name in _texts(maker.args[0], own))
        elif _kind(call):
            for name in _texts(call.args[0], variables):
                if NAME.fullmatch(name):
                    yield name, _kind(call), _labels(call, variables)


def _tabled(tree: ast.AST) -> list[str]:
    """Names in tables of (name, text, value)."""
    return [
        str(first.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple) and len(node.elts) == 3
        for first, text, _ in [node.elts]
        if isinstance(first, ast.Constant) and isinstance(text, ast.Constant)
        if str(text.value).endswith(".")
    ]


def _kind(call: ast.Call) -> str:
    """Histogram, Counter or Gauge; empty: it makes no metric."""
    if not isinstance(call.func, ast.Name):
        return ""
    kind = call.func.id.removesuffix("MetricFamily")
    return kind if kind in SUFFIXES else ""


def _labels(call: ast.Call, variables: Mapping[str, ast.expr]) -> set[str]:
    given = [word.value for word in call.keywords if word.arg in {"labels", "labelnames"}]
    value: ast.expr | None = (given or call.args[2:3] or [None])[0]
    if isinstance(value, ast.Name):
        value = variables.get(value.id)
    return set(ast.literal_eval(value)) if value is not None else set()


def _assigned(tree: ast.AST) -> dict[str, ast.expr]:
    """What is assigned to variables and attributes, by their names."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = node.value
                elif isinstance(target, ast.Attribute):
                    found[target.attr] = node.value
    return found


def _texts(node: ast.expr, variables: Mapping[str, ast.expr]) -> Iterator[str]:
    """The texts that an expression can be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id="service"):
            yield from STREAMING
        case ast.Tuple(elts=items):
            for item in items:
                yield from _texts(item, variables)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in variables:
            yield from _texts(variables[name], {})
        case ast.FormattedValue(value=value):
            yield from _texts(value, variables)
        case ast.JoinedStr(values=parts):
            for texts in itertools.product(*(list(_texts(part, variables)) for part in parts)):
                yield "".join(texts)
