"""What a ledger tells of one book: its sessions, what its fills made, which model decided when."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from hftcl.errors import NoDataError
from hftcl.formats import HOUR_MINUTES
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import TRANSFERS, BookName, Snapshot
from hftcl.market.sessions import Calendar
from hftcl.performance import figures as work
from hftcl.performance.attribution import FILLS, NET, OVERNIGHT, Attribution, BookingKey, attribute
from hftcl.performance.reports import Figures, Swap
from hftcl.settings import Settings

NO_MODEL: Final = "no model"
"""Whose the fills are that no model decided, as a person's `--flatten`."""

_MICROSECOND: Final = timedelta(microseconds=1)  # the ledger's unit of time
NO_TICKER: Final = "the account"
"""Whose the fees are that the broker takes for no single ticker."""

_CENT: Final = 0.01  # a statement shows cents; sums of float64 over years of fills differ by far less


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """One book of a ledger: its sessions, what its fills made, and the bot's minutes."""

    capital: float
    sessions: tuple[date, ...]
    attribution: Attribution
    equity: pl.DataFrame
    sessions_per_year: int
    before_usd: float = 0.0
    """What was earned before the first of `sessions`, where earlier ones were not read."""
    unpriced: tuple[str, ...]
    """Tickers that are held and have no close in the last session yet: for now they are worth what was paid, or their
    last close."""

    def cut_sessions(self, chosen: Sequence[date]) -> "Book":
        """Return the part that lies in the sessions `chosen`."""
        span = set(chosen)
        is_chosen = pl.col("session").is_in(list(span))
        return Book(
            capital=self.capital,
            sessions=tuple(session for session in self.sessions if session in span),
            attribution=Attribution(
                self.attribution.booked.filter(is_chosen),
                self.attribution.trades.filter(is_chosen),
                self.attribution.held,
            ),
            equity=self.equity.filter(is_chosen),
            sessions_per_year=self.sessions_per_year,
            before_usd=self.before_usd,
            unpriced=self.unpriced,
        )

    @property
    def exposure(self) -> float | None:
        """Mean gross position over the recorded minutes, as a fraction of capital."""
        mean = self.equity["gross"].mean()
        return float(mean) / self.capital if isinstance(mean, float) else None

    def compute_figures(self) -> Figures:
        return work.compute_figures(
            self.attribution.booked,
            self.attribution.trades,
            self.sessions,
            capital=self.capital,
            exposure=self.exposure,
            sessions_per_year=self.sessions_per_year,
        )


def read_book(
    reader: LedgerReader,
    settings: Settings,
    book: BookName,
    closes: pl.DataFrame,
    until: date | None = None,
    since: date | None = None,
) -> Book:
    """Return a book as the ledger has it now, or as it was when the session `until` ended.

    closes: all that the reader has; two books and the benchmark are of the same.
    since: the first session that is needed: what lies before the newest close ahead of it at which nothing was held
    may be left out, and changes nothing in the sessions after it.
    Raises NoDataError for one that does not tell its capital.
    """
    start = _find_start(reader, settings, book, since)
    first = start.at + _MICROSECOND if start else None
    equity = reader.read_equity(book, first)
    fills = _place_fills(reader.read_fills_with_opens(book, first), settings)
    days = sorted({*equity["session"].unique().to_list(), *fills["session"].unique().to_list()})
    if until is not None:
        days = days[: bisect.bisect_right(days, until)]
        equity = equity.filter(pl.col("session") <= until)
    charges, charged_before = _sum_charges(reader, days) if book == "production" else ({}, 0.0)
    attribution = attribute(fills.select(FILLS.names()), closes, days, charges)
    priced = set(closes.filter(pl.col("session") == days[-1])["ticker"]) if days else set()
    return Book(
        capital=_read_capital(reader, days),
        sessions=tuple(days),
        attribution=attribution,
        equity=equity,
        sessions_per_year=Calendar(settings.market.calendar).sessions_per_year,
        before_usd=charged_before - start.paid if start else charged_before,
        unpriced=tuple(sorted(ticker for ticker in attribution.held if ticker not in priced)),
    )


def list_sessions(reader: LedgerReader, settings: Settings, book: BookName) -> tuple[date, ...]:
    """Return the sessions of which a book's fills and minutes are, oldest first."""
    return tuple(sorted({*reader.list_sessions(book), *_find_sessions(reader.list_filled_minutes(book), settings)}))


def _find_sessions(minutes: Sequence[datetime], settings: Settings) -> set[date]:
    placed = _place_fills(pl.DataFrame({"ts": minutes}, schema={"ts": pl.Datetime("us", "UTC")}), settings)
    return set(placed["session"].unique().to_list())


def _sum_charges(reader: LedgerReader, days: Sequence[date]) -> tuple[dict[BookingKey, float], float]:
    """Return fees, dividends and the like by the session of their day, or the one before; and those of before.

    They are of no model and of no hour.
    """
    charges: dict[BookingKey, float] = {}
    before = 0.0
    for row in reader.list_cash():
        if row.kind in TRANSFERS:
            continue
        place = bisect.bisect_right(days, row.session)
        if not place:
            before += row.amount
            continue
        key = BookingKey(days[place - 1], NO_MODEL, row.ticker or NO_TICKER, OVERNIGHT)
        charges[key] = charges.get(key, 0.0) + row.amount
    return charges, before


def _find_start(reader: LedgerReader, settings: Settings, book: BookName, since: date | None) -> Snapshot | None:
    if since is None:
        return None
    # a session of the Far East begins on the day before, by UTC; an earlier start is none too early
    begins = datetime.combine(since - timedelta(days=1), time(), UTC)
    return reader.find_snapshot(book, begins, flat=True)


def _read_capital(reader: LedgerReader, anything: Sequence[object]) -> float:
    capital = reader.open_meta().number("capital") or 0.0
    if anything and not 0.0 < capital < float("inf"):
        raise NoDataError(
            f"{reader.path} does not say with what capital it was traded ({capital:g}): no figure follows."
        )
    return capital or 1.0  # of an empty book, which divides nothing by it


def _place_fills(fills: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return `fills`, by ts, with session and hour. A fill is of the newest session that had begun at its bar."""
    if fills.is_empty():
        return fills.with_columns(session=pl.lit(None, pl.Date), hour=pl.lit(None, pl.Int64))
    first, last = (day.date() for day in (fills["ts"][0], fills["ts"][-1]))
    # a session of the Far East begins on the day before, by UTC
    table = Calendar(settings.market.calendar).list_sessions(first - timedelta(days=10), last + timedelta(days=1))
    counted, _ = choose_bounds(settings)
    begins = table.select("session", pl.col("extended_open").alias("ts"), pl.col(counted).alias("from"))
    return fills.join_asof(begins, on="ts", strategy="backward", check_sortedness=False).with_columns(
        pl.col("^model_id$").fill_null(NO_MODEL),
        hour=((pl.col("ts") - pl.col("from")).dt.total_minutes() // HOUR_MINUTES).clip(lower_bound=0),
    )


def choose_bounds(settings: Settings) -> tuple[str, str]:
    """Return the columns of `Calendar.list_sessions` from and to which the hours of a session are counted."""
    return ("extended_open", "extended_close") if settings.market.extended_hours else ("open", "close")


def find_hours(settings: Settings, first: date, last: date) -> tuple[time, int]:
    """Return when the sessions `first` to `last` begin, by the exchange's clock on most days, and how long they are.

    That is the longest of them, in minutes.
    Raises HorizonError where the calendar does not reach them.
    """
    calendar = Calendar(settings.market.calendar)
    begins, ends = choose_bounds(settings)
    table = calendar.list_sessions(first - timedelta(days=10), last)  # ten days hold a session, whatever the holidays
    minutes = (table[ends] - table[begins]).dt.total_minutes().to_list()
    return table[begins].dt.convert_time_zone(calendar.zone).dt.time().mode().sort()[0], max(minutes)


def find_served(
    reader: LedgerReader, book: Book, chosen: Sequence[date]
) -> tuple[tuple[Swap, ...], dict[str, set[date]]]:
    """Return where another model began to decide, and the sessions in which each model decided or traded."""
    swaps: list[Swap] = []
    served: dict[str, set[date]] = {}
    booked = book.attribution.booked.filter((pl.col("fills") > 0) | (pl.col("moved") != 0) | (pl.col("charges") == 0))
    for model, session in booked.select("model_id", "session").unique(maintain_order=True).iter_rows():
        served.setdefault(model, set()).add(session)  # a fee alone is of no model
    bounds = book.equity.group_by("session").agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"))
    minutes = {session: (first, last) for session, first, last in bounds.iter_rows()}
    for session in chosen:
        if session not in minutes:
            continue
        traded = {model for model, days in served.items() if session in days and model != NO_MODEL}
        for ts, model in _list_deciders(reader, *minutes[session], traded):
            served.setdefault(model, set()).add(session)
            if not swaps or swaps[-1].model_id != model:
                swaps.append(Swap(ts=ts, session=session, model_id=model))
    return tuple(swaps), served


def _list_deciders(
    reader: LedgerReader, first: datetime, last: datetime, traded: set[str]
) -> list[tuple[datetime, str]]:
    """Return the models that decided from `first` to `last`, with the bar from which on.

    A session's decisions are many: unless its first and last minutes, or its fills, name two models, they stay unread.
    """
    bounds = reader.find_decided_between("production", first, last)
    if bounds is None:
        return []
    models = reader.list_models("production", *bounds)
    if models and "" not in models and len(models | traded) == 1:
        return [(bounds[0], model) for model in models]
    seen = pl.concat([_group_by_model(reader.read_decisions("production", at, at)) for at in bounds])
    if len({*seen["model_id"].to_list(), *traded}) > 1:
        seen = _group_by_model(reader.read_decisions("production", *bounds))
    deciders: list[tuple[datetime, str]] = []
    for ts, model in seen.iter_rows():
        if not deciders or deciders[-1][1] != model:
            deciders.append((ts, model))
    return deciders


def _group_by_model(decisions: pl.DataFrame) -> pl.DataFrame:
    return decisions.select("ts", "model_id").drop_nulls().unique(maintain_order=True)


def list_notes(book: Book) -> tuple[str, ...]:
    """Return what a reader should know before the figures of `book`, which is whole, are believed."""
    if book.equity.is_empty():
        return ()
    if book.unpriced:
        return (
            f"the session {book.sessions[-1]} is under way, or was cut short: what is held of "
            f"{', '.join(book.unpriced)} has no close in it, and counts at the price that was paid or its last close",
        )
    last = book.equity.tail(1)
    session, equity = last["session"][0], float(last["equity"][0])
    derived = (
        book.capital
        + book.before_usd
        + book.attribution.booked.filter(pl.col("session") <= session).select(NET).sum().item()
    )
    if abs(equity - derived) <= _CENT:
        return ()
    return (
        f"the bot's equity at the end of {session} is {equity:,.2f} USD, and its fills add up to {derived:,.2f}; the "
        "figures here follow the fills",
    )
