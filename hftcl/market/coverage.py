"""How much of a window the bars of one ticker fill: the calendar decides what was to be expected. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.formats import format_moment
from hftcl.market.bars import Finding

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

# Chosen: thin shares lack single minutes all day long; ten in a row are a halt or a loss of data.
_GAP_MINUTES: Final = 10
# Chosen: a session of ten may lack extended trades by itself; more is another range of hours in the source.
_MOSTLY: Final = 0.9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # from which stamps count
_MINUTE_US: Final = 60_000_000  # stamps count microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a window one ticker has, regular hours only: sessions with a bar, minutes with a bar."""

    ticker: str
    sessions: int
    expected_sessions: int
    minutes: int
    expected_minutes: int
    missing: tuple[date, ...]
    gaps: tuple[Finding, ...]
    unextended: tuple[date, ...]

    @property
    def share(self) -> float:
        """Sessions with a bar / sessions expected; 0 where none was expected."""
        return self.sessions / self.expected_sessions if self.expected_sessions else 0.0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The holes: sessions without a bar, long gaps within one, extended hours that come and go."""
        holes = {"missing_session": self.missing, "partly_extended": self.unextended}
        findings = [
            Finding(
                self.ticker, reason, len(days), None, days[0], ", ".join(map(str, days[:3])) + ", ..." * (len(days) > 3)
            )
            for reason, days in holes.items()
            if days
        ]
        return (*findings, *self.gaps)


def measure_coverage(bars: pl.DataFrame, sessions: pl.DataFrame, *, ticker: str) -> Coverage:
    """Return what `bars` (BAR_SCHEMA) hold of `sessions` for `ticker`: the calendar decides what was to be expected."""
    days, opens, closes = (sessions[name].cast(pl.Int64).to_numpy() for name in ("session", "open", "close"))
    lengths = (closes - opens) // _MINUTE_US
    row, ts, minute, regular = _place(bars, days, ticker)
    # the closing cross comes in the minute of the close, also from feeds of regular hours only
    extended = np.bincount(row[~regular & (minute != lengths[row])], minlength=days.size) > 0
    received = np.bincount(row[regular], minlength=days.size)
    dates = sessions["session"].to_list()
    unextended = [dates[n] for n in np.flatnonzero((received > 0) & ~extended)]
    return Coverage(
        ticker=ticker,
        sessions=int((received > 0).sum()),
        expected_sessions=days.size,
        minutes=int(received.sum()),
        expected_minutes=int(lengths.sum()),
        missing=tuple(dates[n] for n in np.flatnonzero(received == 0)),
        gaps=_find_gaps(row[regular], ts[regular], minute[regular], lengths, dates, ticker),
        unextended=tuple(unextended) if 0 < extended.sum() < _MOSTLY * (received > 0).sum() else (),
    )


def _place(bars: pl.DataFrame, days: _Ints, ticker: str) -> tuple[_Ints, _Ints, _Ints, _Flags]:
    """Return the row in `days`, the stamp, the minute of each bar of `ticker` on them, and whether it is regular."""
    if bars.is_empty() or not days.size:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none, np.zeros(0, dtype=np.bool_)
    day = bars["session"].cast(pl.Int64).to_numpy()
    row = np.searchsorted(days, day).clip(max=days.size - 1)
    mine = (days[row] == day) & (bars["ticker"] == ticker).to_numpy()
    parts = (bars["ts"].cast(pl.Int64).to_numpy(), bars["minute"].to_numpy(), bars["regular"].to_numpy())
    row, ts, minute, regular = (part if mine.all() else part[mine] for part in (row, *parts))
    if (ts[1:] < ts[:-1]).any():
        order = np.argsort(ts, kind="stable")
        row, ts, minute, regular = row[order], ts[order], minute[order], regular[order]
    return row, ts, minute, regular


def _find_gaps(
    row: _Ints, ts: _Ints, minute: _Ints, lengths: _Ints, dates: Sequence[date], ticker: str
) -> tuple[Finding, ...]:
    """Long runs of absent minutes within a session, also at its start and its end; regular bars, sorted by ts."""
    begins = np.diff(row, prepend=-1) != 0
    ends = np.append(begins[1:], True)[: row.size]
    before = minute - np.where(begins, -1, np.append(-1, minute[:-1])[: row.size]) - 1
    after = np.where(ends, lengths[row] - 1 - minute, 0)
    gaps = [(ts[n] - before[n] * _MINUTE_US, before[n], row[n]) for n in np.flatnonzero(before >= _GAP_MINUTES)]
    gaps += [(ts[n] + _MINUTE_US, after[n], row[n]) for n in np.flatnonzero(after >= _GAP_MINUTES)]
    return tuple(
        Finding(
            ticker, "gap", int(n), at := _EPOCH + timedelta(microseconds=int(us)), dates[nth],
            f"{n} minutes from {format_moment(at)} UTC",
        )
        for us, n, nth in sorted(gaps)
    )  # fmt: skip
