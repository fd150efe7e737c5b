"""The self-contained HTML report: one file without network and script, whole in any browser, light and dark, on paper.

Called by `cli` with what a story returned. Draws it; finds nothing itself. The same report gives the same bytes: no
clock, no timing and no random name is in it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path
from typing import Any, Final

from hftcl import durable
from hftcl.errors import UsageError

SESSIONS_PER_YEAR: Final = 252
SCALED_TO: Final = 0.10  # annual volatility of the second chart
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960.0, 360.0, 56.0, 16.0, 14.0, 46.0
_DASHES: Final = ("", "6 3", "", "", "2 3", "1 4", "9 4")
_VERDICTS: Final = {
    "paid": "Retraining paid",
    "not shown": "Not shown that retraining paid",
    "cost": "Retraining cost",
}

_STYLE: Final = """
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


def require_place(path: Path) -> None:
    """Raise UsageError unless a file can be written at `path`, before the work of minutes begins."""
    if path.is_dir():
        raise UsageError(f"--html {path} is a folder. Name a file in it, such as {path / 'backtest.html'}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--html {path}: the folder {path.absolute().parent} does not exist. Create it first.")


def write(path: Path, page: str) -> None:
    """Write `page` to `path`, whole or not at all. Raises StorageError."""
    with durable.storage_faults(f"writing {path}"):
        durable.write_atomically(path.absolute(), page.encode())


def backtest(report: Any) -> str:
    """Return the page of a BacktestReport."""
    return _page("hftcl backtest", _backtest_body(report))


def _page(title: str, body: Iterable[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # nothing is fetched and nothing runs, even if a text had slipped through unescaped
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _backtest_body(report: Any) -> list[str]:
    curves = _curves(report.policies)
    kind = '<span class="synthetic">SYNTHETIC bars</span>' if report.synthetic else f"Bars from {escape(report.source)}"
    return [
        "<header>",
        "<h1>Did retraining pay?</h1>",
        f'<p class="soft">{kind}; {report.sessions} sessions, {report.from_} to {report.to}; '
        f"{escape(', '.join(report.tickers))}; {report.trainings} trainings; policy {escape(report.promote_policy)}; "
        f"{report.cost_bps:g} basis point{'' if report.cost_bps == 1 else 's'} per unit of turnover.</p>",
        *(f'<p class="soft">Note: {escape(note)}.</p>' for note in report.notes),
        "</header>",
        f'<section class="verdict {report.conclusion.replace(" ", "-")}"><b>{_VERDICTS[report.conclusion]}.</b>',
        f"<p>{escape(report.reason)}.</p></section>",
        "<h2>Cumulative net P&amp;L, % of capital</h2>",
        _key(curves),
        _chart(curves, report.attempts, "Cumulative net P&L of each policy, in percent of capital"),
        '<p class="soft">Dots: a model was deployed. Strip below: green where the configured policy was let trade by '
        "its record, grey where it stood aside. Profits are not reinvested.</p>",
        f"<h2>The same at equal risk: each scaled to {100 * SCALED_TO:.0f} % volatility a year</h2>",
        _chart(
            [curve.scaled() for curve in curves],
            report.attempts,
            f"Cumulative net P&L of each policy, scaled to {100 * SCALED_TO:.0f} % annual volatility",
        ),
        '<p class="soft">The slope is the Sharpe ratio. The scale is the whole span\'s, known only afterwards.</p>',
        "<h2>Policies</h2>",
        _policies(report.policies),
        "<h2>Differences of Sharpe ratios, with 90 % intervals</h2>",
        _intervals(report.differences),
        '<p class="soft">Paired on the same sessions (Ledoit and Wolf 2008). An interval that includes 0 shows '
        "nothing. Rule of the conclusion: the interval of policy less never retrain lies above 0 (paid), includes 0 "
        "(not shown) or lies below 0 (cost).</p>",
        "<h2>Week by week</h2>",
        _weeks(report.attempts),
    ]


# --- curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One policy: net P&L per session, where it deployed (place of the session, what), and how it is drawn."""

    name: str
    place: int
    days: tuple[date, ...]
    net: tuple[float, ...]
    deployed: tuple[tuple[int, str], ...]

    @property
    def colour(self) -> str:
        return f"var(--c{self.place % 7})"

    @property
    def style(self) -> str:
        dash = _DASHES[self.place % 7]
        return f'stroke="{self.colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")

    @property
    def wealth(self) -> tuple[float, ...]:
        """Cumulative P&L in percent: 0 before the first session."""
        total, found = 0.0, [0.0]
        for each in self.net:
            total += each
            found.append(100.0 * total)
        return tuple(found)

    def scaled(self) -> "_Curve":
        n = len(self.net)
        mean = sum(self.net) / n
        deviation = math.sqrt(sum((each - mean) ** 2 for each in self.net) / (n - 1)) if n > 1 else 0.0
        factor = SCALED_TO / math.sqrt(SESSIONS_PER_YEAR) / deviation if deviation > 0 else 0.0
        return _Curve(
            name=self.name,
            place=self.place,
            days=self.days,
            net=tuple(factor * each for each in self.net),
            deployed=self.deployed,
        )


def _curves(policies: Mapping[str, Any]) -> list[_Curve]:
    found = []
    for place, (name, policy) in enumerate(policies.items()):
        days = tuple(date.fromisoformat(day) for day in policy.pnl_by_session)
        where = {day: index for index, day in enumerate(days)}
        deployed: dict[int, str] = {}
        for each in policy.served:
            if each.from_ is not None:
                deployed[where[each.from_]] = f"{each.model_id} from {each.from_}: {each.reason}"
        found.append(
            _Curve(
                name=name,
                place=place,
                days=days,
                net=tuple(policy.pnl_by_session.values()),
                deployed=tuple(deployed.items()),
            )
        )
    return found


def _key(curves: Sequence[_Curve]) -> str:
    items = []
    for curve in curves:
        width = "main" if curve.place == 0 else ""
        items.append(
            f'<li><svg viewBox="0 0 34 12" aria-hidden="true"><path class="curve {width}" {curve.style} '
            f'd="M1 6H33"/></svg>{escape(curve.name)} <span class="soft">{curve.wealth[-1]:+.2f} %</span></li>'
        )
    return f'<ul class="key">{"".join(items)}</ul>'


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round values from `low` to `high`, at most about `about` of them, 0 among them where it lies between."""
    span = (high - low) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * k for k in range(first, last + 1)]


def _chart(curves: Sequence[_Curve], attempts: Sequence[Any], title: str) -> str:
    days = curves[0].days
    values = [value for curve in curves for value in curve.wealth]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / len(days)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [*_grid(ticks(low, high), y), *_months(days, x), *_strip(days, attempts, x)]
    for curve in sorted(curves, key=lambda each: -each.place):  # the configured policy is drawn last, on top
        points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(curve.wealth))
        width = " main" if curve.place == 0 else ""
        parts.append(
            f'<polyline class="curve{width}" {curve.style} points="{points}">'
            f"<title>{escape(curve.name)}</title></polyline>"
        )
        parts += [
            f'<circle class="mark" fill="{curve.colour}" r="{4 if curve.place == 0 else 3}" cx="{x(place):.1f}" '
            f'cy="{y(curve.wealth[place]):.1f}"><title>{escape(f"{curve.name}: {text}")}</title></circle>'
            for place, text in curve.deployed
        ]
    return _svg(_HEIGHT, title, parts)


def _svg(height: float, title: str, parts: Iterable[str]) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg></div>"
    )


def _grid(values: Sequence[float], y: Callable[[float], float]) -> list[str]:
    step = abs(values[1] - values[0]) if len(values) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    lines = []
    for value in values:
        kind = "zero" if abs(value) < step / 2 else "grid"
        at = y(value)
        lines.append(
            f'<path class="{kind}" d="M{_LEFT:.0f} {at:.1f}H{_WIDTH - _RIGHT:.0f}"/>'
            f'<text x="{_LEFT - 8:.0f}" y="{at + 4:.1f}" text-anchor="end">{value + 0.0:.{digits}f}</text>'
        )
    return lines


def _months(days: Sequence[date], x: Callable[[float], float]) -> list[str]:
    """Return a label at the first session of each month, fewer where they would touch."""
    firsts = [place for place, day in enumerate(days) if place == 0 or day.month != days[place - 1].month]
    found, last = [], -math.inf
    for place in firsts:
        at = x(place + 0.5)
        if at - last >= 56 and at <= _WIDTH - _RIGHT - 24:
            last = at
            found.append(
                f'<path class="grid" d="M{at:.1f} {_TOP:.0f}V{_HEIGHT - _BOTTOM:.0f}"/>'
                f'<text class="soft" x="{at:.1f}" y="{_HEIGHT - 6:.0f}" text-anchor="middle">{days[place]:%Y-%m}</text>'
            )
    return found


def _strip(days: Sequence[date], attempts: Sequence[Any], x: Callable[[float], float]) -> list[str]:
    """Return a bar under the chart: where the configured policy was let trade by its record, and where it was not."""
    parts, state = [], "stand aside"
    decided = {each.at.date(): each for each in attempts}
    pending = sorted(decided)
    begin, told = 0, ""
    for place, day in enumerate([*days, date.max]):
        new, why = state, told
        while pending and pending[0] < day:
            attempt = decided[pending.pop(0)]
            new, why = attempt.edge or state, f"{attempt.edge}: {attempt.edge_reason}"
        if place and (new != state or day == date.max):
            parts.append(_bar(x(begin), x(place), state, f"{days[begin]} to {days[place - 1]}: {told}"))
            begin = place
        state, told = new, why
    return parts


def _bar(left: float, right: float, state: str, told: str) -> str:
    kind = "live" if state == "live" else "aside"
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{_HEIGHT - _BOTTOM + 10:.0f}" width="{right - left:.1f}" height="8">'
        f"<title>{escape(told)}</title></rect>"
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: frozenset[int] = frozenset()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text else ''}>{cell}</{tag}>" for index, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', [escape(name) for name in columns])}</tr></thead>"
    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table>{head}<tbody>\n{body}</tbody></table></div>'


def _policies(policies: Mapping[str, Any]) -> str:
    columns = ("policy", "Sharpe", "90 % interval", "net P&L", "gross", "turnover", "drawdown", "traded", "deployed")
    rows = [
        (
            f'{escape(name)}<br><span class="soft">{escape(each.rule)}</span>',
            _number(each.sharpe),
            _bounds(each.interval),
            _number(each.pnl, "+.2%"),
            _number(each.gross_pnl, "+.2%"),
            _number(each.turnover, ".1f"),
            _number(each.max_drawdown, ".2%"),
            str(each.traded_sessions),
            str(each.deployments),
        )
        for name, each in policies.items()
    ]
    return _table(columns, rows)


def _intervals(differences: Sequence[Any]) -> str:
    """Return a dot with its interval for each difference, on one axis."""
    known = [each for each in differences if each.interval is not None]
    if not known:
        return '<p class="soft">Not defined on these sessions.</p>'
    low = float(min(0.0, *(each.interval[0] for each in known)))
    high = float(max(0.0, *(each.interval[1] for each in known)))
    left, height = 300.0, 28.0 * len(differences) + 34.0

    def x(value: float) -> float:
        return left + (_WIDTH - left - 150.0) * (value - low) / ((high - low) or 1.0)

    parts = []
    for value in ticks(low, high):
        kind = "zero" if abs(value) < 1e-9 else "grid"
        parts.append(
            f'<path class="{kind}" d="M{x(value):.1f} 4V{height - 24:.0f}"/>'
            f'<text class="soft" x="{x(value):.1f}" y="{height - 8:.0f}" text-anchor="middle">{value + 0.0:g}</text>'
        )
    for row, each in enumerate(differences):
        at = 20.0 + 28.0 * row
        parts.append(f'<text x="0" y="{at + 4:.0f}">{escape(f"{each.policy} - {each.against}")}</text>')
        if each.interval is None:
            continue
        parts.append(
            f'<path class="curve main" stroke="var(--c0)" d="M{x(each.interval[0]):.1f} {at:.0f}'
            f'H{x(each.interval[1]):.1f}"/><circle fill="var(--c0)" r="5" cx="{x(each.difference):.1f}" cy="{at:.0f}"/>'
            f'<text x="{_WIDTH:.0f}" y="{at + 4:.0f}" text-anchor="end">{each.difference:+.2f} '
            f"({each.interval[0]:+.1f} to {each.interval[1]:+.1f})</text>"
        )
    return _svg(height, "Differences of Sharpe ratios with their 90 % intervals", parts)


def _weeks(attempts: Sequence[Any]) -> str:
    columns = (
        "judged, UTC",
        "candidate",
        "Sharpe",
        "champion's",
        "P(better)",
        "verdict",
        "why",
        "edge",
        "P(edge)",
        "why",
    )
    kinds = {"deployed": "good", "rejected": "bad"}
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M}",
            escape(each.model_id),
            _number(each.sharpe),
            _number(each.champion_sharpe),
            _number(each.p_better),
            f'<span class="{kinds.get(each.outcome, "")}">{escape(each.outcome)}</span>',
            escape(each.reason),
            escape(each.edge or "-"),
            _number(each.p_edge),
            escape(each.edge_reason),
        )
        for each in attempts
    ]
    return _table(columns, rows, text=frozenset({1, 5, 6, 7, 9}))
