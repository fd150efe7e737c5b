"""Draws what several commands tell of bars and scores: coverage, findings, figures, slices, worth."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import format_interval, format_moment, format_sharpe
from hftcl.views import draw_table, number, say

if TYPE_CHECKING:
    from hftcl.learning.reports import FindingReport, ScoreReport, WorthReport
    from hftcl.market.received import SessionCoverage, TickerCoverage

_SHOWN_DAYS: Final = 5  # the newest sessions of a ticker that are not whole; --json has all of them


def draw_coverage(tickers: "Sequence[TickerCoverage]") -> None:
    """Draw what came of what was to be expected, a row a ticker, and its sessions that are not whole."""
    columns = ("bars of", "sessions", "expected", "received", "missing", "quarantined", "revised")
    rows: list[tuple[str, ...]] = []
    for item in tickers:
        name = f"{item.ticker} (context)" if item.context else item.ticker
        rows.append((name, str(item.sessions), *_list_counts(item, item.missing)))
        rows += [
            ("", str(day.session), *_list_counts(day, day.expected - day.received))
            for day in item.incomplete[-_SHOWN_DAYS:]
        ]
    draw_table("Coverage, regular minutes", columns, rows, numbers=frozenset(range(2, 7)))


def _list_counts(item: "TickerCoverage | SessionCoverage", missing: int) -> tuple[str, ...]:
    return tuple(f"{n:,}" for n in (item.expected, item.received, missing, item.quarantined, item.revised))


SCORE_ROWS: "Final[tuple[tuple[str, Callable[[ScoreReport], str]], ...]]" = (
    ("Sharpe, net", lambda s: format_sharpe(s.sharpe, len(s.pnl_by_session))),
    ("  90 % interval", lambda s: format_interval(s.sharpe_interval, ".1f")),
    ("Sharpe, gross", lambda s: format_sharpe(s.gross_sharpe, len(s.pnl_by_session))),
    ("P(true Sharpe > 0)", lambda s: number(s.psr)),
    ("P&L, net", lambda s: number(s.pnl, "+.3%")),
    ("P&L, gross", lambda s: number(s.gross_pnl, "+.3%")),
    ("cost", lambda s: number(s.cost, ".3%")),
    ("break-even cost, bp a trade", lambda s: number(s.worth.break_even_bps, ".2f")),
    ("turnover, x capital", lambda s: number(s.turnover, ".1f")),
    ("trades", lambda s: f"{s.trades:,}"),
    ("hit rate", lambda s: number(s.hit_rate, ".1%")),
    ("max drawdown", lambda s: number(s.max_drawdown, ".3%")),
    ("exposure", lambda s: number(s.exposure, ".1%")),
    ("information coefficient", lambda s: number(s.information_coefficient, "+.4f")),
)


def draw_worth(worth: "WorthReport") -> None:
    """Draw what a signal earns by the minutes that it is held, and the sentence that says what is at fault."""
    if worth.fades:
        rows = [
            ("a signal earns", *(f"{held.earned_bps:+.1f}" for held in worth.fades)),
            ("  standard error", *(number(held.error_bps, ".1f") for held in worth.fades)),
            ("a trade may cost", *(f"{held.break_even_bps:+.2f}" for held in worth.fades)),
        ]
        columns = ("", *(f"{held.minutes} min" for held in worth.fades))
        title = "What a signal is worth by the minutes held, before cost, bp"
        draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    say(worth.conclusion, "bold")


def say_novel(report: "ScoreReport") -> None:
    if report.novel_share is not None:
        say(f"{report.novel_share:.1%} of the bars lay too far from the training for a signal.")


def draw_slices(report: "ScoreReport", whose: str) -> None:
    for by, parts in report.slices.items():
        detailed = any(part.detail for part in parts)
        rows = [
            (
                part.name,
                number(part.net, "+.3%"),
                number(part.gross, "+.3%"),
                number(part.turnover, ".1f"),
                f"{part.trades:,}",
                number(part.held_share, ".1%"),
                *([part.detail] if detailed else []),
            )
            for part in parts
        ]
        columns = (by, "net P&L", "gross P&L", "turnover", "trades", "held", *(["which"] if detailed else []))
        draw_table(f"{whose} by {by}", columns, rows, numbers=frozenset(range(1, 6)))
    days = [(day, number(net, "+.3%")) for day, net in report.pnl_by_session.items()]
    draw_table(f"{whose} by session", ("session", "net P&L"), days, numbers=frozenset({1}))


def draw_findings(findings: "Sequence[FindingReport]", *, everything: bool) -> None:
    if not findings:
        return
    if not everything:
        counts: dict[str, int] = {}
        for item in findings:
            counts[item.reason] = counts.get(item.reason, 0) + item.count
        text = ", ".join(f"{reason} {bars:,}" for reason, bars in sorted(counts.items()))
        say(f"findings in the bars: {text} (-v lists them)", "yellow")
        return
    rows = [(item.ticker, item.reason, f"{item.count:,}", format_moment(item.first), item.detail) for item in findings]
    draw_table(
        "Findings in the bars", ("ticker", "reason", "count", "first, UTC", "detail"), rows, numbers=frozenset({2})
    )
