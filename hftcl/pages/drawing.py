"""What the HTML pages share: the frame of a page, its style, axes, tables."""

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from html import escape
from typing import Final

from hftcl.formats import number

# Units of a drawing, which a browser scales: a wide chart, and the room beside it that labels of 12 units need.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960.0, 360.0, 56.0, 16.0, 14.0, 46.0

# Contrast of text is 4.5 to 1 or more in both schemes (WCAG 2.2, 1.4.3): https://www.w3.org/TR/WCAG22/#contrast-minimum
STYLE: Final = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#5b6570;--line:#d5dae0;--box:#f4f6f8;
--good:#0b6b46;--bad:#a8281e;--warn:#8a5a00;
--c0:#1a56c4;--c1:#1a56c4;--c2:#b8480f;--c3:#0a7560;--c4:#8440ad;--c5:#6b7480;--c6:#857000}
@media (prefers-color-scheme:dark){:root{--back:#14181d;--text:#e6e9ed;--soft:#a0a9b4;--line:#39424d;--box:#1d232a;
--good:#5fd39f;--bad:#ff8f85;--warn:#f0bd5a;
--c0:#82b1ff;--c1:#82b1ff;--c2:#ff9c66;--c3:#57cfb2;--c4:#d3a1f2;--c5:#9aa4b0;--c6:#dcc04c}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 16px 48px;max-width:1040px;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}p{margin:4px 0}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.synthetic{display:inline-block;border:1px solid var(--warn);color:var(--warn);border-radius:4px;padding:0 6px;
font-weight:600}
.verdict{background:var(--box);border-left:5px solid var(--soft);padding:12px 16px;margin:16px 0}
.verdict.paid{border-color:var(--good)}.verdict.cost{border-color:var(--bad)}.verdict b{font-size:18px}
.wide{overflow-x:auto}svg{display:block;min-width:680px;width:100%;height:auto}
svg text{fill:var(--text);font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}svg text.soft{fill:var(--soft)}
.grid{stroke:var(--line);stroke-width:1}.zero{stroke:var(--soft);stroke-width:1}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.main{stroke-width:3}.mark{stroke:var(--back);stroke-width:1.2}
.live{fill:var(--good)}.aside{fill:var(--line)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:6px 0;list-style:none}.key svg{display:inline-block;
min-width:0;width:34px;height:12px;vertical-align:middle;margin-right:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child,td.text,th.text{text-align:left;white-space:normal}
@media print{body{max-width:none}.wide{overflow:visible}}
""".strip()


def page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """Return the whole page; `script`, if one, is the only thing that its policy lets run."""
    runs = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        runs = f"; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # nothing is fetched and nothing runs, even if a text had slipped through unescaped
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'"
        f'{runs}">\n<title>{escape(title)}</title>\n<style>\n{STYLE}\n{style}</style>\n</head>\n<body>\n'
        + "\n".join(body)
        + (f"\n<script>{script}</script>" if script else "")
        + "\n</body>\n</html>\n"
    )


_ZERO: Final = 1e-9  # a tick is a multiple of its step, and 3 * 0.1 - 0.3 is not quite 0


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round values from `low` to `high`, at most about `about` of them, 0 among them where it lies between."""
    span = (high - low) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * k for k in range(first, last + 1)]


def svg(height: float, title: str, parts: Iterable[str]) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg></div>"
    )


def grid(values: Sequence[float], y: Callable[[float], float]) -> list[str]:
    step = abs(values[1] - values[0]) if len(values) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    lines = []
    for value in values:
        kind = "zero" if abs(value) < step / 2 else "grid"
        at = y(value)
        lines.append(
            f'<path class="{kind}" d="M{LEFT:.0f} {at:.1f}H{WIDTH - RIGHT:.0f}"/>'
            f'<text x="{LEFT - 8:.0f}" y="{at + 4:.1f}" text-anchor="end">{number(value, f".{digits}f")}</text>'
        )
    return lines


def uprights(values: Sequence[float], x: Callable[[float], float], height: float) -> list[str]:
    """Return the axis below: a line at each value, the one at 0 darker, and its figure."""
    return [
        f'<path class="{"zero" if abs(value) < _ZERO else "grid"}" d="M{x(value):.1f} 4V{height - 24:.0f}"/>'
        f'<text class="soft" x="{x(value):.1f}" y="{height - 8:.0f}" text-anchor="middle">{number(value, "g")}</text>'
        for value in values
    ]


def months(days: Sequence[date], x: Callable[[float], float]) -> list[str]:
    """Return a label at the first session of each month, fewer where they would touch."""
    firsts = [place for place, day in enumerate(days) if place == 0 or day.month != days[place - 1].month]
    labels, last = [], -math.inf
    for place in firsts:
        at = x(place + 0.5)
        if at - last >= 56 and at <= WIDTH - RIGHT - 24:
            last = at
            labels.append(
                f'<path class="grid" d="M{at:.1f} {TOP:.0f}V{HEIGHT - BOTTOM:.0f}"/>'
                f'<text class="soft" x="{at:.1f}" y="{HEIGHT - 6:.0f}" text-anchor="middle">{days[place]:%Y-%m}</text>'
            )
    return labels


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: frozenset[int] = frozenset()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text else ''}>{cell}</{tag}>" for index, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', [escape(name) for name in columns])}</tr></thead>"
    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table>{head}<tbody>\n{body}</tbody></table></div>'
