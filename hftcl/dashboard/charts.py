"""The charts of the dashboard alone, from what the HTML pages draw with. Each is drawn for a width in its own units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from hftcl.formats import format_clock, format_moment, number
from hftcl.market.bars import MINUTE
from hftcl.pages.chart_data import ChartData, ChartLine
from hftcl.pages.drawing import LEFT, RIGHT, TOP, choose_ticks, draw_grid, draw_svg, group

if TYPE_CHECKING:
    from hftcl.dashboard.contents import TickerSession
    from hftcl.learning.stories.record import RecordRow

WIDE: Final = 960.0  # as the reports' charts
HALF: Final = 620.0  # of a chart in one of two columns
_BELOW: Final = 40.0  # the strip of decisions and the clock under the prices
_STRIP: Final = 10.0  # high enough to tell colours apart
_SESSIONS: Final = 103  # of a record: 6 units of a screen for each, 3 of a phone, so that one is told from the next
_HOUR_PX: Final = 62.0  # "09:30", and air


def draw_record(rows: "Sequence[RecordRow]", width: float) -> str:
    """Return a bar for each of the newest recorded sessions, net P&L in % of capital; those that do not count are pale.

    As many of whatever width: each drawing is read out, and cut to a part, by the figures of the chart.
    """
    shown = rows[-_SESSIONS:]
    if not shown:
        return ""
    values = [100 * row.net for row in shown]
    low, high = min(0.0, *values), max(0.0, *values)
    height, pad = 150.0, 0.08 * (high - low) or 0.1
    low, high = low - (pad if low < 0 else 0.0), high + pad
    bottom = height - 24.0
    step = (width - LEFT - RIGHT) / len(shown)

    def to_y(value: float) -> float:
        return TOP + (bottom - TOP) * (high - value) / (high - low)

    axes = draw_grid(choose_ticks(low, high, 3), to_y, width)
    bars = []
    begins = len(rows) - len(shown)
    for place, (row, value) in enumerate(zip(shown, values, strict=True)):
        top, base = sorted((to_y(value), to_y(0.0)))
        kind = "gain" if value >= 0 else "loss"
        counts = "" if row.counts else " pale"
        title = f"{row.session}: {number(row.net, '+.3%')}{'' if row.counts else ', ' + row.why}"
        nth = begins + place
        bars.append(
            f'<rect class="{kind}{counts}" x="{LEFT + place * step + 0.5:.1f}" y="{top:.1f}" '
            f'width="{max(step - 1, 0.8):.1f}" height="{max(base - top, 0.8):.1f}" '
            f'data-x="{nth + 0.04:.2f}" data-x2="{nth + 0.96:.2f}" data-y="{value:.6g}">'
            f"<title>{escape(title)}</title></rect>"
        )
    for place, anchor in ((0, "start"), (len(shown) - 1, "end")):
        x = LEFT if anchor == "start" else width - RIGHT
        if place == 0 or len(shown) > 1:
            axes.append(
                f'<text class="soft" x="{x:.0f}" y="{height - 6:.0f}" text-anchor="{anchor}">'
                f"{shown[place].session}</text>"
            )
    sides = (LEFT, TOP, width - RIGHT, bottom, begins, len(rows), low, high)
    title = "Net P&L of each recorded session in percent of capital"
    return draw_svg(height, title, [group("axes", axes), group("plot", bars)], width, frame=sides)


def build_record_chart(rows: "Sequence[RecordRow]") -> ChartData:
    """Return what the record's chart is read out from: the sessions that are drawn."""
    shown = range(max(0, len(rows) - _SESSIONS), len(rows))
    return ChartData(
        name="record",
        labels=[f"{rows[place].session}{'' if rows[place].counts else ', does not count'}" for place in shown],
        lines=[ChartLine(name="", x=[place + 0.5 for place in shown], y=[100 * rows[place].net for place in shown])],
        digits=3,
        unit="%",
        signed=True,
        scale="symmetric",
    )


def draw_day(day: "TickerSession", width: float) -> str:
    """Return the session's prices with each fill on them, and under them what was wanted minute by minute."""
    marks = [(row["ts"], row["price"]) for row in day.fills.iter_rows(named=True)]
    lines = day.bars.select("ts", "low", "high", "close").rows() if day.bars.height else []
    values = [price for _, price in marks] + [price for _, low, high, _ in lines for price in (low, high)]
    if not values and day.decisions.is_empty():
        return ""
    height = 360.0 if width >= WIDE else 300.0
    if not values:
        height = TOP + 2 * _BELOW  # no price is known: the strip alone
    bottom = height - _BELOW
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.06 * (high - low) or 0.001 * high
    low, high = low - pad, high + pad
    stamps = [at for at, *_ in lines] + [at for at, _ in marks] + day.decisions["ts"].to_list()
    begin, end = min([day.opens, *stamps]), max([day.closes, *(at + MINUTE for at in stamps)])
    scale = _DayScale(begin, end)

    def to_x(at: datetime) -> float:
        return LEFT + (width - LEFT - RIGHT) * float((at - begin) / (end - begin))

    def to_y(price: float) -> float:
        return float(TOP + (bottom - TOP) * (high - price) / (high - low))

    axes = [
        *(draw_grid(choose_ticks(low, high, 5), to_y, width) if values else ()),
        *_draw_clock(day, begin, end, to_x, height),
    ]
    parts = []
    if lines:
        upper = [f"{to_x(at):.1f},{to_y(top):.1f}" for at, _, top, _ in lines]
        lower = [f"{to_x(at):.1f},{to_y(least):.1f}" for at, least, _, _ in reversed(lines)]
        points = " ".join(upper + lower)
        parts.append(f'<polygon class="range" points="{points}" data-series="1" data-lower="2"/>')
        closes = " ".join(f"{to_x(at):.1f},{to_y(close):.1f}" for at, _, _, close in lines)
        parts.append(f'<polyline class="curve close" points="{closes}" data-series="0"/>')
    parts += _draw_decisions(day, to_x, height, scale)
    parts += _draw_fills(day, to_x, to_y, scale)
    title = f"{day.ticker} on {day.session}: price in USD, fills, and the position that was wanted"
    sides = (LEFT, TOP, width - RIGHT, bottom, 0.0, scale.place(end), low, high)
    return draw_svg(height, title, [group("axes", axes), group("plot", parts)], width, frame=sides if lines else ())


@dataclass(frozen=True, slots=True)
class _DayScale:
    """The minutes of a chart of one session, from `begin` to `end`, UTC."""

    begin: datetime
    end: datetime

    def place(self, at: datetime) -> float:
        """Return the minutes since the chart's begin."""
        return (at - self.begin) / MINUTE


def build_day_chart(day: "TickerSession") -> ChartData | None:
    """Return what a session's chart is read out from; None without a bar."""
    if not day.bars.height:
        return None
    stamps = [day.opens, *day.bars["ts"], *day.fills["ts"], *day.decisions["ts"]]
    begin, bars = min(stamps), day.bars.select("ts", "close", "high", "low").rows()
    zone = ZoneInfo(day.zone)
    return ChartData(
        name="day",
        labels=[format_moment(at.astimezone(zone)) for at, *_ in bars],
        lines=[
            ChartLine(name="close", x=[(at - begin) / MINUTE for at, *_ in bars], y=[close for _, close, _, _ in bars]),
            ChartLine(name="high", y=[high for _, _, high, _ in bars]),
            ChartLine(name="low", y=[low for _, _, _, low in bars]),
        ],
        unit="USD",
        scale="price",
    )


def _draw_clock(day: "TickerSession", begin: datetime, end: datetime, x: "_Scale", height: float) -> list[str]:
    """Return the hours of the exchange's clock, as many as have room."""
    zone, parts, last = ZoneInfo(day.zone), [], -_HOUR_PX
    first = begin.astimezone(zone).replace(minute=0, second=0) + timedelta(hours=1)
    hours = [begin.astimezone(zone), *(first + timedelta(hours=n) for n in range(25))]
    for at in hours:
        if at > end or x(at) - last < _HOUR_PX or x(end) - x(at) < _HOUR_PX / 3:
            continue
        last = x(at)
        parts.append(
            f'<path class="tick" d="M{last:.1f} {TOP:.0f}V{height - _BELOW:.0f}"/>'
            f'<text class="soft" x="{last:.1f}" y="{height - 6:.0f}" '
            f'text-anchor="{"start" if at == hours[0] else "middle"}">{format_clock(at)}</text>'
        )
    return parts


def _draw_decisions(day: "TickerSession", x: "_Scale", height: float, scale: _DayScale) -> list[str]:
    """Return a strip: runs of minutes in which the wanted position was long, short or none, or nothing was decided."""
    parts: list[str] = []
    runs: list[tuple[str, datetime, datetime, float | None]] = []
    for row in day.decisions.sort("ts").iter_rows(named=True):
        target = row["target"]
        kind = "held" if target is None else "long" if target > 0 else "short" if target < 0 else "flat"
        if runs and runs[-1][0] == kind and row["ts"] - runs[-1][2] <= MINUTE:
            runs[-1] = (kind, runs[-1][1], row["ts"], runs[-1][3])
        else:
            runs.append((kind, row["ts"], row["ts"], target))
    for kind, first, last, _ in runs:
        wide = x(last + MINUTE) - x(first)
        title = f"{_KINDS[kind]} {format_moment(first)} to {format_clock(last)} UTC"
        parts.append(
            f'<rect class="{kind}" x="{x(first):.1f}" y="{height - _BELOW + 6:.1f}" width="{max(wide, 0.6):.1f}" '
            f'height="{_STRIP:.0f}" data-x="{scale.place(first):g}" data-x2="{scale.place(last + MINUTE):g}">'
            f"<title>{title}</title></rect>"
        )
    return parts


_KINDS: Final = {"long": "long wanted", "short": "short wanted", "flat": "no position wanted", "held": "not decided"}


def _draw_fills(day: "TickerSession", x: "_Scale", y: "_Scale", scale: _DayScale) -> list[str]:
    parts = []
    for row in day.fills.iter_rows(named=True):
        at, price, bought = x(row["ts"]), y(row["price"]), row["quantity"] > 0
        way = 1.0 if bought else -1.0
        shape = f"M{at:.1f} {price:.1f}l-4.5 {8 * way:.1f}h9z"
        what = f"{number(row['quantity'], '+,.10g')} at {row['price']:,.4f}, {format_moment(row['ts'])} UTC"
        data = f'data-x="{scale.place(row["ts"]):g}" data-y="{row["price"]:.8g}"'
        parts.append(f'<path class="{"bought" if bought else "sold"}" d="{shape}" {data}><title>{what}</title></path>')
    return parts


if TYPE_CHECKING:
    from collections.abc import Callable

    _Scale = Callable[..., float]
