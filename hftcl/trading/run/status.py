"""What the bot is doing, read from its ledger and its lock, so that asking never disturbs it."""

import fcntl
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hftcl import sqlite
from hftcl.archive.schema import find_fault
from hftcl.durable import read_stamp
from hftcl.formats import format_moment
from hftcl.home import Home
from hftcl.ledger.meta import LedgerMeta
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import BARRED
from hftcl.market.pairs import spell
from hftcl.settings import Settings
from hftcl.values import Value, value_class

if TYPE_CHECKING:
    from hftcl.ledger.rows import BookName, EquityRow

_ERRORS_SHOWN = 5  # the newest ones fit on a screen with the rest; the ledger has all
_ERRORS_SINCE = timedelta(days=1)  # older ones belong to another session and would hide that this one is well


@value_class(frozen=True, slots=True, kw_only=True)
class Usage(Value):
    """A limit and how much of it is used, both in USD or in orders."""

    used: float
    limit: float


@value_class(frozen=True, slots=True, kw_only=True)
class BookStatus(Value):
    """One book: of the model that serves, or of the shadow. USD; pnl_today is None before a session's first bar."""

    book: str
    model_id: str | None
    since: datetime | None
    positions: dict[str, float]
    pnl_today: float | None
    equity: float | None
    orders: int
    fills: int
    refusals: dict[str, int]
    fill_cost_bps: float | None
    """What this session's fills cost beyond the opens of their bars, of the money moved; None without one."""
    timing_bps: float | None
    """What lay between the decisions' reference prices and these opens, likewise."""
    charges: float
    """Fees, borrow, dividends and interest since the ledger began, USD, + into the account."""


@value_class(frozen=True, slots=True, kw_only=True)
class StatusReport(Value):
    """The values of `trade --status`. mode: "paper", "live" or "replay"; None where no bot ever ran here. Times UTC.

    data_lag_s: seconds since the newest bar's end, by the bot's clock. halted: why nothing is traded, None if it is.
    """

    running: bool
    mode: str | None
    pid: int | None
    source: str | None
    synthetic: bool | None
    model_id: str | None
    since: datetime | None
    last_decision: datetime | None
    last_minute: datetime | None
    data_lag_s: float | None
    session: str | None
    positions: dict[str, float]
    pnl_today: float | None
    equity: float | None
    capital: float | None
    limits: dict[str, Usage]
    halted: str | None
    reloads: int
    errors: tuple[str, ...]
    codes: dict[str, int]
    """Decisions of the session by code: what was traded, and why the others were not."""
    left_alone: dict[str, float]
    """Tickers that are not traded, because their owner is not known: shares that differ, or that others traded."""
    awaited_splits: dict[str, float]
    """Tickers that are not traded until the broker has done their split: new shares for an old one."""
    barred: str | None
    """Why the broker's account opens nothing in this session."""
    flatten_minutes: float | None
    """How long it takes to send what closes everything."""
    strange_months: tuple[str, ...]
    """Months whose archived decisions are missing, damaged or unknown to the ledger, which may be an older copy."""
    books: tuple[BookStatus, ...]


def read_status(settings: Settings) -> StatusReport:
    """Return what the bot of this home does or did last; of a replay where only that runs, or none ever traded.

    A registry that cannot be believed is its last error: a bot that runs keeps its model, one that starts finds none.
    """
    home = Home.of(settings)
    report = read_status_at(choose_home(home.root))
    hands_off = spell(settings.trade.hands_off)
    known = {ticker: shares for ticker, shares in report.left_alone.items() if ticker not in hands_off}
    report = replace(report, left_alone=known)
    fault = find_fault(home.registry)
    return report if fault is None else replace(report, errors=(*report.errors, fault))


def choose_home(home: Path) -> Home:
    """Return the files of the bot under `home`; of a replay where only that runs, or none ever traded."""
    live, replay = Home.live(home), Home.replay(home)
    if _find_holder(live.lock) is None and (_find_holder(replay.lock) is not None or not live.ledger.exists()):
        return replay
    return live


def read_stamps(settings: Settings) -> tuple[object, ...]:
    """Return what changes whenever `status` may say something else; opens no database. Raises OSError."""
    home = Home.of(settings).root
    bots = (Home.live(home), Home.replay(home))
    files = [file for bot in bots for file in (bot.ledger, sqlite.locate_log(bot.ledger))]  # it writes one or the other
    files += [bot.halt_file for bot in bots]
    stamps = [read_stamp(path) for path in (*files, bots[0].registry)]
    return (*stamps, *(_find_holder(bot.lock) for bot in bots))


def read_status_at(home: Home) -> StatusReport:
    """Return what the bot or the replay of these very files does or did last."""
    with LedgerReader(home.ledger) as ledger, ledger.snapshot():
        return _build_report(ledger, _find_holder(home.lock), home)


def _build_report(ledger: LedgerReader, pid: int | None, home: Home) -> StatusReport:
    meta = ledger.open_meta()
    latches = ledger.read_latches()
    halted = "; ".join(f"{latch.name} since {format_moment(latch.since)} UTC: {latch.reason}" for latch in latches)
    if not halted and home.halt_file.exists():
        halted = f"the file {home.halt_file.name} exists"
    heartbeat = meta.read_moment("heartbeat")
    events = ledger.read_events(200)
    recent = [
        event
        for event in events
        if event.kind in ("error", "data", "reload_refused")
        and (heartbeat is None or event.at > heartbeat - _ERRORS_SINCE)
    ]
    production = _build_book_status(ledger, "production", meta)
    shadow = _build_book_status(ledger, "shadow", meta)
    last_bar, capital = meta.read_moment("last_bar"), meta.number("capital")
    return StatusReport(
        running=pid is not None,
        mode=meta.get("mode"),
        pid=pid,
        source=meta.get("source"),
        synthetic=meta.synthetic,
        model_id=production.model_id,
        since=production.since,
        last_decision=ledger.find_last_decided(),
        last_minute=meta.read_moment("minute"),
        data_lag_s=(heartbeat - last_bar).total_seconds() - 60 if heartbeat and last_bar else None,
        session=meta.read_open("production")[0] or None,
        positions=production.positions,
        pnl_today=production.pnl_today,
        equity=production.equity,
        capital=capital,
        limits=_measure_limits(ledger, meta, production),
        halted=halted or None,
        reloads=meta.count("reloads"),
        codes=ledger.count_codes("production", opened) if (opened := meta.read_moment("session_opened")) else {},
        left_alone=dict(sorted((ledger.read_positions("foreign") | _read_numbers(meta, "disputed")).items())),
        awaited_splits=_read_numbers(meta, "awaited_splits"),
        barred=meta.get(BARRED, "").partition(" ")[2] or None,
        flatten_minutes=meta.number("flatten_minutes"),
        errors=tuple(f"{format_moment(event.at)} UTC {event.text}" for event in recent[-_ERRORS_SHOWN:]),
        strange_months=ledger.list_strange_months(newest_only=True),
        books=(production, *([shadow] if shadow.model_id else [])),
    )


def _read_numbers(meta: LedgerMeta, name: str) -> dict[str, float]:
    """Return what the ledger keeps as JSON by ticker; nearly always there is none."""
    kept = meta.get(name)
    if not kept:
        return {}
    import json  # here: nearly always there is nothing to read, and nothing to wait for

    numbers: dict[str, float] = json.loads(kept)
    return dict(sorted(numbers.items()))


def _build_book_status(ledger: LedgerReader, book: "BookName", meta: LedgerMeta) -> BookStatus:
    prefix = "" if book == "production" else "shadow_"
    day, at_open = meta.read_open(book)
    newest = ledger.read_newest_equity(book)
    opened = meta.read_moment("session_opened")
    cost = ledger.measure_fills(book, opened) if opened else None
    return BookStatus(
        book=book,
        model_id=meta.get(f"{prefix}model_id"),
        since=meta.read_moment(f"{prefix}model_since"),
        positions=ledger.read_positions(book),
        pnl_today=_compute_earnings(newest, day, at_open),
        equity=newest.equity if newest is not None else None,
        orders=ledger.count_sent(book, opened) if opened else 0,
        fills=ledger.count_fills(book, opened) if opened else 0,
        refusals=ledger.count_refusals(book, opened) if opened else {},
        fill_cost_bps=1e4 * cost.cost / cost.traded if cost and cost.traded else None,
        timing_bps=1e4 * cost.timing / cost.traded if cost and cost.traded else None,
        charges=ledger.sum_charges() if book == "production" else 0.0,
    )


def _compute_earnings(newest: "EquityRow | None", day: str, at_open: float | None) -> float | None:
    """Return what the session `day` has earned so far; None before its first row, or without a start to count from."""
    if newest is None or at_open is None or newest.session.isoformat() != day:
        return None
    return newest.equity - at_open


def _measure_limits(ledger: LedgerReader, meta: LedgerMeta, production: BookStatus) -> dict[str, Usage]:
    newest = ledger.read_newest_equity()
    used = {
        "gross": newest.gross if newest is not None else 0.0,
        "net": abs(newest.net) if newest is not None else 0.0,
        "daily_loss": max(0.0, -(production.pnl_today or 0.0)),
    }
    limits = {name: meta.number(f"limit_{name}") for name in used}
    return {name: Usage(used=used[name], limit=limit) for name, limit in limits.items() if limit is not None}


def _find_holder(lock: Path) -> int | None:
    """Return the process that holds a lock, None where no process does. Takes nothing and leaves nothing behind."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hang us
    except FileNotFoundError:
        return None
    try:
        # A shared lock for the blink of an eye: a bot that starts at this very moment would take it for another one,
        # so what the holder wrote into the file is asked first.
        written = os.pread(fd, 32, 0).strip()
        if not written.isdigit():
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(written)
        return None  # it was killed: the kernel let go of the lock, nobody of the number
    finally:
        os.close(fd)
