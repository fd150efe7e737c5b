"""What the HTML pages share: the frame of a page, its style, axes, tables."""

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from hftcl.formats import SYNTHETIC, number

# Units of a drawing, which a browser scales: a wide chart, and the room beside it that labels of 12 units need.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960.0, 360.0, 56.0, 16.0, 14.0, 46.0
NARROW: Final = 360.0  # of a phone, so that 12 units of a label are about 12 px

# Contrast of text is 4.5 to 1 or more in both schemes (WCAG 2.2, 1.4.3): https://www.w3.org/TR/WCAG22/#contrast-minimum
STYLE: Final = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#5b6570;--line:#d5dae0;--box:#f4f6f8;
--good:#0b6b46;--bad:#a8281e;--warn:#8a5a00;
--c0:#1a56c4;--c1:#1a56c4;--c2:#b8480f;--c3:#0a7560;--c4:#8440ad;--c5:#6b7480;--c6:#857000;--c7:#a01a6b;--c8:#a01a6b}
@media (prefers-color-scheme:dark){:root{--back:#14181d;--text:#e6e9ed;--soft:#a0a9b4;--line:#39424d;--box:#1d232a;
--good:#5fd39f;--bad:#ff8f85;--warn:#f0bd5a;
--c0:#82b1ff;--c1:#82b1ff;--c2:#ff9c66;--c3:#57cfb2;--c4:#d3a1f2;--c5:#9aa4b0;--c6:#dcc04c;--c7:#ff8fc8;--c8:#ff8fc8}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 16px 48px;max-width:1040px;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}p{margin:4px 0}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.synthetic{display:inline-block;border:1px solid var(--warn);color:var(--warn);border-radius:4px;padding:0 6px;
font-weight:600}
.verdict{background:var(--box);border-left:5px solid var(--soft);padding:12px 16px;margin:16px 0}
.verdict.paid{border-color:var(--good)}.verdict.cost{border-color:var(--bad)}.verdict b{font-size:18px}
.wide{overflow-x:auto}.wide svg{min-width:680px}svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--text);font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}svg text.soft{fill:var(--soft)}
.grid{stroke:var(--line);stroke-width:1}.zero{stroke:var(--soft);stroke-width:1}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.main{stroke-width:3}.mark{stroke:var(--back);stroke-width:1.2}
.live{fill:var(--good)}.aside{fill:var(--line)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:6px 0;list-style:none}.key svg{display:inline-block;
min-width:0;width:34px;height:12px;vertical-align:middle;margin-right:6px}
pre{white-space:pre-wrap;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 7px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:normal}th:first-child,td:first-child,td.text,th.text{text-align:left;white-space:normal}
.chart-box svg{touch-action:pan-y;cursor:crosshair}
.chart-box:focus-visible,[role=group]:focus-visible{outline:2px solid var(--c0);outline-offset:4px}
.hair{stroke:var(--soft);stroke-width:1;pointer-events:none}.dot{fill:var(--text);stroke:var(--back);stroke-width:1.5;
pointer-events:none}.band{fill:var(--c0);fill-opacity:.16;pointer-events:none}.chosen{stroke:var(--text);stroke-width:2}
.under-chart{display:flex;justify-content:space-between;align-items:flex-start;gap:4px 16px}
.told{min-height:1.5em;color:var(--soft);font-variant-numeric:tabular-nums;overflow-wrap:anywhere;min-width:0}
.tools{display:flex;gap:4px;flex:none}.tools button{font:inherit;font-size:13px;min-width:32px;padding:2px 8px;
color:var(--text);background:var(--box);border:1px solid var(--line);border-radius:4px;cursor:pointer}
.tools button:disabled{color:var(--soft);cursor:default;opacity:.55}
.tools button[aria-pressed=true]{border-color:var(--c0);color:var(--c0);font-weight:600}
.chart.small{display:none}
td.text{overflow-wrap:anywhere}@media (min-width:641px){td.text{min-width:6em}}
@media (min-width:1001px){.wide>.cards td:first-child{min-width:8em}.wide>.cards td.text{min-width:7em}}
@media (max-width:1000px){th,td{padding:4px 3px;font-size:12px}}
@media (max-width:640px){.chart.big{display:none}.chart.small{display:block}
.under-chart{flex-direction:column-reverse}.tools{align-self:flex-end}
.tools button{min-width:40px;padding:6px 10px}.whole text{font-size:22px}.whole .minor{display:none}
.cards thead{display:none}.cards tr{display:block;padding:6px 0;border-bottom:1px solid var(--line)}
.cards td,.cards td:first-child{display:flex;justify-content:space-between;gap:12px;border:0;padding:1px 0;
white-space:normal;text-align:right}
.cards td::before{content:attr(data-name);color:var(--soft);text-align:left;flex:none;max-width:45%}
.cards td:empty{display:none}}
@media print{body{max-width:none}th,td{padding:3px;font-size:10px;white-space:normal}.tools,.told,.reading{display:none}
.wide{overflow:visible}.wide svg{min-width:0}h2,h3{break-after:avoid}
thead{display:table-header-group}
details::details-content{content-visibility:visible;display:block}
tr,svg,.tile,.verdict{break-inside:avoid}}
""".strip()

# Beside it, of pages with curves and heat maps.
CHART_STYLE: Final = """
h3{font-size:15px;margin:16px 0 4px}.buy{fill:var(--good)}.sell{fill:var(--bad)}.buy,.sell{stroke:var(--back);
stroke-width:.8}.exit{fill-opacity:.45}
.bench{stroke:var(--c5);stroke-dasharray:5 3}
.bench.equal{stroke:var(--c6);stroke-dasharray:1 4;stroke-width:2.4}
.swap{stroke:var(--c2);stroke-width:1;stroke-dasharray:2 3;opacity:.7}
.tick{stroke:var(--line);stroke-width:1;opacity:.55}.under{fill:var(--bad);fill-opacity:.28;stroke:var(--bad);
stroke-width:1.2}.gain{fill:var(--good)}.loss{fill:var(--bad)}.none{fill:var(--box)}.share{fill:var(--c0)}
""".lstrip()


def draw_page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
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


MINOR: Final = ("", " minor")
"""Of a row of labels each other one is left out on a phone, where they are twice as wide."""
_CARDS: Final = 5  # columns from which on a phone shows a row as a card, a line a cell
_ZERO: Final = 1e-9  # a tick is a multiple of its step, and 3 * 0.1 - 0.3 is not quite 0


def name_bars(source: str, *, synthetic: bool) -> str:
    """Return what bars a page is about, as HTML; those that were made up stand out."""
    return f'<span class="synthetic">{SYNTHETIC}</span>' if synthetic else f"Bars from {escape(source)}"


def choose_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round values from `low` to `high`, at most about `about` of them, 0 among them where it lies between."""
    span = (high - low) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * k for k in range(first, last + 1)]


def draw_svg(
    height: float,
    title: str,
    parts: Iterable[str],
    width: float = WIDTH,
    *,
    scrolls: bool = False,
    frame: Sequence[float] = (),
) -> str:
    """Return a drawing that a phone shows whole, its texts larger; scrolls: one whose texts leave no room for that.

    A drawing of another width than WIDTH has been made for where it stands, and is shown as it is. frame: of a
    chart, for its script: left, top, right, bottom of the plot in units, the places at its sides, its lowest and
    highest value.
    """
    kind = "drawn" if width != WIDTH else "wide" if scrolls else "whole"
    told = f' data-frame="{" ".join(f"{value:.10g}" for value in frame)}"' if frame else ""
    reach = f' tabindex="0" role="region" aria-label="{escape(title)}"' if kind == "wide" else ""
    return (
        f'<div class="{kind}"{reach}><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img"{told} '
        f'aria-label="{escape(title)}">' + "".join(parts) + "</svg></div>"
    )


def draw_both(draw: Callable[[float], str], wide: float = WIDTH) -> str:
    """Return a drawing twice, of `wide` for a screen and NARROW for a phone: the style shows the one that fits.

    draw: given the units of its width. Empty where there is nothing to draw.
    """
    big = draw(wide)
    return f'<div class="chart big">{big}</div><div class="chart small">{draw(NARROW)}</div>' if big else ""


def group(kind: str, parts: Iterable[str]) -> str:
    """Return the axes, or the plot, of a chart in one element, which its script draws again when it is zoomed."""
    return f'<g class="{kind}">{"".join(parts)}</g>'


def draw_grid(values: Sequence[float], y: Callable[[float], float], width: float = WIDTH) -> list[str]:
    step = abs(values[1] - values[0]) if len(values) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    lines = []
    for value in values:
        kind = "zero" if abs(value) < step / 2 else "grid"
        at = y(value)
        lines.append(
            f'<path class="{kind}" d="M{LEFT:.0f} {at:.1f}H{width - RIGHT:.0f}"/>'
            f'<text x="{LEFT - 8:.0f}" y="{at + 4:.1f}" text-anchor="end">{number(value, f".{digits}f")}</text>'
        )
    return lines


def draw_uprights(values: Sequence[float], x: Callable[[float], float], height: float) -> list[str]:
    """Return the axis below: a line at each value, the one at 0 darker, and its figure."""
    return [
        f'<path class="{"zero" if abs(value) < _ZERO else "grid"}" d="M{x(value):.1f} 4V{height - 24:.0f}"/>'
        f'<text class="soft" x="{x(value):.1f}" y="{height - 8:.0f}" text-anchor="middle">{number(value, "g")}</text>'
        for value in values
    ]


def draw_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: frozenset[int] = frozenset()) -> str:
    cards = len(columns) >= _CARDS
    names = [f' data-name="{escape(name)}"' if cards else "" for name in columns]

    def draw_cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text else ''}{names[index] if tag == 'td' else ''}>{cell}</{tag}>"
            for index, cell in enumerate(row)
        )

    head = f"<thead><tr>{draw_cells('th', [escape(name) for name in columns])}</tr></thead>"
    body = "".join(f"<tr>{draw_cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table{" class=cards" if cards else ""}>{head}<tbody>\n{body}</tbody></table></div>'
