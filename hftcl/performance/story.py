"""The story of `report`: read the ledger and the registry, say what was made and whose work it was. Changes nothing.

P&L is derived from fills and the sessions' closes alone; the equity that the bot noted minute by minute gives the shape
of the curve within a session and the exposure, no more.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError, NoDataError, UsageError
from hftcl.home import Home
from hftcl.ledger.meta import LedgerMeta
from hftcl.ledger.reader import LedgerReader
from hftcl.performance import figures as work
from hftcl.performance.benchmark import Close, compute_benchmark
from hftcl.performance.book import NO_MODEL, Book, find_hours, find_served, list_notes, list_sessions, read_book
from hftcl.performance.reports import (
    TRADES_SHOWN,
    CurvePoint,
    ModelFigures,
    PerformanceReport,
    Swap,
    TradeRow,
)
from hftcl.performance.risk import compute_risk
from hftcl.settings import Settings

_CURVE_POINTS: Final = 600  # the charts are 960 units wide: more points would not be seen, and make the page larger

# What a report reads; of orders, as many as fills and thrice as large, it reads none.
_TABLES: Final = (
    "fills", "opens", "blocks", "equity", "closes", "cash", "snapshots", "decisions", "decided", "archives", "meta",
)  # fmt: skip


def measure_performance(
    settings: Settings,
    *,
    replay: bool = False,
    since: date | None = None,
    until: date | None = None,
    most_trades: int | None = TRADES_SHOWN,
) -> PerformanceReport:
    """Return what was traded in the sessions `since` to `until`, both included; all of them if left out.

    most_trades: how many of the newest it lists; None for all.

    Raises NoDataError where the ledger has no such session, UsageError for a span that ends before it begins, and what
    `LedgerReader` raises for a damaged file.
    """
    if since is not None and until is not None and since > until:
        raise UsageError(f"The span from {since} to {until} ends before it begins.")
    home = Home.of(settings).root
    path = Home(home, replay).ledger
    with _without_collector():
        return _perform(settings, home, path, since, until, replay=replay, most_trades=most_trades)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python look for no cycles: there are none, and to look at a million fills again and again takes 10 s."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def _perform(
    settings: Settings,
    home: Path,
    path: Path,
    since: date | None,
    until: date | None,
    *,
    replay: bool,
    most_trades: int | None,
) -> PerformanceReport:
    with LedgerReader(path) as reader, reader.snapshot():
        reader.check_structure(_TABLES)  # every row is read: a page that hides some must not go unseen
        meta = reader.open_meta()
        chosen = _choose_sessions(list_sessions(reader, settings, "production"), since, until, path, replay=replay)
        # what is held, and what is to be noted, is that of the span's end
        closes = reader.read_closes()
        every = read_book(reader, settings, "production", closes, chosen[-1], chosen[0])
        shadow = read_book(reader, settings, "shadow", closes, chosen[-1], chosen[0])
        swaps, deciders = find_served(reader, every, chosen)
        strange = reader.list_strange_months(newest_only=True)
    models = {record.model_id: record for record in Registry(home).list_models()}
    return _build_report(
        settings,
        meta,
        every.cut_sessions(chosen),
        shadow.cut_sessions(chosen),
        [Close(*row) for row in closes.select(Close._fields).iter_rows()],
        swaps,
        deciders,
        models,
        (*list_notes(every), *_list_lost(path, strange)),
        most_trades,
    )


def _list_lost(path: Path, months: Sequence[str]) -> tuple[str, ...]:
    """Return what a reader should know where the files of `months` are not those of the ledger at `path`."""
    if not months:
        return ()
    return (
        f"the archived decisions of {', '.join(months)} are not those of {path}: where that is an older copy, its last "
        "sessions are missing here; `hftcl doctor` says what to restore",
    )


def _choose_sessions(
    sessions: Sequence[date], since: date | None, until: date | None, path: Path, *, replay: bool
) -> tuple[date, ...]:
    if not sessions:
        how = (
            "`hftcl trade --replay FROM..TO` writes one"
            if replay
            else "`hftcl trade` writes it; --replay reads a replay"
        )
        raise NoDataError(f"Nothing has been traded yet: the ledger {path} is empty or missing. {how}.")
    chosen = tuple(day for day in sessions if (since is None or day >= since) and (until is None or day <= until))
    if not chosen:
        raise NoDataError(
            f"The ledger {path} holds {sessions[0]} to {sessions[-1]}, and no session "
            f"{f'from {since} ' if since else ''}{f'until {until}' if until else 'on'}. Ask for days within these."
        )
    return chosen


def _build_report(
    settings: Settings,
    meta: LedgerMeta,
    book: Book,
    shadow: Book,
    closes: Sequence[Close],
    swaps: tuple[Swap, ...],
    deciders: Mapping[str, set[date]],
    models: Mapping[str, ModelRecord],
    notes: tuple[str, ...],
    most_trades: int | None,
) -> PerformanceReport:
    booked, trades, sessions, capital = book.attribution.booked, book.attribution.trades, book.sessions, book.capital
    net = work.sum_by_session(booked, sessions, capital)
    pnl = {day.isoformat(): day_pnl for day, day_pnl in zip(sessions, net.tolist(), strict=True)}
    noted = meta.number("cost_bps")
    assumed = settings.strategy.cost_bps if noted is None else noted
    window = settings.triggers.recent_sessions
    in_use = swaps[-1].model_id if swaps else None
    name_hour = _build_hour_names(settings, book)
    return PerformanceReport(
        ledger=meta.get("mode", "unknown"),
        source=meta.get("source", "unknown"),
        synthetic=bool(meta.synthetic),
        capital_usd=capital,
        as_of=_find_as_of(book),
        from_=sessions[0],
        to=sessions[-1],
        total=book.compute_figures(),
        assumed_cost_bps=assumed,
        shadow=shadow.compute_figures() if shadow.sessions else None,
        benchmark=compute_benchmark(closes, sessions, net, cost_bps=assumed, sessions_per_year=book.sessions_per_year),
        risk=compute_risk(net, sessions, trades["net"].to_numpy(), sessions_per_year=book.sessions_per_year),
        models=tuple(
            _build_model_figures(book, model_id, days & set(sessions), models.get(model_id), in_use=model_id == in_use)
            for model_id, days in sorted(deciders.items(), key=lambda item: (min(item[1]), item[0]))
            if days & set(sessions)
        ),
        tickers=work.split_parts(booked, trades, capital=capital, of=pl.col("ticker"), name=str),
        weekdays=work.split_parts(booked, trades, capital=capital, of=work.WEEKDAY, name=work.name_weekday),
        hours=work.split_parts(booked, trades, capital=capital, of=pl.col("hour"), name=name_hour),
        cells=work.split_cells(booked, name_hour),
        months=work.sum_by_month(pnl),
        pnl_by_session=pnl,
        rolling_sessions=window,
        rolling=work.compute_rolling(net, sessions, window, book.sessions_per_year),
        swaps=swaps,
        curve=_build_curve(book, net),
        trades=_list_trades(trades if most_trades is None else trades.tail(most_trades)),
        trade_bins=work.trade_bins(trades["net"].to_numpy()),
        held=book.attribution.held,
        notes=notes,
    )


def _build_hour_names(settings: Settings, book: Book) -> Callable[[object], str]:
    """Return what names the hours of `book`; without a fill there is none to name, and the calendar is not asked."""
    days = book.attribution.booked["session"]
    first, last = days.min(), days.max()
    if not isinstance(first, date) or not isinstance(last, date):
        return str
    return work.build_hour_names(*find_hours(settings, first, last))


def _find_as_of(book: Book) -> datetime:
    """Return the end of the newest minute that the ledger tells of."""
    stamps: list[datetime] = [
        *book.equity["ts"].tail(1).to_list(),
        *book.attribution.trades["closed"].tail(1).to_list(),
    ]
    if stamps:
        return max(stamps) + timedelta(minutes=1)
    return _find_midnight(book.sessions[-1])


def _find_midnight(session: date) -> datetime:
    return datetime.combine(session, time(), UTC)


def _build_model_figures(
    book: Book, model_id: str, days: set[date], record: ModelRecord | None, *, in_use: bool
) -> ModelFigures:
    sessions = sorted(days)
    booked, trades = (
        frame.filter(pl.col("model_id") == model_id) for frame in (book.attribution.booked, book.attribution.trades)
    )
    days_in_use = [*sessions, *booked["session"].unique()]
    interval = record.judgement.sharpe_interval if record else None
    return ModelFigures(
        model_id=model_id,
        from_=sessions[0],
        to=sessions[-1],
        live=work.compute_figures(
            booked,
            trades,
            sorted(set(days_in_use)),
            capital=book.capital,
            exposure=None,
            sessions_per_year=book.sessions_per_year,
        ),
        exam_sharpe=record.val_sharpe if record else None,
        exam_interval=(interval[0], interval[1]) if interval else None,
        exam_from=record.exam_from if record else None,
        exam_to=record.exam_to if record else None,
        exam_sessions=record.judgement.exam_sessions if record else None,
        in_use=in_use,
    )


def _build_curve(book: Book, net: work.FloatArray) -> tuple[CurvePoint, ...]:
    """Return the equity since the span began, thinned evenly to about 600 points; each session's last is kept.

    A session without a recorded minute has one point, at its end.
    """
    points_per_session = max(1, _CURVE_POINTS // len(book.sessions))
    after = dict(zip(book.sessions, np.cumsum(net).tolist(), strict=True))
    by_session = {str(key[0]): rows for key, rows in book.equity.partition_by("session", as_dict=True).items()}
    points: list[CurvePoint] = []
    for session in book.sessions:
        rows = by_session.get(str(session))
        if rows is None:
            points.append(CurvePoint(ts=_find_midnight(session), session=session, pnl=after[session]))
            continue
        kept = rows.gather(_pick_evenly(rows.height, points_per_session)).select("ts", "equity")
        # from what the fills say of its end, backwards: so that a curve over restarts and deposits is the P&L's
        at, pnl_then = float(rows["equity"][-1]), after[session]
        if book.unpriced and session == book.sessions[-1]:  # its end is not known yet: from its beginning, forwards
            at, pnl_then = float(rows["equity"][0]), points[-1].pnl if points else 0.0
        for ts, equity in kept.iter_rows():
            points.append(CurvePoint(ts=ts, session=session, pnl=pnl_then + (equity - at) / book.capital))
    return tuple(points)


def _pick_evenly(n: int, wanted: int) -> list[int]:
    """Return at most `wanted` places out of `n`, evenly spread, the last among them."""
    count = min(n, wanted)
    return [round((place + 1) * n / count) - 1 for place in range(count)]


def _list_trades(trades: pl.DataFrame) -> tuple[TradeRow, ...]:
    """Return the trades, newest first."""
    names = ("ticker", "model_id", "opened", "closed", "quantity", "entry", "exit")
    rows = trades.reverse().select(*names, net_usd="net")
    return tuple(TradeRow(**row) for row in rows.iter_rows(named=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """What a model looks at: (feature, share) in the order of the model; or why that is not known."""

    shares: tuple[tuple[str, float], ...]
    problem: str = ""


def read_importances(home: Path, model_id: str | None) -> Importances:
    """Return the importances that the archived file of `model_id` tells; a file that cannot be read is no error."""
    if model_id is None or model_id == NO_MODEL:
        return Importances(shares=(), problem="no model decided")
    registry = Registry(home)
    try:
        registry.find(model_id)
        meta = artifact.describe(registry.locate_onnx(model_id))
    except HftclError as fault:
        return Importances(shares=(), problem=str(fault))
    if meta.importances is None:
        return Importances(shares=(), problem=f"the family {meta.family} does not tell")
    return Importances(shares=tuple(zip(meta.feature_names, meta.importances, strict=True)))
