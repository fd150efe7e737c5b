"""Draws what was traded: figures, models, tickers, weekdays, hours and the course of the equity."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from hftcl.views import Cell, Styled, draw_sparkline, draw_table, format_interval, format_number, say

_SPARKS_AT_MOST: Final = 60
_FIGURES: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("P&L, net, USD", lambda each: format_number(each.net_usd, "+,.2f")),
    ("P&L, net", lambda each: format_number(each.pnl, "+.3%")),
    ("P&L, gross, USD", lambda each: format_number(each.gross_usd, "+,.2f")),
    ("Sharpe, net", lambda each: format_number(each.sharpe)),
    ("  90 % interval", lambda each: format_interval(each.sharpe_interval)),
    ("P(true Sharpe > 0)", lambda each: format_number(each.psr)),
    ("max drawdown", lambda each: format_number(each.max_drawdown, ".3%")),
    ("trades", lambda each: f"{each.trades:,}"),
    ("win rate", lambda each: format_number(each.hit_rate, ".1%")),
    ("profit factor", lambda each: format_number(each.profit_factor)),
    ("fills", lambda each: f"{each.fills:,}"),
    ("turnover, x capital", lambda each: format_number(each.turnover, ".1f")),
    ("exposure", lambda each: format_number(each.exposure, ".1%")),
    ("commission, USD", lambda each: format_number(each.commission_usd, ",.2f")),
    ("slippage, USD", lambda each: format_number(each.slippage_usd, "+,.2f")),
    ("cost, bp of turnover", lambda each: format_number(each.cost_bps)),
    ("break-even cost, bp", lambda each: format_number(each.break_even_bps)),
)


def draw_performance(report: Any) -> None:
    """Draw a PerformanceReport."""
    label = "SYNTHETIC bars" if report.synthetic else f"bars from {report.source}"
    total = report.total
    say(
        f"{label}, {report.ledger} ledger, {total.sessions} sessions, {report.from_} to {report.to}, capital "
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


def _draw_totals(report: Any) -> None:
    columns = ["", "bot", *(["shadow"] if report.shadow else []), *(["buy and hold"] if report.benchmark else [])]
    bench = report.benchmark
    known = (
        {}
        if bench is None
        else {
            "P&L, net": format_number(bench.pnl, "+.3%"),
            "Sharpe, net": format_number(bench.sharpe),
            "  90 % interval": format_interval(bench.sharpe_interval),
            "max drawdown": format_number(bench.max_drawdown, ".3%"),
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
            f"Cost {total.cost_bps:.2f} bp of turnover against {report.assumed_cost_bps:g} assumed; the P&L would be "
            f"used up at {format_number(total.break_even_bps)} bp."
        )
    if bench is not None:
        note = f"; {bench.note}" if bench.note else ""
        say(
            f"Sharpe less that of buy and hold ({len(bench.tickers)} tickers): "
            f"{format_number(bench.difference, '+.2f')} "
            f"({format_interval(bench.difference_interval)}){note}"
        )


def _draw_models(models: Sequence[Any]) -> None:
    columns = ("model", "sessions", "net USD", "live", "90 %", "exam")  # what fits into 80 columns; --html has more
    rows: list[list[Cell]] = [
        [
            Styled(each.model_id, "bold green" if each.in_use else ""),
            str(each.live.sessions),
            format_number(each.live.net_usd, "+,.2f"),
            format_number(each.live.sharpe),
            format_interval(each.live.sharpe_interval),
            format_number(each.exam_sharpe),
        ]
        for each in models
    ]
    draw_table("Models: Sharpe ratio live, beside that of the exam", columns, rows, numbers=frozenset(range(1, 6)))
    say(f"In use: {next((each.model_id for each in models if each.in_use), 'none')}")


def _draw_parts(kind: str, parts: Sequence[Any]) -> None:
    columns = (kind, "net USD", "turnover", "trades", "won", "profit factor", "cost bp")  # 80 columns; --html has more
    rows = [
        (
            part.name,
            format_number(part.net_usd, "+,.2f"),
            format_number(part.turnover, ".1f"),
            str(part.trades),
            format_number(part.hit_rate, ".1%"),
            format_number(part.profit_factor),
            format_number(part.cost_bps),
        )
        for part in parts
    ]
    title = "By hour in which a position was opened, minutes from the open" if kind == "hour" else f"By {kind}"
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))


def _draw_course(report: Any) -> None:
    total, course = 0.0, [0.0]
    for each in report.pnl_by_session.values():
        total += each
        course.append(total)
    step = -(-len(course) // _SPARKS_AT_MOST)
    shown = [*course[:-1:step], course[-1]]
    say(f"Equity, {report.from_} to {report.to}: {draw_sparkline(shown)} {total:+.2%} of capital")
