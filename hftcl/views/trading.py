"""Draws the bot: a replay, its status, its end, the kill switch; and what it says while it works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from hftcl.formats import (
    UNDEFINED,
    count,
    describe_bars,
    format_moment,
    format_money,
    format_quantity,
    list_left_out,
    number,
)
from hftcl.values import Value, value_class
from hftcl.views import Cell, Styled, draw_sparkline, draw_table, say

if TYPE_CHECKING:
    import polars as pl

    from hftcl.trading.run.kill_switch import ClearReport, HaltReport
    from hftcl.trading.run.replay_report import ReplayReport
    from hftcl.trading.run.status import BookStatus, StatusReport, Usage
    from hftcl.trading.run.trade_report import TradeReport


def draw_replay(report: "ReplayReport") -> None:
    """Draw a ReplayReport."""
    label = describe_bars(report.source, synthetic=report.synthetic)
    kind = "REHEARSAL" if report.broker == "strict-paper" else "REPLAY"
    say(
        f"{kind} of model {report.model_id} on {label}: {count(report.sessions, 'session')}, "
        f"{report.from_} to {report.to}; {', '.join(report.tickers)}",
        "bold magenta" if report.synthetic else "bold",
    )
    if not report.unseen:
        say("The model was trained on some of these sessions: what it earns here says nothing.", "bold yellow")
    if report.halted:
        say(f"HALTED {report.halted}", "bold red")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    days = [
        (day, number(net, "+.3%"), format_money(net * report.capital, signed=True))
        for day, net in report.pnl_by_session.items()
    ]
    draw_table("P&L by session, net", ("session", "net", "USD"), days, numbers=frozenset({1, 2}))
    rows = [
        ("P&L, net", number(report.pnl, "+.3%")),
        ("decisions", f"{report.decisions:,}"),
        ("orders", f"{report.orders:,}"),
        ("fills", f"{report.fills:,}"),
        ("refused orders", _format_counts(report.refusals)),
        ("codes of decisions", _format_counts(report.codes)),
        ("reloads", str(report.reloads)),
        (
            "bar to order, ms",
            f"p50 {number(report.latency_ms['p50'], '.1f')}, p99 {number(report.latency_ms['p99'], '.1f')}",
        ),
    ]
    draw_table("", ("", "replay"), rows)
    say(f"positions_sha256 {report.positions_sha256}")  # a line of its own: a cell would break what is to be copied
    for alert in report.alerts:
        times = f" ({alert.count} times)" if alert.count > 1 else ""
        say(f"would be told {format_moment(alert.at)} UTC{times}: {alert.subject}. {alert.text}", "yellow")
    for ticker, shares in report.apart.items():
        say(f"the broker holds {shares:+g} {ticker} more than the ledger", "bold red")
    say(f"Net P&L of each session, oldest to newest: {draw_sparkline(list(report.pnl_by_session.values()))}")
    exam = f"hftcl exam {report.model_id} --from {report.from_} --to {report.to}"
    say(f"`{exam}` gives the same positions_sha256. {report.seconds:.1f} s", "dim")


# Whose book it is first, then the money, then what moved it.
_BOOK_ROWS: "Final[tuple[tuple[str, Callable[[BookStatus], str]], ...]]" = (
    ("model", lambda book: book.model_id or "none"),
    ("since", lambda book: _format_time(book.since)),
    ("P&L today, USD", lambda book: format_money(book.pnl_today, signed=True)),
    ("equity, USD", lambda book: format_money(book.equity)),
    ("orders today", lambda book: f"{book.orders:,}"),
    ("fills today", lambda book: f"{book.fills:,}"),
    ("fills beyond the open, bp", lambda book: number(book.fill_cost_bps)),
    ("timing, bp", lambda book: number(book.timing_bps)),
    ("fees, dividends, interest", lambda book: format_money(book.charges, signed=True)),
    ("refused today", lambda book: _format_counts(book.refusals)),
    (
        "positions",
        lambda book: (
            ", ".join(f"{format_quantity(shares)} {ticker}" for ticker, shares in book.positions.items()) or "flat"
        ),
    ),
)


def draw_status(report: "StatusReport") -> None:
    """Draw a StatusReport."""
    if report.mode is None:
        say("No bot has traded here yet. `hftcl trade` starts one, `hftcl trade --replay FROM..TO` rehearses.")
        return
    state = f"RUNNING (process {report.pid})" if report.running else "NOT RUNNING"
    say(f"{state}, {report.mode}", "bold green" if report.running else "bold yellow")
    if report.halted:
        say(f"HALTED: {report.halted}. `hftcl trade --clear` lets it trade again.", "bold red")
    if report.barred:
        say(f"OPENS NOTHING: {report.barred}", "bold red")
    for ticker, shares in report.left_alone.items():
        say(
            f"left alone: {format_quantity(shares)} {ticker}, which the bot did not trade or cannot explain",
            "bold yellow",
        )
    for ticker, ratio in report.awaited_splits.items():
        say(f"left alone: {ticker}, until the broker has done its split, {ratio:g} for 1", "bold yellow")
    rows: list[tuple[str, Cell]] = [
        ("bars", describe_bars(report.source, synthetic=report.synthetic)),
        ("session", report.session or "-"),
        ("last decision on", _format_time(report.last_decision)),
        ("lag of the data, s", number(report.data_lag_s, ".0f")),
        ("reloads", str(report.reloads)),
        ("decisions by code", _format_counts(report.codes)),
        ("to close everything, min", number(report.flatten_minutes, ".0f")),
        *((f"limit {name}", _format_usage(usage)) for name, usage in report.limits.items()),
    ]
    draw_table("", ("", "bot"), rows)
    books = [(name, *(form(book) for book in report.books)) for name, form in _BOOK_ROWS]
    draw_table("", ("", *(book.book for book in report.books)), books)
    if report.strange_months:
        months = ", ".join(report.strange_months)
        say(
            f"The archived decisions of {months} are not those of this ledger, which may be an older copy: `hftcl "
            "doctor` says what to restore.",
            "bold red",
        )
    for error in report.errors:
        say(f"error: {error}", "red")


@value_class(frozen=True, slots=True, kw_only=True)
class OrderLine(Value):
    """What is shown of an order; ts: the start of its bar, UTC; USD and shares."""

    ts: datetime
    ticker: str
    quantity: float | None
    reference_price: float | None
    state: str
    code: str | None
    reason: str | None


@value_class(frozen=True, slots=True, kw_only=True)
class FillLine(Value):
    """What is shown of a fill; ts: the start of its bar, UTC; USD and shares."""

    ts: datetime
    ticker: str
    quantity: float
    price: float
    reference_price: float
    commission: float
    model_id: str | None


LineT = TypeVar("LineT", OrderLine, FillLine)


def list_lines(kind: type[LineT], frame: "pl.DataFrame") -> list[LineT]:
    """Return the rows of a frame of the ledger, in their order; a column that it lacks is an error of polars."""
    return [kind(**row) for row in frame.select(item.name for item in fields(kind)).iter_rows(named=True)]


def draw_orders(rows: "Sequence[OrderLine]") -> None:
    """Draw orders in the order given."""
    if not rows:
        say("No order in this session.")
        return
    styles = {"filled": "green", "rejected": "red", "refused": "yellow"}
    drawn = [
        (
            format_moment(row.ts),
            row.ticker,
            number(row.quantity, "+,.10g") if row.quantity is not None else UNDEFINED,
            number(row.reference_price, ",.2f"),
            Styled(row.state, styles.get(row.state, "")),
            " ".join(part for part in (row.code, row.reason) if part),
        )
        for row in rows
    ]
    draw_table("", ("bar, UTC", "ticker", "shares", "price", "state", "why"), drawn, numbers=frozenset({2, 3}))


def draw_fills(rows: "Sequence[FillLine]") -> None:
    """Draw fills in the order given."""
    if not rows:
        say("No fill in this session.")
        return
    drawn = [
        (
            format_moment(row.ts),
            row.ticker,
            number(row.quantity, "+,.10g"),
            f"{row.price:,.4f}",
            f"{row.reference_price:,.4f}",
            format_money(row.commission),
            row.model_id or UNDEFINED,
        )
        for row in rows
    ]
    columns = ("bar, UTC", "ticker", "shares", "price", "decided at", "commission", "model")
    draw_table("", columns, drawn, numbers=frozenset({2, 3, 4, 5}))


def draw_trade(report: "TradeReport") -> None:
    """Draw a TradeReport."""
    say(
        f"{report.note} {report.mode}, model {report.model_id or 'none'}: "
        f"{count(report.decisions, 'decision')}, {count(report.orders, 'order')}, {count(report.reloads, 'reload')}; "
        f"equity {format_money(report.equity)} USD."
    )
    if report.halted:
        say(f"HALTED {report.halted}", "bold red")
    for ticker, shares in report.positions.items():
        say(f"held: {format_quantity(shares)} {ticker}")


def draw_halt(report: "HaltReport") -> None:
    """Draw a HaltReport."""
    say(f"HALTED. {report.note}" if report.halted else "NOT HALTED YET.", "bold red")
    for ticker, shares in report.positions.items():
        say(f"held: {format_quantity(shares)} {ticker}")
    say("`hftcl trade --clear` lets it trade again.")


def draw_clear(report: "ClearReport") -> None:
    """Draw a ClearReport."""
    if not report.cleared and not report.file:
        say("Nothing was halted.")
        return
    say(f"Cleared: {', '.join(report.cleared) or 'the halt file'}. The bot may trade again.", "bold green")


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items()) or "none"


def _format_usage(usage: "Usage") -> Styled:
    share = usage.used / usage.limit if usage.limit else 0.0
    text = f"{format_money(usage.used)} of {format_money(usage.limit)} USD ({share:.0%})"
    return Styled(text, "red" if share >= 1 else "yellow" if share >= 0.8 else "")


def _format_time(at: datetime | None) -> str:
    return format_moment(at) + (" UTC" if at else "")
