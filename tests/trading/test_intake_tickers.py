"""Many tickers' bars come in by one pass: what comes out is, row for row, what cleaning each ticker alone gives."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hftcl.market.bars import BAR_SCHEMA, DROPPED, MINUTE, RAW_SCHEMA, Finding, clean
from hftcl.market.columns import extend_schema
from hftcl.market.hours import find_hours
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery
from hftcl.trading.feeds.intake import Intake, RawBar
from tests.trading.bot_stand import CALENDAR, DAY, some_minutes

HOURS = find_hours(CALENDAR, DAY, extended_hours=False)
MINUTES = some_minutes(0, 4)
TICKERS = ("AMD", "AAPL", "TSLA")
COLUMNS = ("trades",)
NONE = extend_schema(BAR_SCHEMA, COLUMNS).to_frame()
NOT_TOLD = ("still_open", "duplicate", "outside_session")


class TickerByTicker:
    """The plain definition: each ticker's rows are cleaned with the first good bar of its session, one by one."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, datetime], tuple[object, ...]] = {}
        self.ahead: list[RawBar] = []

    def deliver(self, rows: Iterable[RawBar], minute: datetime, now: datetime) -> Delivery:
        by_ticker: dict[str, list[RawBar]] = {}
        for row in [*self.ahead, *rows]:
            if row[0] in TICKERS:
                by_ticker.setdefault(row[0], []).append(row)
        self.ahead, parts, told = [], [NONE], []
        codes: dict[str, Code] = {}
        for ticker, raw in by_ticker.items():
            self.ahead += [row for row in raw if row[1] is not None and row[1] > minute]
            upto = [row for row in raw if row[1] is None or row[1] <= minute]
            mine = sorted(key for key in self.known if key[0] == ticker)
            measure = [(*mine[0], *self.known[mine[0]])] if mine and all(row[1] != mine[0][1] for row in upto) else []
            frame = pl.DataFrame([*measure, *upto], schema=extend_schema(RAW_SCHEMA, COLUMNS), orient="row")
            bars, findings = clean(frame, HOURS.table, ticker=ticker, as_of=now, columns=COLUMNS)
            bars = bars.filter(pl.col("ts").is_between(HOURS.begins, HOURS.ends, closed="left"))
            faults = [one for one in findings if one.reason in DROPPED and one.reason not in NOT_TOLD]
            told += faults
            if minute not in bars["ts"] and any(one.first == minute for one in faults):
                codes[ticker] = Code.HOLD_BAD_PRICE
            parts.append(bars)
        fresh = pl.concat(parts)
        changed = []
        for ticker, ts, *figures in fresh.select(extend_schema(RAW_SCHEMA, COLUMNS).names()).iter_rows():
            changed.append(self.known.get((ticker, ts)) != tuple(figures))
            self.known[ticker, ts] = tuple(figures)
        fresh = fresh.filter(pl.Series(changed, dtype=pl.Boolean))
        return Delivery(
            minute=minute,
            bars=fresh.filter(pl.col("ts") == minute).sort("ticker"),
            corrected=fresh.filter(pl.col("ts") < minute).sort("ticker", "ts"),
            codes=codes,
            findings=tuple(told),
        )


PRICES = st.sampled_from([100.0, 100.0, 100.5, 101.0, 99.0, 700.0, 10.0, -1.0, float("nan"), float("inf"), None])
STAMPS = st.sampled_from(
    [
        *MINUTES,
        *MINUTES,
        None,
        MINUTES[0] - MINUTE,
        MINUTES[0] - 3 * MINUTE,
        MINUTES[0] - timedelta(days=1),
        MINUTES[1] + timedelta(seconds=7),
    ]
)


@st.composite
def rows_of(draw: st.DrawFn) -> RawBar:
    """Mostly a bar that is good by itself; else figures drawn one by one."""
    ticker, ts = draw(st.sampled_from([*TICKERS, "MSFT"])), draw(STAMPS)
    tail = (draw(st.sampled_from([500.0, 500.0, 0.0, -1.0, None])), draw(st.sampled_from([3.0, None, float("nan")])))
    price = draw(PRICES)
    usual = price is not None and draw(st.integers(0, 3)) > 0
    prices = (price,) * 4 if usual else tuple(draw(PRICES) for _ in range(4))
    figures: tuple[float | None, ...] = (*prices, *tail)
    return ticker, ts, *figures


def a_bar(nth: int, price: float, ticker: str = "TSLA") -> RawBar:
    return ticker, MINUTES[nth], price, price, price, price, 500.0, 3.0


@st.composite
def batches_of(draw: st.DrawFn) -> list[RawBar]:
    """Rows, of which some come twice, as by a socket and by asking again."""
    rows = draw(st.lists(rows_of(), max_size=9))
    return rows + rows[: draw(st.sampled_from([0, 0, 2, len(rows)]))]


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(batches_of(), min_size=1, max_size=4))
@example(
    batches=[[], [a_bar(1, 100.0)], [a_bar(0, 700.0)]]
)  # by the bar that comes late, the known first is wildly off
@example(batches=[[a_bar(3, 100.0), a_bar(2, -1.0, "AMD"), a_bar(3, -1.0), a_bar(3, -1.0, "AMD")], [], [], []])
def test_whatever_comes_it_is_taken_as_if_each_ticker_were_cleaned_alone(batches: list[list[RawBar]]) -> None:
    taken, plain = Intake(HOURS, TICKERS, NONE), TickerByTicker()
    for minute, rows in zip(MINUTES, batches, strict=False):
        now = minute + MINUTE + timedelta(seconds=3)
        one, other = taken.deliver(rows, minute, now), plain.deliver(rows, minute, now)
        assert one.bars.equals(other.bars), f"{one.bars} {other.bars}"
        assert one.corrected is not None
        assert other.corrected is not None
        assert one.corrected.equals(other.corrected), f"{one.corrected} {other.corrected}"
        assert one.codes == other.codes
        assert one.findings == other.findings, "in the same order"


class Counting(Intake):
    """Notes the tickers whose rows are cleaned by themselves."""

    def _clean(self, ticker: str, rows: list[RawBar], now: datetime) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        self.alone = [*getattr(self, "alone", []), ticker]
        return super()._clean(ticker, rows, now)


NAMES = tuple(f"T{number:04d}" for number in range(50))


def deliver_all(taken: Intake, minute: datetime, *stamps: datetime, close: float = 100.0) -> int:
    """Bring each ticker a bar of each of `stamps`; return how many bars of `minute` come out."""
    rows: list[RawBar] = [(name, ts, 100.0, 101.0, 99.0, close, 500.0, 3.0) for name in NAMES for ts in stamps]
    return taken.deliver(rows, minute, minute + MINUTE + timedelta(seconds=3)).bars.height


def test_only_the_tickers_whose_rows_are_at_odds_are_cleaned_by_themselves() -> None:
    """Each takes a millisecond between the bars and the orders: all of 5,000 tickers took five seconds."""
    taken = Counting(HOURS, NAMES, NONE)
    for nth, minute in enumerate(MINUTES):
        rows: list[RawBar] = [(name, minute, 100.0, 101.0, 99.0, 100.0, 500.0, 3.0) for name in NAMES]
        rows += [(NAMES[7], minute, 100.0, 101.0, 99.0, 100.5, 500.0, 3.0)] if nth == 1 else []  # another bar of it
        rows += [(NAMES[8], minute, 100.0, 99.0, 101.0, 100.0, 500.0, 3.0)] if nth == 2 else []
        assert taken.deliver(rows, minute, minute + MINUTE + timedelta(seconds=3)).bars.height == 50
    assert taken.alone == [NAMES[7], NAMES[8]]


def test_where_all_tickers_bring_more_than_one_row_they_are_still_taken_by_one_pass() -> None:
    """It is when the bot has least time: at the open, after a gap, and where a feed asks for the last minutes again."""
    taken, (first, second, third, last) = Counting(HOURS, NAMES, NONE), MINUTES
    assert deliver_all(taken, first, first - MINUTE, first) == 50, (
        "a bar of before the open, which is no bar of these hours"
    )
    assert deliver_all(taken, second, first - 3 * MINUTE, first - MINUTE, first, second) == 50, "the last minutes again"
    assert deliver_all(taken, third, third, third) == 50, "by the socket and by asking"
    assert deliver_all(taken, last, first - timedelta(days=1), first, last, close=100.5) == 50, (
        "the first bar is corrected"
    )
    assert not hasattr(taken, "alone")
    late = Counting(HOURS, NAMES, NONE)
    assert deliver_all(late, second, second) == 50
    assert deliver_all(late, third, first, third) == 50, "a bar of before the first that was known"
    assert not hasattr(late, "alone")
