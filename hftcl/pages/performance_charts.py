"""The charts of the performance page: curves over sessions, heat maps, intervals, bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import count, interval, number, sharpe_ratio
from hftcl.pages.drawing import LEFT, RIGHT, TOP, WIDTH, grid, svg, ticks, uprights

if TYPE_CHECKING:
    from hftcl.performance.reports import ModelFigures, PerformanceReport, TradeBin

Point = tuple[float, float]
_BELOW: Final = 26.0  # units of the drawing: one line of labels under a chart
_LABEL_PX: Final = 58.0  # a date of seven characters, and air
_MODEL_PX: Final = 122.0  # a model's id of fifteen characters, and air
# By hand: strftime would give them in the language of the machine, and the same report must give the same bytes.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_LABELS_UP_TO: Final = 45  # sessions; beyond it the months are named


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart over `sessions`: place k is the end of session k, 0 the start of the first; `low` to `high` upwards."""

    sessions: tuple[date, ...]
    low: float
    high: float
    height: float

    @classmethod
    def fit_around(cls, sessions: Sequence[date], values: Sequence[float], *, height: float) -> "Plot":
        """Return the plot that holds `values` with a little air."""
        low, high = min(values, default=0.0), max(values, default=0.0)
        pad = 0.06 * (high - low) or 0.5
        return cls(tuple(sessions), low - (pad if low else 0.0), high + (pad if high else 0.0), height)

    def x(self, place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / max(len(self.sessions), 1)

    def y(self, value: float) -> float:
        return TOP + (self.bottom - TOP) * (self.high - value) / ((self.high - self.low) or 1.0)

    @property
    def bottom(self) -> float:
        """Where the plot ends and the dates begin."""
        return self.height - _BELOW

    def axes(self) -> list[str]:
        """Return the lines and labels of both axes."""
        return [*grid(ticks(self.low, self.high, max(3, int(self.height / 45))), self.y), *self._dates()]

    def path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{self.x(place):.1f},{self.y(value):.1f}" for place, value in points)

    def _dates(self) -> list[str]:
        by_day = len(self.sessions) <= _DAY_LABELS_UP_TO
        labels, last = [], -math.inf
        for place, day in enumerate(self.sessions):
            at = self.x(place + 0.5) if by_day else self.x(place)
            begins = by_day or place == 0 or day.month != self.sessions[place - 1].month
            if not begins or at - last < _LABEL_PX or at > WIDTH - RIGHT - 18:
                continue
            anchor = "middle" if by_day or place else "start"
            last = at if anchor == "middle" else at + _LABEL_PX / 2
            text = f"{day:%m-%d}" if by_day else f"{day:%Y-%m}"
            labels.append(
                f'<path class="tick" d="M{at:.1f} {TOP:.0f}V{self.bottom:.0f}"/>'
                f'<text class="soft" x="{at:.1f}" y="{self.height - 7:.0f}" text-anchor="{anchor}">{text}</text>'
            )
        return labels


def places(report: "PerformanceReport") -> list[Point]:
    """Return the equity curve as (place, % of capital), from (0, 0); a session's points are spread evenly over it."""
    index = {session: place for place, session in enumerate(_sessions(report))}
    count: dict[date, int] = {}
    for point in report.curve:
        count[point.session] = count.get(point.session, 0) + 1
    seen: dict[date, int] = {}
    points = [(0.0, 0.0)]
    for point in report.curve:
        seen[point.session] = seen.get(point.session, 0) + 1
        points.append((index[point.session] + seen[point.session] / count[point.session], 100.0 * point.pnl))
    return points


def equity_plot(report: "PerformanceReport") -> Plot:
    """Return where the equity curve and the watchlist's are drawn."""
    values = [value for _, value in (*places(report), *_benchmark(report))]
    return Plot.fit_around(_sessions(report), values, height=340.0)


def equity(report: "PerformanceReport") -> str:
    """Return the equity curve, the watchlist's beside it, and a mark where another model began to decide."""
    mine, benchmark, plot = places(report), _benchmark(report), equity_plot(report)
    parts = plot.axes()
    if benchmark:
        parts.append(
            f'<polyline class="curve bench" points="{plot.path(benchmark)}"><title>buy and hold</title></polyline>'
        )
    parts.append(f'<polyline class="curve main" stroke="var(--c0)" points="{plot.path(mine)}"/>')
    parts += _swaps(report, plot, mine)
    return svg(plot.height, "Cumulative net P&L in percent of capital, with the models that traded", parts)


def _swaps(report: "PerformanceReport", plot: Plot, mine: Sequence[Point]) -> list[str]:
    parts: list[str] = []
    free = -math.inf
    for swap in report.swaps:
        later = next((place for place, point in enumerate(report.curve) if point.ts >= swap.ts), None)
        at, value = mine[later if later is not None else -1]
        x, y = plot.x(at), plot.y(value)
        title = escape(f"{swap.model_id} decides from {swap.ts:%Y-%m-%d %H:%M} UTC")
        parts.append(f'<path class="swap" d="M{x:.1f} {TOP:.0f}V{plot.bottom:.0f}"/>')
        anchor, shift = ("end", -4.0) if x > WIDTH - _MODEL_PX else ("start", 4.0)
        begins = x - _MODEL_PX if anchor == "end" else x
        if begins >= free:
            parts.append(
                f'<text class="soft" x="{x + shift:.1f}" y="{TOP + 10:.0f}" text-anchor="{anchor}">'
                f"{escape(swap.model_id)}</text>"
            )
            free = begins + _MODEL_PX
        parts.append(
            f'<circle class="mark" fill="var(--c2)" r="4.5" cx="{x:.1f}" cy="{y:.1f}"><title>{title}</title></circle>'
        )
    return parts


def drawdown(report: "PerformanceReport") -> str:
    """Return how far the equity curve lies below its highest point so far."""
    points, top = [], 0.0
    for place, value in places(report):
        top = max(top, value)
        points.append((place, value - top))
    plot = Plot.fit_around(_sessions(report), [value for _, value in points], height=150.0)
    end = points[-1][0]
    area = f"M{plot.x(0):.1f} {plot.y(0):.1f}L{plot.path(points)}L{plot.x(end):.1f} {plot.y(0):.1f}Z"
    parts = [*plot.axes(), f'<path class="under" d="{area}"/>']
    return svg(plot.height, "Drawdown in percent of capital", parts)


def rolling(report: "PerformanceReport") -> str:
    """Return the rolling Sharpe ratio; a place where it is not defined breaks the line."""
    index = {session: place for place, session in enumerate(_sessions(report))}
    runs: list[list[Point]] = [[]]
    for point in report.rolling:
        if point.sharpe is None:
            runs.append([])
        else:
            runs[-1].append((index[point.session] + 1.0, point.sharpe))
    values = [value for run in runs for _, value in run]
    plot = Plot.fit_around(_sessions(report), [0.0, *values], height=170.0)
    parts = plot.axes()
    parts += [f'<polyline class="curve" stroke="var(--c3)" points="{plot.path(run)}"/>' for run in runs if len(run) > 1]
    parts += [
        f'<circle fill="var(--c3)" r="3" cx="{plot.x(run[0][0]):.1f}" cy="{plot.y(run[0][1]):.1f}"/>'
        for run in runs
        if len(run) == 1
    ]
    return svg(plot.height, f"Sharpe ratio over {count(report.rolling_sessions, 'session')}", parts)


def monthly(report: "PerformanceReport") -> str:
    """Return a heat map: a row a year, a column a month, and the year's sum."""
    years = sorted({month[:4] for month in report.months})
    most = max((abs(value) for value in report.months.values()), default=0.0)
    rows = []
    for year in years:
        cells = [report.months.get(f"{year}-{month:02}") for month in range(1, 13)]
        values = [value for value in cells if value is not None]
        rows.append((year, [*cells, sum(values)]))
    texts = [[_percent(value) for value in cells] for _, cells in rows]
    return _heat((*_MONTHS, "Year"), rows, texts, most, "Net P&L by month in percent of capital", strong=12)


def weekly(report: "PerformanceReport") -> str:
    """Return a heat map: a row a weekday, a column an hour of the session."""
    hours = sorted({cell.hour for cell in report.cells})
    days = [part.name for part in report.weekdays]
    net_by_cell = {(cell.weekday, cell.hour): cell.net_usd for cell in report.cells}
    most = max((abs(value) for value in net_by_cell.values()), default=0.0)
    rows = [(day, [net_by_cell.get((day, hour)) for hour in hours]) for day in days]
    texts = [["" if value is None else number(value, "+,.0f") for value in cells] for _, cells in rows]
    names = [{cell.hour: cell.clock for cell in report.cells}[hour] for hour in hours]
    return _heat(names, rows, texts, most, "Net P&L in USD by weekday and hour of the session")


def _percent(value: float | None) -> str:
    return "" if value is None else number(100 * value, "+.2f")


def _heat(
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    texts: Sequence[Sequence[str]],
    most: float,
    title: str,
    *,
    strong: int = -1,
) -> str:
    left, high, top = 48.0, 30.0, 24.0
    wide = min((WIDTH - left) / max(len(columns), 1), 130.0)
    parts = [
        f'<text class="soft" x="{left + wide * (place + 0.5):.1f}" y="15" text-anchor="middle">{name}</text>'
        for place, name in enumerate(columns)
    ]
    for row, ((name, values), row_texts) in enumerate(zip(rows, texts, strict=True)):
        y = top + high * row
        parts.append(f'<text class="soft" x="{left - 8:.0f}" y="{y + 19:.1f}" text-anchor="end">{escape(name)}</text>')
        for place, (value, text) in enumerate(zip(values, row_texts, strict=True)):
            x = left + wide * place
            if value is None:
                parts.append(f'<rect class="none" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="28"/>')
                continue
            kind = "gain" if value >= 0 else "loss"
            depth = 0.0 if place == strong else 0.08 + 0.5 * min(abs(value) / most, 1.0) if most else 0.0
            parts.append(
                f'<rect class="{kind}" fill-opacity="{depth:.2f}" x="{x + 1:.1f}" y="{y + 1:.1f}" '
                f'width="{wide - 2:.1f}" height="28"/><text x="{x + wide / 2:.1f}" y="{y + 19:.1f}" '
                f'text-anchor="middle">{text}</text>'
            )
    return svg(top + high * len(rows) + 4, title, parts)


def exam_against_live(models: "Sequence[ModelFigures]") -> str:
    """Return, for each model, its exam's interval of the Sharpe ratio above the one that it showed live."""
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
    low, high = float(min(edges)), float(max(edges))
    left, height = 170.0, 40.0 * len(models) + 34.0

    def x(value: float) -> float:
        return left + (WIDTH - left - 20.0) * (value - low) / ((high - low) or 1.0)

    parts = uprights(ticks(low, high), x, height)
    for row, model in enumerate(models):
        at = 16.0 + 40.0 * row
        parts.append(f'<text x="0" y="{at + 11:.0f}">{escape(model.model_id)}</text>')
        for shift, colour, sharpe, between, sessions, whose in (
            (0.0, "var(--c5)", model.exam_sharpe, model.exam_interval, model.exam_sessions, "exam"),
            (14.0, "var(--c0)", model.live.sharpe, model.live.sharpe_interval, model.live.sessions, "live"),
        ):
            if sharpe is None:
                continue
            begin, end = between or (sharpe, sharpe)
            title = f"{model.model_id} {whose}: {sharpe_ratio(sharpe, sessions, '+.2f')} ({interval((begin, end))})"
            parts.append(
                f'<path class="curve main" stroke="{colour}" d="M{x(begin):.1f} {at + shift:.0f}H{x(end):.1f}"/>'
                f'<circle fill="{colour}" r="5" cx="{x(sharpe):.1f}" cy="{at + shift:.0f}">'
                f"<title>{escape(title)}</title></circle>"
            )
    return svg(height, "Sharpe ratio of each model: its exam and what it made live", parts)


def trade_bins(bins: "Sequence[TradeBin]") -> str:
    """Return the histogram of the trades' net P&L."""
    most = max((trade_bin.trades for trade_bin in bins), default=0)
    height, base = 180.0, 150.0
    low, high = float(bins[0].low_usd), float(bins[-1].high_usd)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1.0)

    parts = []
    for trade_bin in bins:
        tall = (base - TOP) * trade_bin.trades / most if most else 0.0
        kind = "gain" if trade_bin.low_usd >= -1e-9 else "loss"
        span = interval((trade_bin.low_usd, trade_bin.high_usd), "+,.2f")
        title = f"{count(trade_bin.trades, 'trade')} from {span} USD"
        parts.append(
            f'<rect class="{kind}" x="{x(trade_bin.low_usd) + 1:.1f}" y="{base - tall:.1f}" '
            f'width="{x(trade_bin.high_usd) - x(trade_bin.low_usd) - 2:.1f}" '
            f'height="{tall:.1f}"><title>{title}</title></rect>'
        )
    parts += [
        f'<text class="soft" x="{x(value):.1f}" y="{base + 18:.0f}" text-anchor="middle">{number(value, ",.6g")}</text>'
        for value in ticks(low, high, 8)
    ]
    parts.append(f'<path class="zero" d="M{LEFT:.0f} {base:.0f}H{WIDTH - RIGHT:.0f}"/>')
    parts.append(f'<text class="soft" x="{LEFT - 8:.0f}" y="{TOP + 8:.0f}" text-anchor="end">{most}</text>')
    return svg(height, "How many trades made how much, in USD", parts)


def importances(features: Sequence[tuple[str, float]]) -> str:
    """Return a bar a feature, the largest first; `features` are names with their share."""
    ranked = sorted(features, key=lambda item: -item[1])
    columns = 2
    rows = -(-len(ranked) // columns)
    most = (ranked[0][1] if ranked else 0.0) or 1.0
    parts = []
    for place, (name, share) in enumerate(ranked):
        left = (WIDTH / columns + 10.0) * (place // rows)
        y = 20.0 * (place % rows) + 4.0
        parts.append(
            f'<text x="{left + 172:.0f}" y="{y + 11:.0f}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="share" x="{left + 180:.0f}" y="{y + 1:.0f}" width="{225 * share / most:.1f}" height="13"/>'
            f'<text class="soft" x="{left + 186 + 225 * share / most:.1f}" y="{y + 11:.0f}">{100 * share:.1f} %</text>'
        )
    return svg(20.0 * rows + 8.0, "Importance of each feature in the model in use", parts)


def _sessions(report: "PerformanceReport") -> tuple[date, ...]:
    return tuple(date.fromisoformat(day) for day in report.pnl_by_session)


def _benchmark(report: "PerformanceReport") -> list[Point]:
    if report.benchmark is None:
        return []
    total, points = 0.0, [(0.0, 0.0)]
    for place, day_pnl in enumerate(report.benchmark.pnl_by_session.values(), start=1):
        total += day_pnl
        points.append((float(place), 100.0 * total))
    return points
