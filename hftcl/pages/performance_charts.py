"""The charts of the performance page: curves over sessions, heat maps, intervals, bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from hftcl.formats import count, format_interval, format_moment, format_sharpe, number
from hftcl.pages.chart_data import ChartData, ChartLine, Scale, enliven
from hftcl.pages.drawing import LEFT, RIGHT, TOP, WIDTH, choose_ticks, draw_both, draw_svg, draw_uprights
from hftcl.pages.plot import Plot, Point

if TYPE_CHECKING:
    from hftcl.performance.reports import ModelFigures, PerformanceReport, SessionBin, TradeBin

_HEAT_LEFT: Final = 64.0  # units beside a heat map: its rows are named there
_HEAT_ROW: Final = 30.0  # units of a row of cells, air included
_CELL: Final = 49.0  # units that "+123.45" or "+12,345" take with air; six of them fit on a phone
_MODEL_PX: Final = 122.0  # a model's id of fifteen characters, and air
# By hand: strftime would give them in the language of the machine, and the same report must give the same bytes.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def place_points(report: "PerformanceReport") -> list[Point]:
    """Return the equity curve as (place, % of capital), from (0, 0); a session's points are spread evenly over it."""
    index = {session: place for place, session in enumerate(_list_sessions(report))}
    count: dict[date, int] = {}
    for point in report.curve:
        count[point.session] = count.get(point.session, 0) + 1
    seen: dict[date, int] = {}
    points = [(0.0, 0.0)]
    for point in report.curve:
        seen[point.session] = seen.get(point.session, 0) + 1
        points.append((index[point.session] + seen[point.session] / count[point.session], 100.0 * point.pnl))
    return points


def draw_equity(report: "PerformanceReport", width: float = WIDTH) -> str:
    """Return the equity curve, the watchlist's beside it, and a mark where another model began to decide."""
    mine, benchmarks = place_points(report), _list_benchmarks(report)
    values = [value for points in (mine, *(points for _, _, points in benchmarks)) for _, value in points]
    plot = Plot.fit_around(_list_sessions(report), values, height=340.0 if width >= WIDTH else 240.0, width=width)
    shapes = [
        plot.draw_line(points, line, f'class="curve {kind}"', name=name)
        for line, (name, kind, points) in enumerate(benchmarks, start=1)
    ]
    shapes.append(plot.draw_line(mine, 0, 'class="curve main" stroke="var(--c0)"'))
    shapes += _draw_swaps(report, plot, mine)
    return plot.draw("Cumulative net P&L in percent of capital, with the models that traded", shapes)


def build_equity_chart(report: "PerformanceReport") -> ChartData:
    """Return what the equity curve is read out from."""
    mine = place_points(report)
    return ChartData(
        name="equity",
        labels=["before the first session", *(f"{format_moment(point.ts)} UTC" for point in report.curve)],
        lines=[
            ChartLine(name="bot", x=[place for place, _ in mine], y=[value for _, value in mine]),
            *(
                ChartLine(name=name, x=[place for place, _ in points], y=[value for _, value in points])
                for name, _, points in _list_benchmarks(report)
            ),
        ],
        digits=3,
        unit="%",
        signed=True,
        scale="percent",
    )


def _list_benchmarks(report: "PerformanceReport") -> list[tuple[str, str, list[Point]]]:
    """Return the watchlist's curves: how each is called, its class, its points."""
    curves = (
        ("buy and hold", "bench", _place_benchmark(report)),
        ("buy and hold at the bot's volatility", "bench equal", _place_benchmark(report, equal_risk=True)),
    )
    return [curve for curve in curves if curve[2]]


def _draw_swaps(report: "PerformanceReport", plot: Plot, mine: Sequence[Point]) -> list[str]:
    parts: list[str] = []
    free = -math.inf
    for swap in report.swaps:
        later = next((place for place, point in enumerate(report.curve) if point.ts >= swap.ts), None)
        at, value = mine[later if later is not None else -1]
        x = plot.to_x(at)
        parts.append(f'<path class="swap" d="M{x:.1f} {TOP:.0f}V{plot.bottom:.0f}" data-x="{at:.6g}"/>')
        anchor, shift = ("end", -4.0) if x > plot.width - _MODEL_PX else ("start", 4.0)
        begins = x - _MODEL_PX if anchor == "end" else x
        if begins >= free:
            parts.append(
                f'<text class="soft minor" x="{x + shift:.1f}" y="{TOP + 10:.0f}" text-anchor="{anchor}" '
                f'data-x="{at:.6g}">{escape(swap.model_id)}</text>'
            )
            free = begins + _MODEL_PX
        title = f"{swap.model_id} decides from {format_moment(swap.ts)} UTC"
        parts.append(plot.draw_mark((at, value), 'fill="var(--c2)"', title))
    return parts


def draw_drawdown(report: "PerformanceReport") -> str:
    """Return how far the equity lies below its highest point at the end of each session, as the figures tell it."""
    days = _list_sessions(report)
    points = measure_falls(list(report.pnl_by_session.values()))
    plot = Plot.fit_around(days, [value for _, value in points], height=150.0)
    drawing = plot.draw("Drawdown in percent of capital", [plot.draw_area(points, 0, 'class="under"')])
    return enliven(drawing, build_session_chart("drawdown", days, [("", points)], digits=3, scale="percent"))


def measure_falls(net: Sequence[float]) -> list[Point]:
    """Return (place, % of capital below the highest point so far, 0 or less) of the end of each session, from (0, 0).

    net: P&L of each session, a fraction of capital.
    """
    points, top = [], 0.0
    for place, value in enumerate(accumulate((100.0 * pnl for pnl in net), initial=0.0)):
        top = max(top, value)
        points.append((float(place), value - top))
    return points


def build_session_chart(
    name: str,
    days: Sequence[date],
    lines: Sequence[tuple[str, Sequence[Point]]],
    *,
    digits: int = 2,
    unit: str = "%",
    scale: Scale | None = None,
) -> ChartData:
    """Return a chart over the ends of `days`: lines are names with their points, of which the first has all places."""
    labels = ["before the first session", *map(str, days)]
    return ChartData(
        name=name,
        labels=[labels[round(place)] for place, _ in lines[0][1]],
        lines=[
            ChartLine(name=called, x=[place for place, _ in points], y=[value for _, value in points])
            for called, points in lines
        ],
        digits=digits,
        unit=unit,
        signed=True,
        scale=scale,
    )


def draw_rolling(report: "PerformanceReport") -> str:
    """Return the rolling Sharpe ratio; a place where it is not defined breaks the line."""
    index = {session: place for place, session in enumerate(_list_sessions(report))}
    runs: list[tuple[int, list[Point]]] = [(0, [])]
    for place, point in enumerate(report.rolling):
        if point.sharpe is None:
            runs.append((place + 1, []))
        else:
            runs[-1][1].append((index[point.session] + 1.0, point.sharpe))
    plot = Plot.fit_around(_list_sessions(report), [0.0, *(value for _, run in runs for _, value in run)], height=170.0)
    style = 'class="curve" stroke="var(--c3)"'
    parts = [plot.draw_line(run, 0, style, begins=begins) for begins, run in runs if len(run) > 1]
    parts += [
        f'<circle fill="var(--c3)" r="3" cx="{plot.to_x(run[0][0]):.1f}" cy="{plot.to_y(run[0][1]):.1f}" '
        f'data-x="{run[0][0]:.6g}" data-y="{run[0][1]:.6g}"/>'
        for _, run in runs
        if len(run) == 1
    ]
    data = ChartData(
        name="rolling",
        labels=[str(point.session) for point in report.rolling],
        lines=[
            ChartLine(
                name="",
                x=[index[point.session] + 1.0 for point in report.rolling],
                y=[point.sharpe for point in report.rolling],
            )
        ],
        signed=True,
        scale="symmetric",
    )
    return enliven(plot.draw(f"Sharpe ratio over {count(report.rolling_sessions, 'session')}", parts), data)


def draw_monthly(months: Mapping[str, float], title: str = "Net P&L by month in percent of capital") -> str:
    """Return a heat map: a row a year, a column a month, and the year's sum. months: "2026-01": fraction of capital."""
    years = sorted({month[:4] for month in months})
    most = max((abs(value) for value in months.values()), default=0.0)
    rows = []
    for year in years:
        cells = [_choose_shade(months.get(f"{year}-{month:02}"), most) for month in range(1, 13)]
        total = sum(value for month, value in months.items() if month.startswith(year))
        rows.append((year, [*cells, _Cell("gain", 0.0, number(100 * total, "+.2f"))]))
    return draw_both(lambda width: _draw_heat((*_MONTHS, "Year"), rows, title, width))


def draw_weekly(report: "PerformanceReport") -> str:
    """Return a heat map: a row a weekday, a column an hour of the session."""
    hours = sorted({cell.hour for cell in report.cells})
    days = [part.name for part in report.weekdays]
    net_by_cell = {(cell.weekday, cell.hour): cell.net_usd for cell in report.cells}
    most = max((abs(value) for value in net_by_cell.values()), default=0.0)
    rows = [(day, [_choose_shade(net_by_cell.get((day, hour)), most, 1, "+,.0f") for hour in hours]) for day in days]
    clocks = {cell.hour: cell.clock.partition("-")[0] for cell in report.cells}  # when it begins: there is no more room
    names = [clocks[hour] for hour in hours]
    title = "Net P&L in USD by weekday and hour of the session"
    return draw_both(lambda width: _draw_heat(names, rows, title, width))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of a heat map: its class, how much of that colour it has (0 to 1), and its text."""

    kind: str
    depth: float
    text: str


def _choose_shade(value: float | None, most: float, scale: float = 100.0, form: str = "+.2f") -> _Cell | None:
    """Return the cell of a value, the darker the nearer it is to `most`; None where there is no value."""
    if value is None:
        return None
    depth = 0.08 + 0.5 * min(abs(value) / most, 1.0) if most else 0.0
    return _Cell("gain" if value >= 0 else "loss", depth, number(scale * value, form))


def _draw_heat(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[_Cell | None]]], title: str, width: float
) -> str:
    """Return it as it is given, or, where its columns would be too narrow, on its side; on a phone without empty rows.

    What is too wide on its side as well, as ten years on a phone, is drawn in blocks of nearly equal width, one below
    the other.
    """
    most = int((width - _HEAT_LEFT) / _CELL)  # columns that a block has room for
    if width < WIDTH or len(columns) > most:
        turned = [(name, [cells[place] for _, cells in rows]) for place, name in enumerate(columns)]
        columns, rows = [name for name, _ in rows], turned
    blocks = max(1, -(-len(columns) // most))
    cuts = [len(columns) * block // blocks for block in range(blocks + 1)]
    parts, top = [], 0.0
    wide = min((width - _HEAT_LEFT) / max(1, *(end - begin for begin, end in pairwise(cuts))), 130.0)
    for begin, end in pairwise(cuts):
        kept = [(name, cells[begin:end]) for name, cells in rows]
        if width < WIDTH:
            kept = [(name, cells) for name, cells in kept if any(cells)]
        parts += _draw_block(columns[begin:end], kept, wide, top)
        top += 24.0 + _HEAT_ROW * len(kept) + 4.0
    return draw_svg(top, title, parts, width)


def _draw_block(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[_Cell | None]]], wide: float, top: float
) -> list[str]:
    """Return a block of cells that are so wide, from `top` down: a line of names, 24 units, then the rows."""
    parts = [
        f'<text class="soft" x="{_HEAT_LEFT + wide * (place + 0.5):.1f}" y="{top + 15:.1f}" text-anchor="middle">'
        f"{escape(name)}</text>"
        for place, name in enumerate(columns)
    ]
    for row, (name, cells) in enumerate(rows):
        y = top + 24.0 + _HEAT_ROW * row
        parts.append(
            f'<text class="soft" x="{_HEAT_LEFT - 8:.0f}" y="{y + 19:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        for place, cell in enumerate(cells):
            x = _HEAT_LEFT + wide * place
            look = f'class="{cell.kind}" fill-opacity="{cell.depth:.2f}"' if cell else 'class="none"'
            parts.append(f'<rect {look} x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="28"/>')
            if cell:
                at = f'x="{x + wide / 2:.1f}" y="{y + 19:.1f}"'
                parts.append(f'<text {at} text-anchor="middle">{cell.text}</text>')
    return parts


def draw_exam_against_ledger(models: "Sequence[ModelFigures]", ledger: str) -> str:
    """Return, for each model, its exam's interval of the Sharpe ratio above the one that it showed in `ledger`."""
    spans = [
        (value, interval)
        for model in models
        for value, interval in (
            (model.exam_sharpe, model.exam_interval),
            (model.live.sharpe, model.live.sharpe_interval),
        )
        if value is not None
    ]
    if not spans:
        return '<p class="soft">No model has two sessions or more yet.</p>'
    edges = [0.0, *(edge for value, interval in spans for edge in (interval or (value, value)))]
    span = float(min(edges)), float(max(edges))
    return draw_both(lambda width: _draw_exams(models, ledger, span, width))


def _draw_exams(models: "Sequence[ModelFigures]", ledger: str, span: tuple[float, float], width: float) -> str:
    (low, high), beside = span, width >= WIDTH  # a phone has room for a model's id above its lines, not beside them
    left, row_high = (200.0, 40.0) if beside else (10.0, 58.0)
    height = row_high * len(models) + 34.0

    def to_x(value: float) -> float:
        return left + (width - left - 20.0) * (value - low) / ((high - low) or 1.0)

    parts = draw_uprights(choose_ticks(low, high), to_x, height)
    for row, model in enumerate(models):
        at = (16.0 if beside else 34.0) + row_high * row
        parts.append(f'<text x="0" y="{at + (11 if beside else -14):.0f}">{escape(model.model_id)}</text>')
        for shift, colour, sharpe, between, sessions, whose in (
            (0.0, "var(--c5)", model.exam_sharpe, model.exam_interval, model.exam_sessions, "exam"),
            (14.0, "var(--c0)", model.live.sharpe, model.live.sharpe_interval, model.live.sessions, ledger),
        ):
            if sharpe is None:
                continue
            begin, end = between or (sharpe, sharpe)
            title = (
                f"{model.model_id} {whose}: {format_sharpe(sharpe, sessions, '+.2f')} ({format_interval((begin, end))})"
            )
            parts.append(
                f'<path class="curve main" stroke="{colour}" d="M{to_x(begin):.1f} {at + shift:.0f}H{to_x(end):.1f}"/>'
                f'<circle fill="{colour}" r="5" cx="{to_x(sharpe):.1f}" cy="{at + shift:.0f}">'
                f"<title>{escape(title)}</title></circle>"
            )
    return draw_svg(
        height, f"Sharpe ratio of each model: its exam and what it made in the {ledger} ledger", parts, width
    )


def trade_bins(bins: "Sequence[TradeBin]") -> str:
    """Return the histogram of the trades' net P&L."""
    counted = [(trade.low_usd, trade.high_usd, trade.trades) for trade in bins]
    return _draw_histogram(counted, "trade", "USD", "How many trades made how much, in USD")


def draw_session_bins(bins: "Sequence[SessionBin]") -> str:
    """Return the histogram of the sessions' net P&L; nothing where none made or lost anything."""
    counted = [(100.0 * part.low, 100.0 * part.high, part.sessions) for part in bins]
    return _draw_histogram(counted, "session", "%", "How many sessions made how much, in percent of capital")


def _draw_histogram(bins: Sequence[tuple[float, float, int]], what: str, unit: str, title: str) -> str:
    """Return a bar for each (from, to, how many), of one width with 0 as an edge; nothing without any."""
    if not bins:
        return ""
    most = max(many for _, _, many in bins)
    height, base = 186.0, 150.0
    low, high = bins[0][0], bins[-1][1]
    # two digits of a bar's width: with fewer its two edges, or those of its neighbour, may look the same
    digits = max(2, 1 - math.floor(math.log10((high - low) / len(bins))))

    def to_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1.0)

    parts = []
    for begin, end, many in bins:
        tall = (base - TOP) * many / most if most else 0.0
        kind = "gain" if begin >= 0 else "loss"
        told = f"{count(many, what)} from {format_interval((begin, end), f'+,.{digits}f')} {unit}"
        parts.append(
            f'<rect class="{kind}" x="{to_x(begin) + 1:.1f}" y="{base - tall:.1f}" '
            f'width="{to_x(end) - to_x(begin) - 2:.1f}" '
            f'height="{tall:.1f}"><title>{told}</title></rect>'
        )
    parts += [
        f'<text class="soft" x="{to_x(value):.1f}" y="{base + 25:.0f}" '
        f'text-anchor="middle">{number(value, ",.6g")}</text>'
        for value in choose_ticks(low, high, 8)
    ]
    parts.append(f'<path class="zero" d="M{LEFT:.0f} {base:.0f}H{WIDTH - RIGHT:.0f}"/>')
    parts.append(f'<text class="soft" x="{LEFT - 8:.0f}" y="{TOP + 8:.0f}" text-anchor="end">{most}</text>')
    return draw_svg(height, title, parts)


def draw_importances(features: Sequence[tuple[str, float]], width: float = WIDTH) -> str:
    """Return a bar a feature, the largest first; `features` are names with their share."""
    ranked = sorted(features, key=lambda item: -item[1])
    columns = 2 if width >= WIDTH else 1
    rows = -(-len(ranked) // columns)
    most = (ranked[0][1] if ranked else 0.0) or 1.0
    longest = width / columns - 255.0  # beside a name of 172 units, and the figure behind it
    parts = []
    for place, (name, share) in enumerate(ranked):
        long = longest * share / most
        left = (width / columns + 10.0) * (place // rows)
        y = 20.0 * (place % rows) + 4.0
        parts.append(
            f'<text x="{left + 172:.0f}" y="{y + 11:.0f}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="share" x="{left + 180:.0f}" y="{y + 1:.0f}" width="{long:.1f}" height="13"/>'
            f'<text class="soft" x="{left + 186 + long:.1f}" y="{y + 11:.0f}">{100 * share:.1f} %</text>'
        )
    return draw_svg(20.0 * rows + 8.0, "Importance of each feature in the model in use", parts, width, scrolls=True)


def _list_sessions(report: "PerformanceReport") -> tuple[date, ...]:
    return tuple(date.fromisoformat(day) for day in report.pnl_by_session)


def _place_benchmark(report: "PerformanceReport", *, equal_risk: bool = False) -> list[Point]:
    bench = report.benchmark
    share = 1.0 if bench is None or not equal_risk else bench.equal_risk_share
    if bench is None or share is None:
        return []
    ends = accumulate((100.0 * share * pnl for pnl in bench.pnl_by_session.values()), initial=0.0)
    return [(float(place), value) for place, value in enumerate(ends)]
