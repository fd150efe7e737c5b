"""A chart over time that can be read out, zoomed and drawn in logs: the figures beside the drawing, and the script.

The drawing is whole without the script, which finds the figures as JSON in the page and needs nothing from elsewhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

Scale = Literal["percent", "price", "symmetric"]
"""What a logarithm is taken of: 1 + value / 100; the value; |value| + 1, with the value's sign."""

SCRIPT: Final = Path(__file__).with_name("charts.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartLine:
    """One line of a chart. name: how it is read out; y: its values, None where it has none; x: their places.

    x: None where they are those of the first line.
    """

    name: str
    y: Sequence[float | None]
    x: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartData:
    """What a chart is read out from. name: of the chart in its page; labels: of each place of the first line.

    digits, unit, signed: how a value is told; scale: of the logarithm, None where there is none to be had.
    """

    name: str
    labels: Sequence[str]
    lines: Sequence[ChartLine]
    digits: int = 2
    unit: str = ""
    signed: bool = False
    scale: Scale | None = None


def enliven(drawing: str, data: ChartData) -> str:
    """Return `drawing`, one or several of the same chart, with the figures of `data`."""
    held = {
        "labels": list(data.labels),
        "digits": data.digits,
        "unit": data.unit,
        "signed": data.signed,
        "log": data.scale,
        "series": [
            {
                "name": line.name,
                "x": None if line.x is None else [round(place, 3) for place in line.x],
                "y": [None if value is None else round(value, data.digits + 1) for value in line.y],
            }
            for line in data.lines
        ],
    }
    return (
        f'<div class="chart-box" id="chart-{data.name}">{drawing}'
        f'<script type="application/json">{escape_json(held)}</script></div>'
    )


def escape_json(held: object) -> str:
    """Return JSON that can stand in a page: nothing in it ends the element that holds it. Raises ValueError for NaN."""
    text = json.dumps(held, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


@cache
def read_script() -> str:
    """Return the script that reads charts out and zooms them."""
    return SCRIPT.read_text(encoding="utf-8")
