"""Draws Grafana's dashboards from a real Prometheus where Grafana is not to be had. For looking at.

    python -m tests.compose.draw http://127.0.0.1:9090 FOLDER [MINUTES]

writes a page per dashboard. It asks what Grafana would ask, range and instant, and lays panels out
on the same grid; it is no copy of Grafana: only what these dashboards use is drawn. A panel without
data says so.
"""

from __future__ import annotations

import html
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

DASHBOARDS = Path(__file__).parents[2] / "compose" / "grafana" / "dashboards"
SCRAPED = 5
"""Seconds, as in compose/prometheus: Grafana's rate interval is at least four of them."""
COLUMN, ROW = 62, 36
COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#37872d", "#8ab8ff")
NAMED = {"red": "#f2495c", "green": "#73bf69", "orange": "#ff9830"}
STYLE = f"""body {{ background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 12px }}
.board {{ position: relative }}
.panel {{ position: absolute; background: #181b1f; border: 1px solid #2c3235; overflow: hidden }}
.panel h3 {{ font-size: 12px; margin: 6px 8px 2px }} .empty {{ margin: 20px; color: #e02f44 }}
.stat {{ display: inline-block; margin: 6px 10px; text-align: center }}
.stat b {{ display: block; font-size: 20px; padding: 0 6px }} .nothing {{ margin: 20px }}
table {{ border-spacing: 10px 2px }} td, th {{ text-align: left }}
.legend {{ font-size: 10px; margin: 0 8px; max-height: {ROW}px; overflow: hidden }}"""

Series = tuple[str, list[tuple[float, float]]]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, address: str, minutes: float) -> None:
        self._address = address
        self._end = time.time()
        self._start = self._end - minutes * 60

    def ask(self, target: Mapping[str, Any]) -> list[Series]:
        """Series with their legends."""
        step = max((self._end - self._start) / 120, 1)
        query = target["expr"].replace("$__rate_interval", f"{max(4 * SCRAPED, step):.0f}s")
        if target.get("instant"):
            given = {"query": query, "time": self._end}
            found = self._get("query", given)
        else:
            given = {"query": query, "start": self._start, "end": self._end, "step": step}
            found = self._get("query_range", given)
        made = []
        for item in found:
            values = item.get("values") or [item["value"]]
            points = [(float(at), float(value)) for at, value in values if value != "NaN"]
            made.append((legend(target.get("legendFormat", ""), item["metric"]), points))
        return made

    def _get(self, path: str, given: Mapping[str, object]) -> list[dict[str, Any]]:
        with urlopen(f"{self._address}/api/v1/{path}?{urlencode(given)}") as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def legend(form: str, labels: Mapping[str, str]) -> str:
    if not form:
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), form).strip()


def shown(value: float, unit: str) -> str:
    """A value in its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return f"{value / 1e6:.4g} MB"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.4g} s"
    return f"{value:.4g}" + {"reqps": " req/s", "ops": " ops/s"}.get(unit, "")


def color(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    found = "green"
    for step in steps:
        if step["value"] is None or value >= step["value"]:
            found = step["color"]
    return NAMED[found]


def drawn(panel: Mapping[str, Any], series: list[Series]) -> str:
    """The inside of a panel."""
    defaults = panel["fieldConfig"]["defaults"]
    unit, steps = defaults["unit"], defaults.get("thresholds", {}).get("steps", [])
    if not any(points for _, points in series):
        nothing = defaults.get("noValue")
        if nothing is not None:
            return f'<p class="nothing">{html.escape(nothing)}</p>'
        return '<p class="empty">No data</p>'
    match panel["type"]:
        case "stat":
            return "".join(stat(panel, name, points[-1][1]) for name, points in series)
        case "bargauge":
            return "".join(
                f'<div style="margin:4px 8px">{html.escape(name)} {shown(points[-1][1], unit)}'
                f'<div style="background:#22252b"><div style="height:8px;background:'
                f'{color(points[-1][1], steps)};width:{max(points[-1][1] * 100, 0.5):.1f}%">'
                "</div></div></div>"
                for name, points in series
            )
        case "table":
            rows = "".join(
                f"<tr><td>{html.escape(name)}</td><td>{shown(points[-1][1], unit)}</td></tr>"
                for name, points in series
            )
            return f"<table>{rows}</table>"
        case "heatmap":
            return heat(panel, series, unit)
        case _:
            return lines(panel, series, unit)


def stat(panel: Mapping[str, Any], name: str, value: float) -> str:
    """One value, or its name alone, in its color."""
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    text = shown(value, defaults["unit"])
    for mapping in defaults.get("mappings", []):
        text = mapping["options"].get(f"{value:g}", {}).get("text", text)
    if options.get("textMode") == "name":
        name, text = "", name
    kind = "background" if options.get("colorMode") == "background" else "color"
    return (
        f'<span class="stat">{html.escape(name)}<b style="{kind}:{color(value, steps)}">'
        f"{html.escape(text)}</b></span>"
    )


def lines(panel: Mapping[str, Any], series: list[Series], unit: str) -> str:
    width, height = panel["gridPos"]["w"] * COLUMN - 20, panel["gridPos"]["h"] * ROW - 84
    values = [value for _, points in series for _, value in points]
    times = [at for _, points in series for at, _ in points]
    low = min(0.0, *values) if "min" in panel["fieldConfig"]["defaults"] else min(values)
    high = max(*values, low + 1e-9)
    first, last = min(times), max(*times, min(times) + 1)
    made = []
    for number, (_, points) in enumerate(series):
        path = " ".join(
            f"{(at - first) / (last - first) * width:.0f},"
            f"{height - (value - low) / (high - low) * (height - 6) - 3:.0f}"
            for at, value in points
        )
        stroke = COLORS[number % len(COLORS)]
        made.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="1.5"/>')
    names = " &nbsp; ".join(
        f'<span style="color:{COLORS[number % len(COLORS)]}">{html.escape(name or "value")}'
        f" {shown(points[-1][1], unit) if points else '-'}</span>"
        for number, (name, points) in enumerate(series)
    )
    scale = f"{shown(low, unit)} to {shown(high, unit)}"
    return (
        f'<div class="legend" style="color:#777">{scale}</div><svg width="{width}" '
        f'height="{height}" style="margin:0 8px">{"".join(made)}</svg>'
        f'<div class="legend">{names}</div>'
    )


def heat(panel: Mapping[str, Any], series: list[Series], unit: str) -> str:
    width = panel["gridPos"]["w"] * COLUMN - 240
    top = panel["options"]["color"].get("max") or max(
        (value for _, points in series for _, value in points), default=1
    )
    height = min(26, (panel["gridPos"]["h"] * ROW - 50) // len(series))
    rows = []
    for name, points in series:
        cell = width / len(points)
        cells = "".join(
            f'<rect x="{number * cell:.1f}" width="{cell + 0.5:.1f}" height="{height - 2}" '
            f'fill="hsl(40 90% {12 + 55 * min((value / (top or 1)) ** 0.5, 1):.0f}%)"/>'
            for number, (_, value) in enumerate(points)
        )
        rows.append(
            f'<div style="margin:0 8px;height:{height}px"><span style="display:inline-block;'
            f'width:150px">{html.escape(name)}</span><svg width="{width}" height="{height}">'
            f"{cells}</svg> {shown(points[-1][1], unit)}</div>"
        )
    return "".join(rows)


def page(board: Mapping[str, Any], prometheus: Prometheus) -> tuple[str, list[str]]:
    """A dashboard as HTML, and its panels without data."""
    made, empty = [], []
    bottom = 0
    for panel in board["panels"]:
        series = [item for target in panel["targets"] for item in prometheus.ask(target)]
        if not any(points for _, points in series):
            empty.append(panel["title"])
        place = panel["gridPos"]
        bottom = max(bottom, (place["y"] + place["h"]) * ROW)
        made.append(
            f'<div class="panel" style="left:{place["x"] * COLUMN}px;top:{place["y"] * ROW}px;'
            f'width:{place["w"] * COLUMN - 6}px;height:{place["h"] * ROW - 6}px"><h3>'
            f"{html.escape(panel['title'])}</h3>{drawn(panel, series)}</div>"
        )
    head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h2>{board['title']}</h2>"
    return f'{head}<div class="board" style="height:{bottom}px">{"".join(made)}</div>', empty


def main() -> None:
    """Writes the pages."""
    address, folder = sys.argv[1], Path(sys.argv[2])
    prometheus = Prometheus(address, float(sys.argv[3]) if len(sys.argv) > 3 else 30)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(DASHBOARDS.glob("*.json")):
        text, empty = page(json.loads(file.read_text()), prometheus)
        (folder / f"{file.stem}.html").write_text(text)
        print(f"{file.stem}: no data in {', '.join(empty) or 'nothing'}")  # noqa: T201


if __name__ == "__main__":
    main()
