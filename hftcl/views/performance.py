"""Draws what was traded: figures, models, tickers, weekdays, hours and the course of the equity."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import count, describe_bars, format_basis_points, format_interval, format_money, format_sharpe
from hftcl.views import Cell, Styled, draw_sparkline, draw_table, explain_words, number, say

if TYPE_CHECKING:
    from hftcl.performance.reports import Figures, ModelFigures, PartFigures, PerformanceReport

_SPARKS_AT_MOST: Final = 60  # characters: with the label and the sum it is one line of 120 columns, two of 80
# First what was made, then how sure that is, then what it took.
_FIGURES: "Final[tuple[tuple[str, Callable[[Figures], str]], ...]]" = (
    ("P&L, net, USD", lambda figures: format_money(figures.net_usd, signed=True)),
    ("P&L, net", lambda figures: number(figures.pnl, "+.3%")),
    ("P&L, gross, USD", lambda figures: format_money(figures.gross_usd, signed=True)),
    ("Sharpe, net", lambda figures: format_sharpe(figures.sharpe, figures.sessions)),
    ("  90 % interval", lambda figures: format_interval(figures.sharpe_interval)),
    ("P(true Sharpe > 0)", lambda figures: number(figures.psr)),
    ("max drawdown", lambda figures: number(figures.max_drawdown, ".3%")),
    ("trades", lambda figures: f"{figures.trades:,}"),
    ("win rate", lambda figures: number(figures.hit_rate, ".1%")),
    ("profit factor", lambda figures: number(figures.profit_factor)),
    ("fills", lambda figures: f"{figures.fills:,}"),
    ("turnover, x capital", lambda figures: number(figures.turnover, ".1f")),
    ("exposure", lambda figures: number(figures.exposure, ".1%")),
    ("commission, USD", lambda figures: format_money(figures.commission_usd)),
    ("slippage, USD", lambda figures: format_money(figures.slippage_usd)),
    ("  beyond the open, USD", lambda figures: format_money(figures.fill_cost_usd)),
    ("  timing, USD", lambda figures: format_money(figures.timing_usd)),
    ("fees, dividends, interest", lambda figures: format_money(figures.charges_usd, signed=True)),
    ("cost, bp of turnover", lambda figures: number(figures.cost_bps)),
    ("break-even cost, bp", lambda figures: number(figures.break_even_bps)),
)


def draw_performance(report: "PerformanceReport") -> None:
    """Draw a PerformanceReport."""
    label, total = describe_bars(report.source, synthetic=report.synthetic), report.total
    say(
        f"{label}, {report.ledger} ledger, {count(total.sessions, 'session')}, {report.from_} to {report.to}, capital "
        f"{report.capital_usd:,.0f} USD",
        "bold magenta" if report.synthetic else "",
    )
    for note in report.notes:
        say(f"note: {note}", "yellow")
    _draw_totals(report)
    draw_models(report.models, report.ledger)
    for kind, parts in (("ticker", report.tickers), ("weekday", report.weekdays), ("hour", report.hours)):
        draw_parts(kind, parts)
    _draw_equity(report)


def _draw_totals(report: "PerformanceReport") -> None:
    columns = ["", "bot", *(["shadow"] if report.shadow else []), *(["buy and hold"] if report.benchmark else [])]
    bench = report.benchmark
    bench_cells = (
        {}
        if bench is None
        else {
            "P&L, net": number(bench.pnl, "+.3%"),
            "Sharpe, net": format_sharpe(bench.sharpe, len(bench.pnl_by_session)),
            "  90 % interval": format_interval(bench.sharpe_interval),
            "max drawdown": number(bench.max_drawdown, ".3%"),
        }
    )
    rows = [
        [
            name,
            form(report.total),
            *([form(report.shadow)] if report.shadow else []),
            *([bench_cells.get(name, "")] if bench else []),
        ]
        for name, form in _FIGURES
    ]
    draw_table("Performance, net of every cost", columns, rows, numbers=frozenset(range(1, len(columns))))
    total = report.total
    if total.cost_bps is not None:
        say(
            f"Cost {format_basis_points(total.cost_bps)} of turnover against "
            f"{format_basis_points(report.assumed_cost_bps)} assumed; "
            f"the P&L would be used up at {format_basis_points(total.break_even_bps)}."
        )
    if bench is not None:
        note = f"; {bench.note}" if bench.note else ""
        less = f"{number(bench.difference, '+.2f')} ({format_interval(bench.difference_interval)})"
        if bench.difference is None:
            less = f"not defined over {count(len(bench.pnl_by_session), 'session')}"
        say(f"Sharpe less that of buy and hold ({count(len(bench.tickers), 'ticker')}): {less}{note}")


def draw_models(models: "Sequence[ModelFigures]", ledger: str) -> None:
    """Draw what each model made, beside what its exam had said; ledger: the head of the column of its Sharpe ratio."""
    columns = ("model", "sessions", "net USD", ledger, "90 %", "exam")  # what fits into 80 columns; --html has more
    rows: list[list[Cell]] = [
        [
            Styled(model.model_id, "bold green" if model.in_use else ""),
            str(model.live.sessions),
            format_money(model.live.net_usd, signed=True),
            format_sharpe(model.live.sharpe, model.live.sessions),
            format_interval(model.live.sharpe_interval),
            format_sharpe(model.exam_sharpe, model.exam_sessions),
        ]
        for model in models
    ]
    title = f"Models: Sharpe ratio in the {ledger} ledger, beside that of the exam"
    draw_table(title, columns, rows, numbers=frozenset(range(1, 6)))
    explain_words("exam")
    say(f"In use: {next((model.model_id for model in models if model.in_use), 'none')}")


def draw_parts(kind: str, parts: "Sequence[PartFigures]") -> None:
    """Draw the parts of the P&L; kind: what each of them is, such as "ticker"."""
    columns = (kind, "net USD", "turnover", "trades", "won", "profit factor", "cost bp")  # 80 columns; --html has more
    rows = [
        (
            part.name,
            format_money(part.net_usd, signed=True),
            number(part.turnover, ".1f"),
            f"{part.trades:,}",
            number(part.hit_rate, ".1%"),
            number(part.profit_factor),
            number(part.cost_bps),
        )
        for part in parts
    ]
    by_hour = "By hour of the exchange's clock: the shares opened, and the trades begun in it"
    title = by_hour if kind == "hour" else f"By {kind}"
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))


def _draw_equity(report: "PerformanceReport") -> None:
    total, equity = 0.0, [0.0]
    for day_pnl in report.pnl_by_session.values():
        total += day_pnl
        equity.append(total)
    step = -(-len(equity) // _SPARKS_AT_MOST)
    shown = [*equity[:-1:step], equity[-1]]
    say(f"Equity, {report.from_} to {report.to}: {draw_sparkline(shown)} {number(total, '+.2%')} of capital")
