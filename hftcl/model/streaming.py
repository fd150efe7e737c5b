"""The features of the newest minute, as the bot needs them: fast, and to the bit what `model.features` finds. No I/O.

What the session has come to is stepped on minute by minute; what reads back at most half an hour is computed afresh
from the newest minutes alone: our features by `model.newest`, a stranger's by their expressions.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import polars as pl

from hftcl.market.columns import Nature, find_nature
from hftcl.model.across import compare_across
from hftcl.model.feature import Feature, build_value, list_columns
from hftcl.model.features import FEATURES, features
from hftcl.model.grid import (
    EARLIER_SESSIONS,
    VOLATILITY_MINUTES,
    add_windows,
    hand_on_to,
    place_bars,
    place_volume,
    refuse_long,
)
from hftcl.model.newest import LENGTH, compute_newest, is_known
from hftcl.model.peers import add_peers
from hftcl.model.since_open import SINCE_OPEN, Array, IntArray, Step, compute_since_open

# What features of later minutes and sessions read of a bar.
_KEPT: Final = ["ticker", "ts", "session", "minute", "open", "high", "low", "close", "volume"]
# The keys of a bar, which stand before the features in what comes out.
_TOLD: Final = ["ticker", "ts", "session", "minute", "session_minutes"]


class StreamingFeatures:
    """The features of one session as it happens, minute by minute; then of the next.

    Not for several threads at once. Memory does not grow with the number of sessions.
    """

    def __init__(
        self, earlier: pl.DataFrame, *, table: tuple[Feature, ...] = FEATURES, days: Iterable[date] = ()
    ) -> None:
        """Take the whole sessions before the first one that will be started, in the terms of splits of today.

        earlier: `BAR_SCHEMA`, clean, any order; the newest `features.WARMUP_SESSIONS` of its sessions are kept.
        days: sessions that count as such though `earlier` has no bar of them.
        """
        self._table = table
        self._kept = [*_KEPT, *list_columns(table)]
        self._days = {*days, *earlier["session"].unique()}
        self._earlier = self._keep_newest_sessions(earlier.select(self._kept))
        self._today: _StreamingSession | None = None

    @classmethod
    def replay_today(
        cls,
        earlier: pl.DataFrame,
        today: pl.DataFrame,
        *,
        table: tuple[Feature, ...] = FEATURES,
        days: Iterable[date] = (),
    ) -> "StreamingFeatures":
        """Return it as it would be after `start` and a `push` of each minute of `today`, all of one session.

        For a bot that starts within a session, and where a bar came late or was revised. No bars start no session.
        """
        streaming = cls(earlier, table=table, days=days)
        if today.height:
            streaming.start(today["session"][0])
            for minute in today.sort("ts").partition_by("ts", maintain_order=True):
                streaming._take(minute)
        return streaming

    def copy(self) -> "StreamingFeatures":
        """Return another one at this very minute; what the two take from now on is nothing to each other."""
        other = copy.copy(self)
        other._today = self._today.copy() if self._today is not None else None
        return other

    def start(self, session: date) -> None:
        """Begin a session, later than all before it.

        Raises ValueError where it is not, where one goes on, or where earlier bars are unclean (`grid.build_grid`).
        """
        if self._today is not None:
            raise ValueError(f"Session {self._today.day} goes on. End it before {session} starts.")
        not_before = self._earlier.filter(pl.col("session") >= session)
        if not_before.height:
            raise ValueError(f"Session {session} does not come after {not_before['session'][-1]}, which has ended.")
        self._today = _StreamingSession(session, self._earlier, self._table, self._days)

    def push(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Take one minute's bars; return ticker, ts, session, minute, session_minutes and a Float32 column per feature.

        bars: `BAR_SCHEMA`, all of one minute of the session that goes on, which is later than any pushed before, each
            ticker at most once, in any order. The rows come back in that order.
        The values are those of `features.features` over all bars so far, to the bit; null as there.
        Raises ValueError for other bars, and where no session has been started. It has then taken none of them.
        """
        today = self._take(bars)
        keys = bars[_TOLD]
        return keys.hstack(
            today.compute_features(keys["ticker"].to_list()) if bars.height else features(bars, self._table)
        )

    def take(self, bars: pl.DataFrame) -> None:
        """Take one minute's bars as `push` does, without the features."""
        self._take(bars)

    def end(self) -> None:
        """Make the session an earlier one. Raises ValueError where none goes on."""
        if self._today is None:
            raise ValueError("No session goes on that could end. Start one first.")
        if self._today.bars:  # one without a bar is no earlier session
            self._days = self._days | {self._today.day}
        self._earlier = self._keep_newest_sessions(pl.concat([self._earlier, *self._today.bars]))
        self._today = None

    def _keep_newest_sessions(self, bars: pl.DataFrame) -> pl.DataFrame:
        days = sorted(self._days)[-EARLIER_SESSIONS:]
        return bars.filter(pl.col("session").is_in(days)).rechunk()

    def _take(self, bars: pl.DataFrame) -> "_StreamingSession":
        if self._today is None:
            raise ValueError("No session goes on. Start it before its bars come.")
        if bars.height:
            self._today.take(bars[self._kept])
        return self._today


class _StreamingSession:
    """One session so far: its bars, what was handed on to it, and the newest minutes of each ticker on the grid."""

    def __init__(self, day: date, earlier: pl.DataFrame, table: tuple[Feature, ...], days: Iterable[date]) -> None:
        self.day = day
        self.bars: list[pl.DataFrame] = []
        self._names = [feature.name for feature in table]
        self._ours = tuple(feature for feature in table if is_known(feature))
        self._strange = tuple(feature for feature in table if not is_known(feature))
        self._columns = list_columns(table)
        self._parts, self._handed_on = hand_on_to(day, place_bars(earlier), [known for known in days if known < day])
        self._per_part = {name: self._handed_on.per_part[name].to_numpy() for name in self._handed_on.per_part.columns}
        self._part: IntArray = np.empty(0, dtype=np.int64)
        self._slots: dict[str, int] = {}
        self._oldest: int | None = None
        self._newest: int | None = None
        longest = max(VOLATILITY_MINUTES, *(feature.lookback for feature in table))
        self._window = _MinuteWindow(1 + longest, self._columns)

    def copy(self) -> "_StreamingSession":
        other = copy.copy(self)  # arrays beside those of the window are replaced, never written into
        other.bars, other._slots, other._window = list(self.bars), dict(self._slots), self._window.copy()
        return other

    def take(self, bars: pl.DataFrame) -> None:
        placed = self._place(bars)
        if self._newest is None:
            self._oldest = placed.minute
        else:
            for empty in range(self._newest + 1, placed.minute):
                self._take_minute(empty, None)
        self._enrol(placed.tickers)
        self._take_minute(placed.minute, placed)
        self._newest = placed.minute
        self.bars.append(bars)

    def compute_features(self, tickers: list[str]) -> pl.DataFrame:
        """Return the features of these tickers at the newest minute."""
        rows = np.array([self._slots[ticker] for ticker in tickers], dtype=np.int64)
        values = compute_newest(self._window.read_last(LENGTH), self._ours)[rows]
        # Cut from one column: polars takes four times as long to make a column of each.
        end_to_end = pl.Series(values.ravel(order="F"), nan_to_null=True)
        ours = [
            end_to_end.slice(place * len(rows), len(rows)).alias(feature.name)
            for place, feature in enumerate(self._ours)
        ]
        if not self._strange:
            return pl.DataFrame(ours)
        minutes = add_peers(add_windows(self._window.build_frame(), _drop_bounds), "minute")
        evaluated = minutes.select(build_value(feature).alias(feature.name) for feature in self._strange)
        newest = evaluated[(rows + 1) * self._window.length - 1]
        return pl.DataFrame([*ours, *_place_across(newest, self._strange)])[self._names]

    def _place(self, bars: pl.DataFrame) -> "_Placed":
        """Return a minute's bars in the grid's numbers. Raises ValueError for bars that are not of the next minute."""
        placed = _Placed.from_bars(bars, self._columns)
        if placed is None:
            refused = place_bars(bars)  # raises where they are unclean
            if refused["minute"].n_unique() > 1 or refused["session"].n_unique() > 1:
                raise ValueError(f"Bars of more than one minute were pushed at once, one of them {bars['ts'][0]}.")
            twice = refused.filter(refused["ticker"].is_duplicated())
            raise ValueError(f"{twice['ticker'][0]} has two bars for the minute {twice['ts'][0]}.")
        if placed.session != self.day:
            raise ValueError(f"Bars of session {placed.session} were pushed into session {self.day}.")
        if self._newest is not None and placed.minute <= self._newest:
            raise ValueError(
                f"Bars of {bars['ts'][0]} came after those of a later minute, or twice. Rebuild from all bars of today."
            )
        if self._oldest is not None:
            refuse_long(self.day, placed.minute - self._oldest + 1)
        return placed

    def _enrol(self, tickers: list[str]) -> None:
        """Give each ticker that trades for the first time in this session its place."""
        new = [ticker for ticker in tickers if ticker not in self._slots]
        if new:
            self._slots |= {ticker: len(self._slots) + n for n, ticker in enumerate(new)}
            self._part = np.append(self._part, [self._parts.get(ticker, -1) for ticker in new])
            self._window.enrol(len(new))

    def _take_minute(self, minute: int, placed: "_Placed | None") -> None:
        """Add a minute of every ticker; one without a bar keeps its close and has no volume."""
        window = self._window
        at = np.array([self._slots[ticker] for ticker in placed.tickers] if placed else [], dtype=np.int64)
        seen = np.zeros(window.tickers, dtype=np.bool_)
        seen[at] = True
        close = window.read_newest("close")
        if placed:
            close[at] = placed.columns["close"]
        minutes: dict[str, Array] = {"close": close}
        further = [(name, close if (fill := _FILLS[find_nature(name)]) is None else fill) for name in self._columns]
        for name, empty in (
            *(("open", close), ("high", close), ("low", close), ("v", 0), ("turnover", 0)),
            *further,
        ):
            minutes[name] = np.empty(window.tickers, dtype=_COLUMNS.get(name, np.float64))
            minutes[name][:] = empty
            if placed:
                minutes[name][at] = placed.columns[name]
        age = window.read_newest("age") + 1

        def fold(name: str, now: Array, step: Step) -> Array:
            return np.where(age == 0, now, step(window.read_newest(name), now))

        minutes |= compute_since_open(minutes, fold)
        minutes |= self._read_handed_on(minute)
        window.append(minutes | {"age": age, "seen": seen, "minute": np.full(window.tickers, minute)})

    def _read_handed_on(self, minute: int) -> dict[str, Array]:
        has_part = self._part >= 0
        part = self._part[has_part]
        handed_on = {name: values[part] for name, values in self._per_part.items()}
        handed_on["usual_volume_5"] = self._handed_on.compute_usual_volume(part, np.full(part.size, minute))
        columns = {name: np.full(has_part.size, np.nan) for name in handed_on}
        for name, values in handed_on.items():
            columns[name][has_part] = values
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """One minute's bars in the grid's numbers, as `grid.place_bars` has them."""

    session: date
    minute: int
    tickers: list[str]
    columns: dict[str, Array]

    @classmethod
    def from_bars(cls, bars: pl.DataFrame, further: tuple[str, ...]) -> "_Placed | None":
        """Return them; None where they are unclean, of several minutes, or two of one ticker."""
        columns: dict[str, Array] = {
            name: bars[name].to_numpy().astype(np.float64) for name in ("open", "high", "low", "close")
        }
        volume = bars["volume"].to_numpy().astype(np.float64)
        good = all(np.all(np.isfinite(prices) & (prices > 0)) for prices in columns.values())
        tickers = bars["ticker"].to_list()
        # By NumPy: polars hands each such question to threads of its own, for which the minute would wait.
        single = _is_one(bars["minute"]) and _is_one(bars["session"]) and len(set(tickers)) == len(tickers)
        if not (good and single and np.all(np.isfinite(volume) & (volume >= 0))):
            return None
        columns |= place_volume(volume, columns)
        columns |= {name: bars[name].to_numpy().astype(np.float64) for name in further}  # null is NaN
        return cls(session=bars["session"][0], minute=int(bars["minute"][0]), tickers=tickers, columns=columns)


def _is_one(values: pl.Series) -> bool:
    """Whether all values are the same, and there are any."""
    numbers = values.to_numpy()  # not `to_physical`, which polars plans as a query
    return numbers.size > 0 and bool((numbers == numbers[0]).all())


def _place_across(newest: pl.DataFrame, table: tuple[Feature, ...]) -> pl.DataFrame:
    """Put each feature that is one across tickers in the place of its value. newest: the rows of one minute."""
    places = [
        pl.Series(
            feature.name,
            compare_across(newest[feature.name].to_numpy().astype(np.float64), feature.across).astype(np.float32),
            nan_to_null=True,
        )
        for feature in table
        if feature.across
    ]
    return newest.with_columns(places)


def _drop_bounds(expr: pl.Expr) -> pl.Expr:
    """Let windows run across tickers: only the newest row of each is used, and it reads no further than its own."""
    return expr


# The types of the batch computation: in others the last bits would differ, and `prove` compares bits.
_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "minute": np.int32,
    "age": np.int32,
    "seen": np.bool_,
    **dict.fromkeys(("open", "high", "low", "close", "turnover"), np.float64),
    "v": np.int64,
    **dict.fromkeys(SINCE_OPEN, np.float64),
    "session_volume": np.int64,
    **dict.fromkeys(("previous_close", "previous_vol", "usual_minute_volume", "usual_volume_5"), np.float64),
}
# What a further column is in a minute without a trade, as `model.grid` has it; None: the last close.
_FILLS: Final = {Nature.PRICE: None, Nature.VOLUME: 0.0, Nature.COUNT: 0.0, Nature.NUMBER: np.nan}
# No bar has this age, as 0 is a bar of this minute; others begin with nan or 0.
_BEFORE_THE_FIRST_BAR: Final = {"age": -1}


class _MinuteWindow:
    """The newest `length` minutes of each ticker, one ticker after the other.

    A table per column has a row a ticker and room for several windows, so that most minutes are appended without
    moving the others. Before a ticker's first bar its age is -1, prices are NaN and volumes 0.
    """

    def __init__(self, length: int, columns: tuple[str, ...]) -> None:
        self.length = length
        self.tickers = 0
        self._end = length
        self._tables = {name: _build_table(name, 0, 4 * length) for name in (*_COLUMNS, *columns)}

    def copy(self) -> "_MinuteWindow":
        other = copy.copy(self)
        other._tables = {name: table.copy() for name, table in self._tables.items()}
        return other

    def enrol(self, tickers: int) -> None:
        self.tickers += tickers
        for name, table in self._tables.items():
            self._tables[name] = np.concatenate([table, _build_table(name, tickers, 4 * self.length)])

    def read_newest(self, name: str) -> Array:
        return self._tables[name][:, self._end - 1].copy()

    def append(self, minute: dict[str, Array]) -> None:
        full = self._end == 4 * self.length
        for name, table in self._tables.items():
            if full:
                table[:, : self.length] = table[:, -self.length :]
            table[:, self.length if full else self._end] = minute[name]
        self._end = self.length + 1 if full else self._end + 1

    def read_last(self, length: int) -> dict[str, Array]:
        """Return the newest `length` minutes, shape (n_tickers, length), the newest minute last. Not to be changed."""
        return {name: table[:, self._end - length : self._end] for name, table in self._tables.items()}

    def build_frame(self) -> pl.DataFrame:
        """Return `length` rows a ticker, the newest minute last."""
        newest = slice(self._end - self.length, self._end)
        return pl.DataFrame({name: table[:, newest].ravel() for name, table in self._tables.items()}, nan_to_null=True)


def _build_table(name: str, rows: int, columns: int) -> Array:
    kind = _COLUMNS.get(name, np.float64)
    empty = np.nan if kind is np.float64 else _BEFORE_THE_FIRST_BAR.get(name, 0)
    return np.full((rows, columns), empty, dtype=kind)
