"""Draws what was traded: figures, models, tickers, weekdays, hours and the course of the equity."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import bars_of, basis_points, count, interval, money
from hftcl.views import Cell, Styled, draw_sparkline, draw_table, number, say

if TYPE_CHECKING:
    from hftcl.performance.reports import Figures, ModelFigures, PartFigures, PerformanceReport

_SPARKS_AT_MOST: Final = 60  # characters: with the label and the sum it is one line of 120 columns, two of 80
# First what was made, then how sure that is, then what it took.
_FIGURES: "Final[tuple[tuple[str, Callable[[Figures], str]], ...]]" = (
    ("P&L, net, USD", lambda each: money(each.net_usd, signed=True)),
    ("P&L, net", lambda each: number(each.pnl, "+.3%")),
    ("P&L, gross, USD", lambda each: money(each.gross_usd, signed=True)),
    ("Sharpe, net", lambda each: number(each.sharpe)),
    ("  90 % interval", lambda each: interval(each.sharpe_interval)),
    ("P(true Sharpe > 0)", lambda each: number(each.psr)),
    ("max drawdown", lambda each: number(each.max_drawdown, ".3%")),
    ("trades", lambda each: f"{each.trades:,}"),
    ("win rate", lambda each: number(each.hit_rate, ".1%")),
    ("profit factor", lambda each: number(each.profit_factor)),
    ("fills", lambda each: f"{each.fills:,}"),
    ("turnover, x capital", lambda each: number(each.turnover, ".1f")),
    ("exposure", lambda each: number(each.exposure, ".1%")),
    ("commission, USD", lambda each: money(each.commission_usd)),
    ("slippage, USD", lambda each: money(each.slippage_usd)),
    ("cost, bp of turnover", lambda each: number(each.cost_bps)),
    ("break-even cost, bp", lambda each: number(each.break_even_bps)),
)


def draw_performance(report: "PerformanceReport") -> None:
    """Draw a PerformanceReport."""
    label, total = bars_of(report.source, synthetic=report.synthetic), report.total
    say(
        f"{label}, {report.ledger} ledger, {count(total.sessions, 'session')}, {report.from_} to {report.to}, capital "
        f"{report.capital_usd:,.0f} USD",
        "bold magenta" if report.synthetic else "",
    )
    for note in report.notes:
        say(f"note: {note}", "yellow")
    _draw_totals(report)
    _draw_models(report.models)
    for kind, parts in (("ticker", report.tickers), ("weekday", report.weekdays), ("hour", report.hours)):
        _draw_parts(kind, parts)
    _draw_course(report)


def _draw_totals(report: "PerformanceReport") -> None:
    columns = ["", "bot", *(["shadow"] if report.shadow else []), *(["buy and hold"] if report.benchmark else [])]
    bench = report.benchmark
    known = (
        {}
        if bench is None
        else {
            "P&L, net": number(bench.pnl, "+.3%"),
            "Sharpe, net": number(bench.sharpe),
            "  90 % interval": interval(bench.sharpe_interval),
            "max drawdown": number(bench.max_drawdown, ".3%"),
        }
    )
    rows = [
        [
            name,
            form(report.total),
            *([form(report.shadow)] if report.shadow else []),
            *([known.get(name, "")] if bench else []),
        ]
        for name, form in _FIGURES
    ]
    draw_table("Performance, net of every cost", columns, rows, numbers=frozenset(range(1, len(columns))))
    total = report.total
    if total.cost_bps is not None:
        say(
            f"Cost {basis_points(total.cost_bps)} of turnover against {basis_points(report.assumed_cost_bps)} assumed; "
            f"the P&L would be used up at {basis_points(total.break_even_bps)}."
        )
    if bench is not None:
        note = f"; {bench.note}" if bench.note else ""
        say(
            f"Sharpe less that of buy and hold ({count(len(bench.tickers), 'ticker')}): "
            f"{number(bench.difference, '+.2f')} ({interval(bench.difference_interval)}){note}"
        )


def _draw_models(models: "Sequence[ModelFigures]") -> None:
    columns = ("model", "sessions", "net USD", "live", "90 %", "exam")  # what fits into 80 columns; --html has more
    rows: list[list[Cell]] = [
        [
            Styled(each.model_id, "bold green" if each.in_use else ""),
            str(each.live.sessions),
            money(each.live.net_usd, signed=True),
            number(each.live.sharpe),
            interval(each.live.sharpe_interval),
            number(each.exam_sharpe),
        ]
        for each in models
    ]
    draw_table("Models: Sharpe ratio live, beside that of the exam", columns, rows, numbers=frozenset(range(1, 6)))
    say(f"In use: {next((each.model_id for each in models if each.in_use), 'none')}")


def _draw_parts(kind: str, parts: "Sequence[PartFigures]") -> None:
    columns = (kind, "net USD", "turnover", "trades", "won", "profit factor", "cost bp")  # 80 columns; --html has more
    rows = [
        (
            part.name,
            money(part.net_usd, signed=True),
            number(part.turnover, ".1f"),
            f"{part.trades:,}",
            number(part.hit_rate, ".1%"),
            number(part.profit_factor),
            number(part.cost_bps),
        )
        for part in parts
    ]
    title = "By hour in which the position was opened, on the clock of the exchange" if kind == "hour" else f"By {kind}"
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))


def _draw_course(report: "PerformanceReport") -> None:
    total, course = 0.0, [0.0]
    for each in report.pnl_by_session.values():
        total += each
        course.append(total)
    step = -(-len(course) // _SPARKS_AT_MOST)
    shown = [*course[:-1:step], course[-1]]
    say(f"Equity, {report.from_} to {report.to}: {draw_sparkline(shown)} {number(total, '+.2%')} of capital")
