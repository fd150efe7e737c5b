"""The pages of one model and of one ticker: what each reads, by the stories of the commands."""

from datetime import date
from typing import Final, TypeVar

import polars as pl

from hftcl.archive.registry import Registry
from hftcl.dashboard.contents import Content, ModelContent, TickerContent, TickerSession
from hftcl.dashboard.parts import DashboardInputs
from hftcl.errors import HftclError, UsageError
from hftcl.learning.stored_report import read_report
from hftcl.learning.stories.history import history
from hftcl.ledger.reader import LedgerReader
from hftcl.market.sessions import Calendar
from hftcl.market.store import BarStore
from hftcl.market.window import open_market, parse_day
from hftcl.performance.story import read_importances
from hftcl.trading.run.status import choose_home
from hftcl.views import archive, retrain, trading
from hftcl.views.blocks import Block, Line, collect_blocks

_NO_BARS: Final = (
    "No bars of this session are stored: they are collected after its close. The chart shows the prices of the fills."
)
_Line = TypeVar("_Line", trading.OrderLine, trading.FillLine)
_OLD_REPORT: Final = "An earlier hftcl archived this model and kept less of its exam than is shown here."


def read_all_models(inputs: DashboardInputs) -> Content:
    """Return every archived model."""
    rows = history(inputs.home.root, calendar=inputs.settings.market.calendar)
    return Content(blocks=collect_blocks(archive.draw_history, rows))


def read_model(inputs: DashboardInputs, text: str) -> ModelContent:
    """Return a model: its verdict, its exam, what it looks at, and what it stands on. Raises ModelNotFoundError."""
    root = inputs.home.root
    registry = Registry(root)
    record = registry.find(text)
    rows = {row.model_id: row for row in history(root, calendar=inputs.settings.market.calendar)}
    report = read_report(record.report)
    exam: tuple[Block, ...] = (Line(_OLD_REPORT),)
    if report is not None:
        exam = collect_blocks(retrain.draw_retrain, report, 1)
    line = [rows[one.model_id] for one in registry.trace_lineage(record.model_id) if one.model_id in rows]
    return ModelContent(
        blocks=exam,
        verdict=collect_blocks(archive.draw_history, [rows[record.model_id]]),
        lineage=collect_blocks(archive.draw_lineage, line),
        importances=read_importances(root, record.model_id),
    )


def list_sessions(inputs: DashboardInputs) -> tuple[date, ...]:
    """Return the sessions that the ledger has closes of, oldest first, and the one that is open."""
    with LedgerReader(choose_home(inputs.home.root).ledger) as ledger, ledger.snapshot():
        days = set(ledger.list_closed_sessions())
        opened = ledger.open_meta().read_open("production")[0]
    if opened:
        days.add(date.fromisoformat(opened))
    return tuple(sorted(days))


def read_ticker(inputs: DashboardInputs, ticker: str, asked: str | None) -> TickerContent:
    """Return what the bot made of a ticker in a session: the one that is `asked` for, else the newest.

    Raises UsageError for a day that is none.
    """
    sessions = list_sessions(inputs)
    day = parse_day("session", asked) if asked else sessions[-1] if sessions else None
    if day is None:
        return TickerContent(blocks=(Line(f"The bot has not traded {ticker} yet."),))
    calendar = Calendar(inputs.settings.market.calendar)
    hours = calendar.list_sessions(day, day)
    if hours.is_empty():
        raise UsageError(f"{day} is no session of the calendar {inputs.settings.market.calendar}.")
    first, last = hours["extended_open"][0], hours["extended_close"][0]
    with LedgerReader(choose_home(inputs.home.root).ledger) as ledger, ledger.snapshot():
        decisions, orders, fills = (
            ask("production", first, last, ticker=ticker)
            for ask in (ledger.read_decisions, ledger.read_orders, ledger.read_fills_by_order)
        )
    bars, note = _read_bars(inputs, ticker, day)
    shown = TickerSession(
        ticker=ticker,
        session=day,
        opens=hours["open"][0],
        closes=hours["close"][0],
        zone=calendar.zone,
        bars=bars,
        decisions=decisions,
        fills=fills,
    )
    place = sessions.index(day) if day in sessions else -1
    return TickerContent(
        blocks=(Line(note),) if note else (),
        day=shown,
        orders=collect_blocks(trading.draw_orders, _list_newest_first(trading.OrderLine, orders)),
        fills=collect_blocks(trading.draw_fills, _list_newest_first(trading.FillLine, fills)),
        before=sessions[place - 1] if place > 0 else None,
        after=sessions[place + 1] if 0 <= place < len(sessions) - 1 else None,
    )


def _read_bars(inputs: DashboardInputs, ticker: str, day: date) -> tuple[pl.DataFrame, str]:
    """Return the stored bars of a session, and what is to be said of them; what cannot be read is said."""
    try:
        source, calendar = open_market(inputs.settings)
        bars, findings = BarStore(inputs.home.bars, source, calendar).read_session(ticker, day)
    except HftclError as fault:
        return pl.DataFrame(), str(fault)
    if findings:
        return bars, "; ".join(f"{finding.reason}: {finding.detail}" for finding in findings)
    return bars, "" if bars.height else _NO_BARS


def _list_newest_first(kind: type[_Line], frame: pl.DataFrame) -> list[_Line]:
    return trading.list_lines(kind, frame.sort("ts", descending=True))
