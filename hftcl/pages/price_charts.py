"""A price chart for each ticker that was traded, with the entry and the exit of each trade on it."""

from html import escape
from typing import TYPE_CHECKING

from hftcl.formats import count, format_moment, format_money, number
from hftcl.pages.chart_data import ChartData, ChartLine, enliven
from hftcl.pages.plot import Plot

if TYPE_CHECKING:
    from hftcl.performance.prices import PriceCharts, PricePoint, TradedPrices
    from hftcl.performance.reports import PerformanceReport, TradeRow


def draw_prices(prices: "PriceCharts", report: "PerformanceReport") -> list[str]:
    """Return the charts, and what they leave out."""
    if not prices.charts:
        return []
    listed = count(len(report.trades), "trade")
    whole = (
        f"all {listed}"
        if len(report.trades) == report.total.trades
        else (f"the newest {listed} of {report.total.trades:,}")
    )
    rest = prices.left_out
    left_out = (
        f" Left out: {count(len(rest), 'ticker')} that {'was' if len(rest) == 1 else 'were'} traded less: "
        f"{escape(', '.join(rest[:12]))}{' and others' if len(rest) > 12 else ''}."
        if rest
        else ""
    )
    return [
        "<h2>Prices, USD</h2>",
        f'<p class="soft">Entries and exits of {whole}. Upwards bought, downwards sold; pale: the exit. The hours '
        f"between two sessions are left out.{left_out}</p>",
        *(_draw_chart(chart, number_) for number_, chart in enumerate(prices.charts, start=1)),
    ]


def _draw_chart(chart: "TradedPrices", place: int) -> str:
    marks = [*chart.entries, *chart.exits]
    values = [point.price for point in (*chart.points, *(point for point, _ in marks))]
    plot = Plot.fit_around(chart.sessions, values, height=220.0)
    points = [(point.place, point.price) for point in chart.points]
    shapes = [plot.draw_line(points, 0, 'class="curve" stroke="var(--c5)"')]
    shapes += [_draw_mark(plot, point, trade, opens=True) for point, trade in chart.entries]
    shapes += [_draw_mark(plot, point, trade, opens=False) for point, trade in chart.exits]
    data = ChartData(
        name=f"price-{place}",  # by its place: a ticker may hold what no id may
        labels=[format_moment(point.ts) for point in chart.points],
        lines=[ChartLine(name="", x=[x for x, _ in points], y=[y for _, y in points])],
        digits=_count_digits(values),
        unit="USD",
        scale="price",
    )
    note = f' <span class="soft">{escape(chart.note)}</span>' if chart.note else ""
    title = f"Price of {chart.ticker} in USD with the entries and exits of its trades"
    return f"<h3>{escape(chart.ticker)}{note}</h3>{enliven(plot.draw(title, shapes), data)}"


def _draw_mark(plot: Plot, point: "PricePoint", trade: "TradeRow", *, opens: bool) -> str:
    bought = (trade.quantity > 0) == opens
    x, y = plot.to_x(point.place), plot.to_y(point.price)
    shape = f"M{x:.1f} {y:.1f}l-4.5 {8 if bought else -8}h9z"
    what = "bought" if bought else "sold"
    result = "" if opens else f", made {format_money(trade.net_usd, signed=True)} USD"
    title = (
        f"{what} {number(abs(trade.quantity), ',.6g')} at {point.price:,.4f}, {format_moment(point.ts)} UTC"
        f"{'' if opens else ', the exit'}{result}"
    )
    return (
        f'<path class="{"buy" if bought else "sell"}{"" if opens else " exit"}" d="{shape}" '
        f'data-x="{point.place:.6g}" data-y="{point.price:.8g}"><title>{title}</title></path>'
    )


def _count_digits(values: list[float]) -> int:
    """Return how many digits behind the point a price has: cents, or four figures of what costs less than a dollar."""
    return 2 if min(values, default=1.0) >= 1.0 else 4
