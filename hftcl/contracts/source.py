"""The promises of a source of bars: `check_source`."""

from datetime import date, datetime, timedelta

import polars as pl
from polars.testing import assert_frame_equal

from hftcl.contracts.findings import Findings
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.columns import extend_schema
from hftcl.market.sources import OFFERED, BarSource, Foresight, Question, Stepwise, as_local


def check_source(source: BarSource, ticker: str, first: date, last: date, now: datetime) -> tuple[str, ...]:
    """Return the promises that `source` breaks for `ticker`, which should have bars in sessions `first` to `last`.

    now: UTC, later than `last`.

    >>> from datetime import UTC
    >>> from hftcl.market.sources.synthetic import SyntheticSource
    >>> from hftcl.settings import Settings
    >>> first, last, now = date(2025, 6, 2), date(2025, 6, 4), datetime(2025, 6, 10, tzinfo=UTC)
    >>> check_source(SyntheticSource(Settings()), 'AAPL', first, last, now)
    ()
    """
    promises = Findings()
    if promises.check_calls(source, BarSource, OFFERED):
        with promises.hear(source):
            _check_source(promises, source, ticker, first, last, now)
    return tuple(promises.broken)


def _check_source(promises: Findings, source: BarSource, ticker: str, first: date, last: date, now: datetime) -> None:
    promises.check(
        bool(source.name) and isinstance(source.synthetic, bool), "it has a name, and says if it is synthetic"
    )
    promises.check_section(source)
    _check_flags(promises, source, ticker)
    if isinstance(source, Stepwise):
        source.report_steps(lambda _step: None)
    mark = source.fingerprint(ticker)
    bars = source.minutes(ticker, first, last)
    schema = extend_schema(RAW_SCHEMA, getattr(source, "columns", ()))
    if promises.check(
        bars.schema == schema, "minutes() has the columns and types of RAW_SCHEMA, and behind it the source's `columns`"
    ) and promises.check(bars.height > 0, f"minutes() has bars of {ticker} from {first} to {last}"):
        _check_bars(promises, bars, ticker, first, last)
        if isinstance(source, Foresight):
            source.expect((ticker,), first, (Question(ticker, first, last),), kept=True)
        promises.check(
            _is_equal(bars, source.minutes(ticker, first, last)), "minutes() asked twice gives the same bars"
        )
    promises.check(bool(mark) and mark == source.fingerprint(ticker), "fingerprint() is a text that stays the same")
    long_ago = date(1995, 1, 1)  # a Sunday, and a holiday
    none = source.minutes(ticker, long_ago, long_ago)
    promises.check(none.schema == schema and none.is_empty(), "minutes() of a time without bars is empty, not wrong")
    splits = source.splits(ticker)
    promises.check(isinstance(splits, tuple), "splits() is a tuple")
    promises.check(
        list(splits) == sorted(splits, key=lambda split: split.execution_date), "splits() is sorted, oldest first"
    )
    promises.check(
        all(split.ticker == ticker and split.split_from > 0 and split.split_to > 0 for split in splits),
        "splits() are of the ticker that was asked for, with positive shares",
    )
    known_until = source.known_until((ticker,), now)
    promises.check(
        known_until is not None and known_until.utcoffset() == timedelta(0) and known_until <= now,
        "known_until() is a time in UTC that is not after now",
    )
    if isinstance(source, Stepwise):
        source.report_steps(None)


def _check_flags(promises: Findings, source: BarSource, ticker: str) -> None:
    flags = [getattr(source, name, False) for name in ("unchanging", "past", "label_known", "local")]
    promises.check(
        all(isinstance(flag, bool) for flag in flags), "unchanging, past, label_known and local are true or false"
    )
    local = as_local(source)
    if local is not None:
        has_both = all(callable(getattr(local, name, None)) for name in ("remember", "explain_absence"))
        promises.check(
            has_both and isinstance(local.explain_absence(ticker), str),
            "with local it has remember(), and explain_absence() which is a text",
        )


def _check_bars(promises: Findings, bars: pl.DataFrame, ticker: str, first: date, last: date) -> None:
    promises.check(set(bars["ticker"]) == {ticker}, "minutes() names the ticker that was asked for")
    stamps = bars["ts"].drop_nulls().dt.date()
    day = timedelta(days=1)  # a session may begin or end on another day of UTC
    promises.check(
        bool(((stamps >= first - day) & (stamps <= last + day)).all()), "minutes() tells only of what was asked for"
    )


def _is_equal(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    try:
        assert_frame_equal(one, other)
    except AssertionError:
        return False
    return True
